//! Measures how long events take from their id to the sockets of ready subscribers. Reading the clock for every write would
//! cost as much as the broker's part of the write. It is read after a batch of writes and counted for all of them.

use crate::metrics::Buckets;
use crate::stream::replica::{Replica, Source};
use crate::stream::write_batch::{Merge, WriteBatch};

/// The writes that are counted with one reading of the clock, that of the last of them. The measured time of the first is
/// too long by what the others took.
const MAX_WRITES: usize = 32;
/// A reading is used again for at most this many later writes, whose measured time is too short by what they took: small groups
/// need no reading each.
const MAX_AGE: usize = MAX_WRITES;

/// A clock, in microseconds as ids are, and its last reading in this loop iteration.
pub struct Stopwatch<'a> {
    micros: &'a dyn Fn() -> u64,
    last: Option<u64>,
    /// Writes since the last reading.
    age: usize,
}

impl<'a> Stopwatch<'a> {
    /// Creates a stopwatch that has not read the clock yet.
    pub fn new(micros: &'a dyn Fn() -> u64) -> Self {
        Self { micros, last: None, age: 0 }
    }

    /// Returns the time after this many more writes.
    fn time_after(&mut self, writes: usize) -> u64 {
        self.age += writes;
        match self.last {
            Some(time) if self.age < MAX_AGE => time,
            _ => {
                self.age = 0;
                *self.last.insert((self.micros)())
            }
        }
    }
}

/// Writes of the same batch that are not measured yet.
#[derive(Default)]
pub struct UntimedWrites {
    count: usize,
}

impl UntimedWrites {
    /// Adds a write. Returns whether it is time to measure.
    #[inline]
    pub fn add(&mut self) -> bool {
        self.count += 1;
        self.count == MAX_WRITES
    }

    /// Measures every frame of the batch for each of the writes. An id ahead of the clock counts as no time.
    pub fn measure(
        &mut self,
        batch: &WriteBatch<'_>,
        (replica, source): (&Replica, &Source),
        watch: &mut Stopwatch<'_>,
        latency: &mut Buckets,
    ) {
        let writes = std::mem::take(&mut self.count);
        if writes == 0 {
            return;
        }
        let time = watch.time_after(writes);
        let mut add = |id: u64| latency.add(time.saturating_sub(id), writes as u64);
        match batch.frames() {
            1 => add(replica.id(source, batch.to())),
            frames => Merge::new(replica, source, batch.from()).take(frames).for_each(|frame| add(frame.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_clock_is_read_once_for_many_writes() {
        let reads = Cell::new(0);
        let micros = || {
            reads.set(reads.get() + 1);
            reads.get() * 100
        };
        let mut watch = Stopwatch::new(&micros);
        let times: Vec<_> = (0..2 * MAX_AGE + 2).map(|_| watch.time_after(1)).collect();
        assert_eq!((times[0], times[MAX_AGE - 1], times[MAX_AGE], reads.get()), (100, 100, 200, 3));
        assert_eq!(watch.time_after(MAX_WRITES), 400, "after many writes the clock is read again");
    }
}
