//! The least that durability costs: appends to a growing file, each followed by fdatasync.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::Histogram;

/// The results.
pub struct Appends {
    pub count: usize,
    pub elapsed: Duration,
    /// The time of each append.
    pub latency: Histogram,
}

impl Appends {
    /// Returns appends per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Appends batches of these sizes to a new file, for this long, or until there are no more.
pub fn append(file: &Path, sizes: impl Iterator<Item = usize>, duration: Duration) -> io::Result<Appends> {
    let mut file = File::create(file)?;
    let (begin, mut count, mut latency) = (Instant::now(), 0, Histogram::default());
    for size in sizes {
        let batch = vec![b'x'; size];
        let appending = Instant::now();
        file.write_all(&batch)?;
        file.sync_data()?;
        latency.add(appending.elapsed().as_nanos() as u64);
        count += 1;
        if begin.elapsed() >= duration {
            break;
        }
    }
    Ok(Appends { count, elapsed: begin.elapsed(), latency })
}
