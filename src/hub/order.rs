//! Who orders the events of topics: this process, or a log that several brokers share. Records are always ordered by this
//! process.

use super::{Slot, State};
use crate::ids::AppliedIds;

/// The order of the events of topics.
#[derive(Debug)]
pub(super) enum TopicOrder {
    /// This process assigns their ids, from the same sequence as those of records.
    Local,
    /// A log has assigned their ids.
    Log(AppliedIds),
}

impl TopicOrder {
    /// Returns the id through which the log has lost events; 0 if it has lost none, or there is no log.
    pub fn lost_through(&self) -> u64 {
        match self {
            Self::Local => 0,
            Self::Log(ids) => ids.lost_through(),
        }
    }
}

impl State {
    /// Returns the newest id of topics.
    pub(super) fn newest(&self) -> u64 {
        match &self.order {
            TopicOrder::Local => self.ids.newest(),
            TopicOrder::Log(ids) => ids.newest(),
        }
    }

    /// Returns whether the id may belong to an event. Exact for the newest ids; for older ones it may err towards `true`.
    pub(super) fn may_have_assigned(&self, id: u64) -> bool {
        match &self.order {
            TopicOrder::Local => self.ids.may_have_assigned(id),
            TopicOrder::Log(ids) => ids.may_contain(id),
        }
    }

    /// Returns whether the id may belong to an event of an earlier run, or of the time before the log's beginning or its last
    /// loss.
    pub(super) fn may_be_from_an_earlier_run(&self, id: u64) -> bool {
        match &self.order {
            TopicOrder::Local => self.ids.may_be_from_an_earlier_run(id),
            TopicOrder::Log(ids) => ids.may_be_from_before(id),
        }
    }

    /// Returns the id through which a topic retains no event.
    pub(super) fn evicted_through(&self, slot: Slot) -> u64 {
        self.feeds.get(slot).window.evicted_through().max(self.order.lost_through())
    }

    /// Returns the id of the oldest event that a topic retains. While lost events are being evicted, no other is retained,
    /// because the log is not followed in the meantime.
    pub(super) fn oldest(&self, slot: Slot) -> Option<u64> {
        self.feeds.get(slot).window.oldest().filter(|&id| id > self.order.lost_through())
    }
}
