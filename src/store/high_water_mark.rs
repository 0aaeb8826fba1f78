//! The mark that outlives a crash: a ceiling in the database that no id given so far exceeds. It is raised some seconds ahead,
//! so that it is seldom written, and only when ids were given. Ids are microseconds: see `clock`.
//! Refuses to know where it is written.

/// It is raised when the newest id comes so near. Longer than the time between two looks.
const NEAR: u64 = 3_000_000;
/// It is raised so far beyond the newest id, unless a clean close says exactly which that is.
const AHEAD: u64 = 10_000_000;

/// See the module's page.
#[derive(Debug)]
pub(super) struct HighWaterMark {
    /// What is in the database.
    ceiling: u64,
    /// All ids given by this run are larger.
    before: u64,
}

impl HighWaterMark {
    /// As it was found, beside the newest id that the records tell of.
    pub fn new(ceiling: u64, newest_record: u64) -> Self {
        Self { ceiling, before: ceiling.max(newest_record) }
    }

    /// Every id given from now on must be larger.
    pub fn ids_through(&self) -> u64 {
        self.before
    }

    /// What to write now, if anything, so that this id is covered for a while.
    pub fn due(&self, newest: u64) -> Option<u64> {
        let near = newest.saturating_add(NEAR) > self.ceiling;
        (newest > self.before && near).then(|| newest.saturating_add(AHEAD))
    }

    /// Up to this id nothing need be written.
    pub fn covers(&self) -> u64 {
        self.ceiling.saturating_sub(NEAR).max(self.before)
    }

    /// What is worth writing, if something must be written to see whether that works: SQLite leaves out what is there already.
    pub fn other(&self, newest: u64) -> u64 {
        self.due(newest).unwrap_or(self.ceiling + 1)
    }

    /// What to write at a clean close, if anything.
    pub fn exact(&self, newest: u64) -> Option<u64> {
        let exact = newest.max(self.before);
        (exact != self.ceiling).then_some(exact)
    }

    /// That was written.
    pub fn raised(&mut self, ceiling: u64) {
        self.ceiling = ceiling;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_is_nothing_written() {
        let mark = HighWaterMark::new(100, 70);
        assert_eq!((mark.ids_through(), mark.due(0), mark.due(100), mark.exact(0)), (100, None, None, None));
        assert_eq!(HighWaterMark::new(100, 170).exact(170), Some(170));
    }

    #[test]
    fn it_is_raised_ahead_and_lowered_at_the_end() {
        let mut mark = HighWaterMark::new(0, 0);
        let mut writes = 0;
        for newest in (1..60_000_000).step_by(1_000_000) {
            if let Some(ceiling) = mark.due(newest) {
                mark.raised(ceiling);
                writes += 1;
            }
            assert!(mark.ceiling >= newest + NEAR, "covered until the next look");
        }
        assert!((6..10).contains(&writes), "{writes}");
        assert_eq!(mark.exact(59_000_001), Some(59_000_001));
    }
}
