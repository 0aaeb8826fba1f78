//! Assigns ids from this process's clock. Independent of locks: the hub calls it inside its own.

use super::{MAX_CLOCK_LEAD, MIN_ID, RecentIds};

/// Returns the number that all ids of a new run exceed, if the time of ids is `now_micros` and has been advanced to the
/// high-water mark. The ids of the run before may have been up to [`MAX_CLOCK_LEAD`] ahead of the clock.
pub fn start_id(now_micros: u64) -> u64 {
    now_micros + MAX_CLOCK_LEAD
}

/// The maximum number of runs that a run continues. Ids of older ones are not known, as after a crash.
pub(super) const MAX_EARLIER_RUNS: usize = 256;

/// The start and the newest id of a run. No event has an id between two runs, though the clock has shown such numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run(pub u64, pub u64);

/// The ids that a run has assigned, and those of the runs that it continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedIds {
    runs: Vec<Run>,
    recent: RecentIds,
}

impl AssignedIds {
    /// Returns the ids of these runs. `None` if there is no run, they don't ascend, or the remembered ids are not theirs.
    pub fn from_parts(runs: Vec<Run>, recent: RecentIds) -> Option<Self> {
        let newest = runs.last()?.1;
        let ascend = runs.iter().all(|run| run.0 <= run.1) && runs.is_sorted_by(|one, next| one.1 < next.0);
        let are_theirs = recent.ids().next_back().unwrap_or_else(|| recent.forgotten_through()) <= newest;
        (ascend && are_theirs && runs.len() <= MAX_EARLIER_RUNS + 1).then_some(Self { runs, recent })
    }

    /// Returns the runs, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the newest ids.
    pub fn recent(&self) -> &RecentIds {
        &self.recent
    }

    /// Returns the newest id.
    pub fn newest(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.1)
    }
}

/// Assigns ascending ids: the time of ids, or the next number if that time is not larger than the newest id.
#[derive(Debug)]
pub struct LocalSequencer {
    /// The runs before this one that it continues, oldest first.
    earlier: Vec<Run>,
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
        Self { earlier: Vec::new(), start, newest: start, recent }
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

    /// Returns whether the id may have been assigned in this run, or in one that it continues. Exact for the newest ids; for
    /// older ones it may err towards `true`.
    pub fn may_have_assigned(&self, id: u64) -> bool {
        let is_of_a_run =
            (self.start..=self.newest).contains(&id) || self.earlier.iter().any(|run| (run.0..=run.1).contains(&id));
        is_of_a_run && self.recent.may_have_had(id)
    }

    /// Returns whether a run before this one, and before those that it continues, may have assigned the id.
    pub fn may_be_from_an_earlier_run(&self, id: u64) -> bool {
        let first = self.earlier.first().map_or(self.start, |run| run.0);
        (MIN_ID..first).contains(&id)
    }

    /// Returns the ids assigned so far, for the next run.
    pub fn assigned(&self) -> AssignedIds {
        let mut runs = self.earlier.clone();
        runs.push(Run(self.start, self.newest));
        AssignedIds { runs, recent: self.recent.clone() }
    }

    /// Continues the runs before this one, so that their ids are known. To be called before the first id is assigned; does
    /// nothing if their ids are not smaller than all of this run.
    pub fn continue_from(&mut self, before: AssignedIds) {
        if before.newest() >= self.start {
            return;
        }
        let AssignedIds { mut runs, recent } = before;
        runs.drain(..runs.len().saturating_sub(MAX_EARLIER_RUNS));
        self.earlier = runs;
        self.recent = recent;
        self.recent.push(self.start);
    }
}
