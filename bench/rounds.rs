//! What the benches on in-memory sockets, `crowd` and `topics`, have in common: the socket alone, and what is said of many
//! rounds.

use std::io::{IoSlice, Write};
use std::time::{Duration, Instant};

use crate::descriptor::Socket;

/// A typical event, for measurements of the socket alone.
pub const EVENT: &[u8] = b"2a\r\ndata: hello, world\nid: 1763000000000000\n\n\r\n";

/// Returns a measurement of the socket alone: writes the same slices to `count` sockets in a row.
pub fn floor(count: usize, slices: &[IoSlice<'_>]) -> impl FnMut() -> Duration {
    let mut sockets: Vec<_> = (0..count).map(|_| Socket::new()).collect();
    move || {
        let start = Instant::now();
        for socket in &mut sockets {
            assert!(socket.write_vectored(slices).is_ok());
        }
        start.elapsed()
    }
}

/// Returns the smallest figure and the median.
pub fn best_and_median(figures: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2])
}
