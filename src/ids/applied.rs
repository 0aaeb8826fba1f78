//! The ids that a log has assigned, as far as this broker has applied the log's entries. Independent of topics and of how the
//! log is read.

use std::fmt;

use super::{MIN_ID, RecentIds};

/// The ids of a log that were applied. They ascend, but need not be consecutive.
#[derive(Debug, Default)]
pub struct AppliedIds {
    /// Smaller ids are from before the log, or the log has lost them.
    begin: u64,
    /// The log has lost the events up to this id.
    lost_through: u64,
    newest: u64,
    recent: RecentIds,
}

/// An id that is not larger than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// The id.
    pub id: u64,
    /// The newest id before it.
    pub newest: u64,
}

impl fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, newest } = self;
        write!(f, "the event {id} follows {newest}, but ids must ascend")
    }
}

impl std::error::Error for OutOfOrder {}

impl AppliedIds {
    /// Notes that the log has nothing before this id.
    pub fn begin(&mut self, oldest: u64) {
        self.begin = self.begin.max(oldest);
    }

    /// Returns the newest id.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns the id through which the log has lost events; 0 if it has lost none.
    pub fn lost_through(&self) -> u64 {
        self.lost_through
    }

    /// Adds an id.
    pub fn push(&mut self, id: u64) -> Result<(), OutOfOrder> {
        if id <= self.newest {
            return Err(OutOfOrder { id, newest: self.newest });
        }
        self.newest = id;
        self.recent.push(id);
        Ok(())
    }

    /// Notes that the log has lost everything up to `id`, which thereby becomes the newest id, unless a larger one was applied:
    /// then that one is lost as well. Returns the id through which events are lost.
    pub fn lose_through(&mut self, id: u64) -> u64 {
        let through = id.max(self.newest);
        // Other brokers may have seen events before it that this one has not. So all smaller ids are in doubt.
        *self = Self { begin: through, lost_through: through, newest: through, recent: RecentIds::default() };
        // Streams continue from it.
        self.recent.push(through);
        through
    }

    /// Returns whether the id may have been applied since the log's beginning or its last loss. Exact for the newest ids; for
    /// older ones it may err towards `true`.
    pub fn may_contain(&self, id: u64) -> bool {
        (self.begin..=self.newest).contains(&id) && self.recent.may_have_had(id)
    }

    /// Returns whether the id may be from before the log, or of an event that it has lost.
    pub fn may_be_from_before(&self, id: u64) -> bool {
        (MIN_ID..self.begin).contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDEST: u64 = MIN_ID + 100;

    #[test]
    fn ids_ascend_or_are_refused() {
        let mut ids = AppliedIds::default();
        ids.begin(OLDEST);
        assert_eq!((ids.push(OLDEST), ids.push(OLDEST + 5)), (Ok(()), Ok(())));
        for id in [0, OLDEST, OLDEST + 5] {
            assert_eq!(ids.push(id), Err(OutOfOrder { id, newest: OLDEST + 5 }));
        }
        let known = [OLDEST - 1, OLDEST, OLDEST + 4, OLDEST + 5, OLDEST + 6].map(|id| ids.may_contain(id));
        assert_eq!(known, [false, true, false, true, false]);
        let before = [57, MIN_ID - 1, MIN_ID, OLDEST - 1, OLDEST].map(|id| ids.may_be_from_before(id));
        assert_eq!(before, [false, false, true, true, false]);
    }

    #[test]
    fn all_ids_before_a_loss_are_in_doubt() {
        let mut ids = AppliedIds::default();
        ids.begin(OLDEST);
        (1..=5).for_each(|step| ids.push(OLDEST + step).unwrap());
        let lost = OLDEST + 50;
        assert_eq!((ids.lose_through(lost), ids.newest(), ids.lost_through()), (lost, lost, lost));
        assert!(ids.may_contain(lost) && !ids.may_be_from_before(lost), "streams continue from it");
        assert!((OLDEST..lost).all(|id| ids.may_be_from_before(id) && !ids.may_contain(id)));
        ids.push(lost + 1).unwrap();
        assert_eq!(ids.lose_through(lost), lost + 1, "what follows it is lost as well");
    }
}
