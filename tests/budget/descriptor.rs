//! One worker's streams on sockets as small as a descriptor, for `tests/budget.rs`, `bench/crowd.rs` and `bench/topics.rs`,
//! which measure memory and time. Writes are counted and discarded.

use std::io::{self, IoSlice, Write};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use esker::internals::hub::{Hub, HubLimits, WakeFn, inbox};
use esker::internals::stream::Streams;

pub static WRITES: AtomicUsize = AtomicUsize::new(0);
pub static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Accepts every write. Its size is that of a descriptor.
#[derive(Debug)]
pub struct Socket(#[allow(dead_code)] NonZeroU32);

impl Socket {
    pub fn new() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl esker::internals::net::Socket for Socket {
    fn set_patient(&self, _: bool) {}
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    // Not inlined: a real write is a call as well.
    #[inline(never)]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        add(&WRITES, 1);
        add(&BYTES, bytes);
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds to a counter. Only one thread counts, and an atomic addition would take longer than the rest of a delivery.
fn add(counter: &AtomicUsize, more: usize) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// Returns a hub with one worker, and that worker's streams.
pub fn one_worker() -> (Arc<Hub>, Streams<Socket>) {
    one_worker_woken_by(Box::new(|| {}))
}

/// Returns a hub with one worker that this wakes, and that worker's streams.
pub fn one_worker_woken_by(wake: WakeFn) -> (Arc<Hub>, Streams<Socket>) {
    let limits = HubLimits {
        events_per_topic: 256,
        age_micros: 600_000_000,
        bytes: 256 << 20,
        topics: 1_000_000,
        subscribers: 10_000_000,
        latest_bytes: usize::MAX,
    };
    let (outbox, inbox) = inbox(wake);
    let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
    let streams = Streams::new(Arc::clone(&hub), 0, inbox);
    (hub, streams)
}
