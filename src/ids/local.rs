//! Assigns ids from this process's clock. Independent of locks: the hub calls it inside its own.

use super::{MAX_CLOCK_LEAD, MIN_ID, RecentIds};

/// Returns the number that all ids of a new run exceed, if the time of ids is `now_micros` and has been advanced to the
/// high-water mark. The ids of the run before may have been up to [`MAX_CLOCK_LEAD`] ahead of the clock.
pub fn start_id(now_micros: u64) -> u64 {
    now_micros + MAX_CLOCK_LEAD
}

/// Assigns ascending ids: the time of ids, or the next number if that time is not larger than the newest id.
#[derive(Debug)]
pub struct LocalSequencer {
    /// All ids of this run are larger.
    start: u64,
    newest: u64,
    recent: RecentIds,
}

impl LocalSequencer {
    /// Creates a sequencer whose ids are all larger than `start`.
    pub fn new(start: u64) -> Self {
        let mut recent = RecentIds::default();
        // A client that connects before the first event may receive the start id as its resume position.
        recent.push(start);
        Self { start, newest: start, recent }
    }

    /// Returns the newest id, or the start if none was assigned.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns whether `count` more ids stay within [`MAX_CLOCK_LEAD`] of the time of ids.
    pub fn has_room(&self, count: usize, now_micros: u64) -> bool {
        self.newest + count as u64 <= now_micros + MAX_CLOCK_LEAD
    }

    /// Assigns the next id. The caller has checked [`LocalSequencer::has_room`].
    pub fn assign(&mut self, now_micros: u64) -> u64 {
        let id = now_micros.max(self.newest + 1);
        debug_assert!(id > self.newest, "ids ascend");
        self.newest = id;
        self.recent.push(id);
        id
    }

    /// Assigns `count` consecutive ids and returns the first. `None` if they would run too far ahead of the time of ids.
    pub fn reserve(&mut self, count: usize, now_micros: u64) -> Option<u64> {
        if !self.has_room(count, now_micros) {
            return None;
        }
        debug_assert!(count > 0, "reserving no id has no first id");
        let first = now_micros.max(self.newest + 1);
        self.newest = first + count as u64 - 1;
        (first..=self.newest).for_each(|id| self.recent.push(id));
        Some(first)
    }

    /// Returns whether the id may have been assigned in this run. Exact for the newest ids; for older ones it may err
    /// towards `true`.
    pub fn may_have_assigned(&self, id: u64) -> bool {
        (self.start..=self.newest).contains(&id) && self.recent.may_have_had(id)
    }

    /// Returns whether a run before this one may have assigned the id.
    pub fn may_be_from_an_earlier_run(&self, id: u64) -> bool {
        (MIN_ID..self.start).contains(&id)
    }
}
