//! Records: the feed of the newest version of every name. The store has already committed what is published here, so it is
//! never refused; the store reserves ids and checks for room beforehand.

use std::sync::Arc;

mod apply;
mod latest;
mod names;

use super::order::TopicOrder;
use super::worker_set::WorkerSet;
use super::{AtCapacity, FeedId, Gap, Hub, Joined, JoinedFeeds, WorkerId};
use crate::ids::{RecentIds, parse_id};
use crate::sse::{self, Frame};
pub use apply::CurrentRecords;
pub use latest::Latest;
pub use names::NameSet;
use names::NameSets;

/// Where a subscriber to records starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordStart {
    /// With the newest version of every name.
    Newest,
    /// After a version that exists, with the names that have a newer one.
    After(u64),
    /// After a version that may exist; only the store or the log knows.
    AfterStored(u64),
    /// With a gap, then the newest version of every name.
    Unknown,
}

impl RecordStart {
    /// Resolves [`RecordStart::AfterStored`] with the reply of the store or the log.
    #[must_use]
    pub fn resolve(self, exists: bool) -> Self {
        match self {
            Self::AfterStored(id) if exists => Self::After(id),
            Self::AfterStored(_) => Self::Unknown,
            start => start,
        }
    }

    /// Returns where to start if the position may be of a record that is lost.
    #[must_use]
    fn doubt(self) -> Self {
        match self {
            Self::Newest | Self::After(0) => self,
            Self::After(_) | Self::AfterStored(_) | Self::Unknown => Self::Unknown,
        }
    }
}

/// What the hub keeps for records.
pub(super) struct Records {
    pub(super) latest: Latest,
    /// The ids of the versions published last, whether still the newest of their names or not.
    recent: RecentIds,
    /// Which workers have a replica. A worker keeps its replica when the last subscriber leaves, because copying a million
    /// names for the next one would take long.
    replicas: Box<[bool]>,
    /// How often all records were replaced. A position that was found before is in doubt.
    replacements: u64,
    pub(super) subscribers: usize,
    pub(super) names: NameSets,
}

impl Records {
    pub(super) fn new(workers: usize, latest_bytes: usize) -> Self {
        let (latest, recent, names) = (Latest::default(), RecentIds::default(), NameSets::new(workers, latest_bytes));
        Self { latest, recent, replicas: vec![false; workers].into(), replacements: 0, subscribers: 0, names }
    }

    /// Returns the workers that have a replica.
    fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.replicas.iter().enumerate().filter(|(_, has_one)| **has_one).map(|(worker, _)| worker)
    }
}

impl Hub {
    /// Reserves `count` consecutive ids for records that are about to be committed, and returns the first. `None` while ids
    /// would run too far ahead of the clock or a worker has too much in flight. Room for one record counts as room for all:
    /// otherwise a large commit would wait until nothing is in flight, which under load never happens.
    pub fn reserve(&self, count: usize, now_micros: u64) -> Option<u64> {
        let mut state = self.lock();
        let has_room = state.records.workers().all(|worker| self.outboxes[worker].has_room(1, 0));
        if has_room { state.ids.reserve(count, now_micros) } else { None }
    }

    /// Returns whether the newest records take less memory than [`HubLimits::latest_bytes`](super::HubLimits::latest_bytes).
    /// Records that are being written do not count; the store's queue bounds them.
    pub fn has_room_for_records(&self) -> bool {
        self.lock().records.latest.bytes() < self.limits.latest_bytes
    }

    /// Publishes records that were committed, in order, and wakes the workers.
    pub fn publish_records(&self, frames: Vec<Arc<Frame>>) {
        let mut state = self.lock();
        let records = &mut state.records;
        let listening: WorkerSet = records.workers().collect();
        for frame in frames {
            self.add_record(records, frame, &listening);
        }
        drop(state);
        self.wake_all(&listening, None);
    }

    /// Delivers a record that is newer than all others to these workers, and makes it the newest of its name.
    fn add_record(&self, records: &mut Records, frame: Arc<Frame>, listening: &WorkerSet) {
        self.deliver(listening, FeedId::Records, &frame);
        records.recent.push(frame.id());
        records.latest.push(frame);
    }

    /// Parses a resume position among records. A version that is not in memory may be in the store, or in the log: there even
    /// one that is newer than all in memory. Nothing blocks here, so the caller asks before the join. A version that exists
    /// then still exists at the join, because versions stay.
    pub fn find_record(&self, text: &str) -> RecordStart {
        let state = self.lock();
        let (records, has_log) = (&state.records, matches!(state.order, TopicOrder::Log(_)));
        match parse_id(sse::position(text)) {
            Some(0) => RecordStart::After(0),
            Some(id) if records.latest.contains(id) || records.recent.contains(id) => RecordStart::After(id),
            Some(id) if has_log || id < records.latest.newest() => RecordStart::AfterStored(id),
            _ => RecordStart::Unknown,
        }
    }

    /// Returns how often all records were replaced. To be called before a position is looked up.
    pub fn record_replacements(&self) -> u64 {
        self.lock().records.replacements
    }

    /// Admits a subscriber of `worker` to the records with these names, or to all if there are none. `start` was found when all
    /// records had been replaced this often: if they were replaced since, the position may be of a record that is lost.
    pub fn join_records(
        &self,
        worker: WorkerId,
        names: NameSet,
        start: RecordStart,
        replacements: u64,
    ) -> Result<Joined, AtCapacity> {
        let mut state = self.lock();
        let start = if state.records.replacements == replacements { start } else { start.doubt() };
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
        let feeds = JoinedFeeds::Records { names, backlog, resets: self.record_resets() };
        Ok(Joined { cursor, newest: records.latest.newest(), gap, feeds })
    }

    /// Removes a subscriber of `worker` to the records with these names.
    pub fn leave_records(&self, worker: WorkerId, names: &NameSet) {
        let mut state = self.lock();
        state.remove_subscriber();
        debug_assert!(state.records.subscribers > 0, "only subscribers that joined leave");
        state.records.subscribers -= 1;
        state.records.names.leave(worker, names);
    }
}
