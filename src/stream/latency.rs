//! How long events take from their id to the sockets of those who are caught up. A clock looked at for every write would
//! cost as much as our part of the write: it is looked at after a batch of writes, and counted for all of them.

use crate::metrics::Buckets;
use crate::stream::replica::{Replica, Source};
use crate::stream::write_batch::{Merge, WriteBatch};

/// After so many writes a batch is over: the time of the last of them is that of all, so that the first one's comes out too
/// long by what the others took.
pub(crate) const MAX_BATCH: usize = 32;
/// A moment that so many writes have followed is no longer the present. Audiences of one or two need no moment each.
const MAX_AGE: usize = 8;

/// A clock, in microseconds as ids are, and what it said last in this turn.
pub(crate) struct Stopwatch<'a> {
    micros: &'a dyn Fn() -> u64,
    last: Option<u64>,
    /// Writes since then.
    age: usize,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn new(micros: &'a dyn Fn() -> u64) -> Self {
        Self { micros, last: None, age: 0 }
    }

    /// The moment after so many more writes.
    fn after(&mut self, writes: usize) -> u64 {
        self.age += writes;
        match self.last {
            Some(moment) if self.age < MAX_AGE => moment,
            _ => {
                self.age = 0;
                *self.last.insert((self.micros)())
            }
        }
    }
}

/// Writes of one and the same gathering.
#[derive(Default)]
pub(crate) struct Batch {
    writes: usize,
}

impl Batch {
    /// One more. True: it is time to note them.
    pub(crate) fn add(&mut self) -> bool {
        self.writes += 1;
        self.writes == MAX_BATCH
    }

    /// Counts every frame of the gathering for each of the writes; an id ahead of the clock took no time.
    pub(crate) fn note(
        &mut self,
        gathering: &WriteBatch<'_>,
        (replica, source): (&Replica, &Source),
        watch: &mut Stopwatch<'_>,
        latency: &mut Buckets,
    ) {
        let writes = std::mem::take(&mut self.writes);
        if writes == 0 {
            return;
        }
        let moment = watch.after(writes);
        let mut took = |id: u64| latency.add(moment.saturating_sub(id), writes as u64);
        match gathering.frames() {
            1 => took(gathering.to),
            frames => Merge::new(replica, source, gathering.from).take(frames).for_each(|frame| took(frame.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_clock_is_looked_at_once_for_many_writes() {
        let looks = Cell::new(0);
        let micros = || {
            looks.set(looks.get() + 1);
            looks.get() * 100
        };
        let mut watch = Stopwatch::new(&micros);
        let moments: Vec<_> = (0..20).map(|_| watch.after(1)).collect();
        assert_eq!((moments[0], moments[7], moments[8], moments[19], looks.get()), (100, 100, 200, 300, 3));
        assert_eq!(watch.after(MAX_BATCH), 400, "what took long is told with the moment after it");
    }
}
