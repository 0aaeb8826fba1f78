//! Records in the hub: the feed of the newest version of every name. The store has committed what
//! comes in here, so it is never refused; it asks beforehand for ids and for room. Part of the hub's
//! critical section.

use std::sync::Arc;

use super::names::{NameSet, NameSets};
use super::{AtCapacity, Delivery, FeedId, Gap, Hub, Joined, JoinedFeeds, Latest, WorkerId, WorkerSet};
use crate::engine::{RecentIds, parse_id};
use crate::sse::{self, Frame};

/// Where a subscriber to records begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordStart {
    /// With the newest version of every name.
    Newest,
    /// After a version that exists, with the names that have a newer one.
    After(u64),
    /// The same for a version of which only the store can tell whether it exists.
    AfterStored(u64),
    /// With a gap, and the newest version of every name.
    Unknown,
}

impl RecordStart {
    /// Puts the store's answer in.
    #[must_use]
    pub fn settle(self, exists: bool) -> Self {
        match self {
            Self::AfterStored(id) if exists => Self::After(id),
            Self::AfterStored(_) => Self::Unknown,
            start => start,
        }
    }
}

/// What the hub notes of records.
pub(super) struct Records {
    pub(super) latest: Latest,
    /// The versions published last, superseded or not.
    recent: RecentIds,
    /// The workers that have a replica. A worker with a replica keeps it, because of a million names
    /// copying it again for the next subscriber would take long.
    replicas: Box<[bool]>,
    pub(super) subscribers: usize,
    pub(super) names: NameSets,
}

impl Records {
    pub(super) fn new(workers: usize, latest_bytes: usize) -> Self {
        let (latest, recent, names) = (Latest::default(), RecentIds::default(), NameSets::new(workers, latest_bytes));
        Self { latest, recent, replicas: vec![false; workers].into(), subscribers: 0, names }
    }

    /// The workers that have a replica.
    fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.replicas.iter().enumerate().filter(|(_, has_one)| **has_one).map(|(worker, _)| worker)
    }
}

impl Hub {
    /// So many ids in a row for records that are about to be committed: the first one. None while ids
    /// would run too far ahead of the clock, or a worker is in debt up to the bound. Room for one record is room for
    /// all of them: a large commit would wait for a moment in which nobody owes anything, and under load there is none.
    pub fn reserve(&self, count: usize, now_micros: u64) -> Option<u64> {
        let mut state = self.lock();
        let has_room = state.records.workers().all(|worker| self.outboxes[worker].has_room(1, 0));
        if has_room { state.ids.reserve(count, now_micros) } else { None }
    }

    /// Whether the newest records still take less memory than they may. What is on its way to the disk is not
    /// counted: it is bounded by the store's queue.
    pub fn has_room_for_records(&self) -> bool {
        self.lock().records.latest.bytes() < self.limits.latest_bytes
    }

    /// The largest id given so far.
    pub fn newest(&self) -> u64 {
        self.lock().ids.newest()
    }

    /// Takes what was stored before the start, ascending by id and one of each name.
    pub fn restore_records(&self, frames: Vec<Arc<Frame>>) {
        self.lock().records.latest = Latest::restore(frames);
    }

    /// Takes what was committed, in order, and tells the workers.
    pub fn publish_records(&self, frames: Vec<Arc<Frame>>) {
        let mut state = self.lock();
        let records = &mut state.records;
        for frame in frames {
            for worker in records.workers() {
                self.outboxes[worker].send(Delivery { feed: FeedId::Records, frame: Arc::clone(&frame) });
            }
            records.recent.push(frame.id());
            records.latest.push(frame);
        }
        let mut heard = WorkerSet::default();
        records.workers().for_each(|worker| heard.insert(worker));
        drop(state);
        heard.iter().for_each(|worker| self.outboxes[worker].ring());
    }

    /// Finds out where a position among records is. A version that memory does not have may be in the store: nothing
    /// blocks here, so the caller asks it before the join. What exists then still does at the join, for versions stay.
    pub fn find_record(&self, text: &str) -> RecordStart {
        let records = &self.lock().records;
        match parse_id(sse::position(text)) {
            Some(0) => RecordStart::After(0),
            Some(id) if records.latest.has(id) || records.recent.contains(id) => RecordStart::After(id),
            Some(id) if id < records.latest.newest() => RecordStart::AfterStored(id),
            _ => RecordStart::Unknown,
        }
    }

    /// Admits a subscriber of `worker` to the records with these names, or to all if there are none.
    pub fn join_records(&self, worker: WorkerId, names: NameSet, start: RecordStart) -> Result<Joined, AtCapacity> {
        let mut state = self.lock();
        if state.subscribers >= self.limits.subscribers {
            return Err(AtCapacity::Subscribers);
        }
        let names = state.records.names.join(worker, names).ok_or(AtCapacity::Names)?;
        state.subscribers += 1;
        let records = &mut state.records;
        records.subscribers += 1;
        let (cursor, gap) = match start {
            RecordStart::Newest => (0, None),
            RecordStart::After(id) => (id, None),
            RecordStart::AfterStored(_) | RecordStart::Unknown => (0, Some(Gap { oldest: records.latest.oldest() })),
        };
        let has_replica = std::mem::replace(&mut records.replicas[worker], true);
        let backlog = (!has_replica).then(|| records.latest.frames().cloned().collect());
        Ok(Joined { cursor, newest: records.latest.newest(), gap, feeds: JoinedFeeds::Records { names, backlog } })
    }

    /// A subscriber of `worker` to the records with these names has left.
    pub fn leave_records(&self, worker: WorkerId, names: &NameSet) {
        let mut state = self.lock();
        state.subscribers -= 1;
        state.records.subscribers -= 1;
        state.records.names.leave(worker, names);
    }
}
