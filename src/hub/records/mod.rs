//! Records: the feed of the newest version of every name. The store has already committed what is published here, so it is
//! never refused; the store reserves ids and checks for room beforehand.

use std::sync::Arc;

mod apply;
mod erasures;
pub(super) mod latest;
mod names;
pub(super) mod slice;

use super::order::TopicOrder;
use super::worker_set::WorkerSet;
use super::{AtCapacity, FeedId, Gap, Hub, Joined, JoinedFeeds, WorkerId};
use crate::ids::{RecentIds, parse_id};
use crate::sse::{self, Frame, erasure_frame};
pub use apply::RecordReset;
use erasures::Erasures;
use latest::Latest;
pub use names::NameSet;
use names::NameSets;
pub use slice::{RecordChange, RecordSlice};

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

    /// Returns where to start if records were erased with this id. From a position before it, no one could tell which.
    #[must_use]
    fn doubt_before(self, erased_through: u64) -> Self {
        match self {
            Self::After(id) | Self::AfterStored(id) if id < erased_through => self.doubt(),
            start => start,
        }
    }
}

/// What the hub keeps for records.
pub(super) struct Records {
    pub(super) latest: Latest,
    /// The ids of the versions published since versions were last removed, whether still the newest of their names or not; `None`
    /// if versions are removed all the time.
    recent: Option<RecentIds>,
    /// Subscribers of each worker.
    listeners: Box<[u32]>,
    /// Whether there ever was a subscriber.
    had_listeners: bool,
    /// How often all records were replaced. A position that was found before is in doubt.
    replacements: u64,
    /// The last erasures. Positions before the last one are in doubt; it is a known position itself.
    erasures: Erasures,
    pub(super) subscribers: usize,
    pub(super) names: NameSets,
}

impl Records {
    pub(super) fn new(workers: usize, latest_bytes: usize) -> Self {
        let (latest, recent) = (Latest::default(), Some(RecentIds::default()));
        let names = NameSets::new(workers, latest_bytes);
        let listeners = vec![0; workers].into();
        let (erasures, replacements, subscribers) = (Erasures::default(), 0, 0);
        Self { latest, recent, listeners, had_listeners: false, replacements, erasures, subscribers, names }
    }

    /// Returns whether there certainly is a version with this id.
    fn exists(&self, id: u64) -> bool {
        self.latest.contains(id) || self.recent.as_ref().is_some_and(|recent| recent.contains(id))
    }

    /// Returns the workers that have a subscriber.
    fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.listeners.iter().enumerate().filter(|(_, count)| **count > 0).map(|(worker, _)| worker)
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
            self.add_record(records, &frame, &listening);
        }
        drop(state);
        self.wake_all(&listening, None);
    }

    /// Publishes that the newest record of a name was erased, with an id in one order with the records, and wakes the workers.
    /// Positions before this id are in doubt from now on. An id that is not larger than all before only does that.
    pub fn publish_erasure(&self, name: &str, id: u64) {
        let frame = erasure_frame(&Arc::from(name), id);
        let mut state = self.lock();
        let records = &mut state.records;
        if id <= records.latest.newest() {
            return records.erasures.forget_through(id);
        }
        records.erasures.push(Arc::clone(&frame));
        let listening: WorkerSet = records.workers().collect();
        let erased = records.latest.erase(name, id);
        let superseded = erased.as_ref().map_or(0, |record| record.id);
        self.deliver(&listening, FeedId::Records, &frame, superseded);
        drop(state);
        self.wake_all(&listening, None);
        drop(erased);
    }

    /// Notes the id of the last erasure before the start. Positions before it are in doubt.
    pub fn set_erased_through(&self, id: u64) {
        self.lock().records.erasures.forget_through(id);
    }

    /// Notes that versions were removed that are not the newest of their names: as positions they no longer exist.
    pub fn versions_were_removed(&self) {
        self.lock().records.recent.iter_mut().for_each(|recent| *recent = RecentIds::default());
    }

    /// Notes that versions are removed at any time from now on, because the store retains only some.
    pub fn versions_are_limited(&self) {
        self.lock().records.recent = None;
    }

    /// Returns the id of the newest version of a name; `None` if there is none.
    pub fn newest_version(&self, name: &str) -> Option<u64> {
        self.lock().records.latest.of(name).map(|record| record.id)
    }

    /// Delivers a record that is newer than all others to these workers, and makes it the newest of its name.
    fn add_record(&self, records: &mut Records, frame: &Arc<Frame>, listening: &WorkerSet) {
        let Some(record) = frame.record() else { return };
        let superseded = records.latest.push(Arc::clone(record)).map_or(0, |record| record.id);
        self.deliver(listening, FeedId::Records, frame, superseded);
        records.recent.iter_mut().for_each(|recent| recent.push(frame.id()));
    }

    /// Parses a resume position among records. A version that is not in memory may be in the store, or in the log: there even
    /// one that is newer than all in memory. Nothing blocks here, so the caller asks before the join. If the version is
    /// removed in between, nothing is missed: the newest version of each name stays, and an erasure puts the position in doubt.
    pub fn find_record(&self, text: &str) -> RecordStart {
        let state = self.lock();
        let (records, has_log) = (&state.records, matches!(state.order, TopicOrder::Log(_)));
        match parse_id(sse::position(text)) {
            Some(0) => RecordStart::After(0),
            Some(id) if id < records.erasures.through() => RecordStart::Unknown,
            Some(id) if id == records.erasures.through() => RecordStart::After(id),
            Some(id) if records.exists(id) => RecordStart::After(id),
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
        let start = start.doubt_before(state.records.erasures.through());
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
        records.listeners[worker] += 1;
        records.had_listeners = true;
        let erased_through = records.erasures.through();
        let feeds = JoinedFeeds::Records { names, resets: self.record_resets(), erased_through };
        Ok(Joined { cursor, newest: records.latest.newest(), gap, feeds })
    }

    /// Removes a subscriber of `worker` to the records with these names.
    pub fn leave_records(&self, worker: WorkerId, names: &NameSet) {
        let mut state = self.lock();
        state.remove_subscriber();
        debug_assert!(state.records.subscribers > 0, "only subscribers that joined leave");
        state.records.subscribers -= 1;
        state.records.listeners[worker] -= 1;
        state.records.names.leave(worker, names);
    }
}
