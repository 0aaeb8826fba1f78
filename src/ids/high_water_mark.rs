//! The high-water mark: a number in the database that no assigned id exceeds. It survives a crash, and the next start assigns
//! only larger ids. It is raised several seconds ahead of the newest id, so that it is seldom written, and only if ids were
//! assigned. Independent of where it is written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The mark is raised when the newest id is within this many microseconds of it. Longer than the pause between two checks.
pub(super) const MARGIN: u64 = 3_000_000;
/// The mark is raised this many microseconds beyond the newest id. A clean close lowers it to the newest id.
const LEAD: u64 = 10_000_000;

/// What the database says about ids, and when that must change.
#[derive(Debug)]
pub struct HighWaterMark {
    /// The mark in the database.
    ceiling: u64,
    /// The largest id that an earlier run may have assigned.
    earlier_runs_through: u64,
}

impl HighWaterMark {
    /// Creates the state from the mark in the database and the id of the newest record there.
    pub fn new(ceiling: u64, newest_record: u64) -> Self {
        Self { ceiling, earlier_runs_through: ceiling.max(newest_record) }
    }

    /// Returns the largest id that an earlier run may have assigned. Every id of this run must be larger.
    pub fn ids_through(&self) -> u64 {
        self.earlier_runs_through
    }

    /// Returns what [`HighWaterMark::ids_through`] will be at the next start, if nothing more is written.
    pub fn found_at_start(&self) -> u64 {
        self.ceiling.max(self.earlier_runs_through)
    }

    /// Returns the mark to write now so that the newest id is covered for a while; `None` if it already is.
    pub fn raise_due(&self, newest: u64) -> Option<u64> {
        let is_near = newest.saturating_add(MARGIN) > self.ceiling;
        (newest > self.earlier_runs_through && is_near).then(|| newest.saturating_add(LEAD))
    }

    /// Returns the largest newest id for which the mark need not be raised.
    pub fn covered_through(&self) -> u64 {
        self.ceiling.saturating_sub(MARGIN).max(self.earlier_runs_through)
    }

    /// Returns a mark to write in order to find out whether writing works. It differs from the one in the database, because
    /// SQLite skips a write that changes nothing.
    pub fn probe_value(&self, newest: u64) -> u64 {
        self.raise_due(newest).unwrap_or(self.ceiling + 1)
    }

    /// Returns the mark to write at a clean close: exactly the newest id. `None` if it is already in the database.
    pub fn final_value(&self, newest: u64) -> Option<u64> {
        let exact = newest.max(self.earlier_runs_through);
        (exact != self.ceiling).then_some(exact)
    }

    /// Records that this mark is now in the database.
    pub fn set(&mut self, ceiling: u64) {
        self.ceiling = ceiling;
    }
}

/// The ids that the mark covers, shared between the threads that assign ids and the one that raises the mark.
#[derive(Debug, Default)]
pub struct CoveredIds {
    through: AtomicU64,
    /// Whether a raise was requested since the mark was last checked.
    is_raise_requested: AtomicBool,
}

impl CoveredIds {
    /// Publishes the result of [`HighWaterMark::covered_through`].
    pub fn set(&self, through: u64) {
        self.through.store(through, Ordering::Relaxed);
        self.is_raise_requested.store(false, Ordering::Relaxed);
    }

    /// Returns whether the mark covers this id.
    pub fn contains(&self, id: u64) -> bool {
        id <= self.through.load(Ordering::Relaxed)
    }

    /// Returns whether this is the first request to raise the mark since it was last checked.
    pub fn request_raise(&self) -> bool {
        !self.is_raise_requested.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_new_ids_nothing_is_written() {
        let mark = HighWaterMark::new(100, 70);
        assert_eq!(
            (mark.ids_through(), mark.raise_due(0), mark.raise_due(100), mark.final_value(0)),
            (100, None, None, None)
        );
        assert_eq!(HighWaterMark::new(100, 170).final_value(170), Some(170));
        assert_eq!(HighWaterMark::new(100, 170).found_at_start(), 170);
    }

    #[test]
    fn is_raised_ahead_and_lowered_at_the_close() {
        let mut mark = HighWaterMark::new(0, 0);
        let mut writes = 0;
        for newest in (1..60_000_000).step_by(1_000_000) {
            if let Some(ceiling) = mark.raise_due(newest) {
                mark.set(ceiling);
                writes += 1;
            }
            assert!(mark.ceiling >= newest + MARGIN, "covered until the next check");
        }
        assert!((6..10).contains(&writes), "{writes}");
        assert_eq!((mark.final_value(59_000_001), mark.found_at_start()), (Some(59_000_001), mark.ceiling));
        mark.set(59_000_001);
        assert_eq!(mark.found_at_start(), HighWaterMark::new(59_000_001, 59_000_000).ids_through());
    }

    #[test]
    fn a_raise_is_requested_once_per_check() {
        let covered = CoveredIds::default();
        covered.set(10);
        assert!(covered.contains(10) && !covered.contains(11));
        assert!(covered.request_raise() && !covered.request_raise());
        covered.set(20);
        assert!(covered.contains(11) && covered.request_raise());
    }
}
