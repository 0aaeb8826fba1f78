//! The hub: the one place where order is made. Under one short lock it gives an event its id, puts
//! its frame into the topic's feed and into the inbox of every worker that has a listener.
//! Knows no socket, reads no clock and makes no syscall inside the lock.
//!
//! ```text
//! publish ──► lock: room? id, stamp, feed, inboxes ──► unlock ──► ring the workers
//! join    ──► lock: listener counted, position found, retained frames copied ──► unlock
//! ```
//! Registering interest and copying what is retained is one critical section, so a subscriber
//! neither misses nor doubles an event between its past and its present.

mod evicted;
mod feeds;
mod inbox;
mod latest;
mod names;
mod position;
mod records;
mod retain;
#[cfg(test)]
mod tests;
mod tombstones;
mod topic;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use feeds::{Feed, Feeds, Slot};
pub use inbox::{Delivery, Inbox, MAX_IN_FLIGHT_BYTES, MAX_IN_FLIGHT_EVENTS, Outbox, WakeFn, inbox};
pub use latest::Latest;
pub use names::NameSet;
pub use position::Position;
pub use records::RecordStart;
pub use topic::{FeedId, ParseTopicError, TopicId, TopicName};
pub use window::{Run, Window};

use crate::engine::{LocalSequencer, MAX_CLOCK_LEAD};
use crate::sse::{Frame, MAX_EVENTS, UnsequencedFrame};
use evicted::{EvictedIds, EvictedNumbers};
use records::Records;
use tombstones::Tombstones;

const _: () =
    assert!((MAX_EVENTS as u64) < MAX_CLOCK_LEAD, "every publish that is allowed can be accepted at some time");

/// Index of a worker.
pub type WorkerId = usize;

/// What the hub retains and admits at most.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Retained events per topic.
    pub events_per_topic: usize,
    /// Age in microseconds after which an event is no longer retained.
    pub age_micros: u64,
    /// Bytes retained in all topics together, overhead included.
    pub bytes: usize,
    /// Topics that retain an event or have a listener.
    pub topics: usize,
    /// Subscribers in all workers together.
    pub subscribers: usize,
    /// Bytes of the newest record of every name, overhead included.
    pub latest_bytes: usize,
}

/// A publish that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The id of the last event; of a mere repetition, the id it got the first time.
    pub id: u64,
    /// How many of the events were new.
    pub events: usize,
    /// Subscribers of the topic at that moment.
    pub subscribers: usize,
}

impl Published {
    /// Whether none of the events was new.
    pub fn is_duplicate(&self) -> bool {
        self.events == 0
    }
}

/// Why a publish is not taken now. Nothing of it is.
#[derive(Debug)]
pub enum Refused {
    /// A worker is in debt, or ids would run too far ahead: there will be room soon. The drafts for another try.
    Backpressure(Vec<UnsequencedFrame>),
    /// There are as many topics as there may be.
    TooManyTopics,
}

/// Whether a publish would be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// At this moment it would.
    Now,
    /// A worker is in debt, or ids would run too far ahead: there will be room soon.
    Later,
    /// There are as many topics as there may be.
    TooManyTopics,
}

/// Why a subscriber is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtCapacity {
    /// There are as many subscribers as there may be.
    Subscribers,
    /// There are as many topics as there may be.
    Topics,
    /// The names that streams of records are limited to take as much memory as they may.
    Names,
}

/// Events between a position and the oldest retained one are gone, or the position is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The oldest id still retained in these topics.
    pub oldest: Option<u64>,
}

/// What a subscriber begins with.
#[derive(Debug)]
pub struct Joined {
    /// Everything after this id is owed to the subscriber.
    pub cursor: u64,
    /// The newest id of the whole broker at that moment.
    pub newest: u64,
    /// To be told before anything else.
    pub gap: Option<Gap>,
    /// What it listens to.
    pub feeds: JoinedFeeds,
}

/// What a subscriber listens to.
#[derive(Debug)]
pub enum JoinedFeeds {
    /// Topics, in ascending order, without doubles.
    Topics(Vec<JoinedTopic>),
    /// The newest records.
    Records {
        /// Those of these names; all if there are none.
        names: Arc<[Arc<str>]>,
        /// What the worker's replica starts from, if it had none before: ascending by id.
        backlog: Option<Vec<Arc<Frame>>>,
    },
}

/// One topic of a join.
#[derive(Debug)]
pub struct JoinedTopic {
    /// Its key.
    pub id: TopicId,
    /// Frames up to this id are gone; the subscriber knows, by the gap or by its asking for what there is.
    pub evicted_through: u64,
    /// The retained ones, oldest first: what the worker's replica starts from, if the worker had no
    /// listener before.
    pub backlog: Option<Vec<Arc<Frame>>>,
}

/// Numbers for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Topics that retain an event or have a listener.
    pub topics: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// Events accepted since the start.
    pub published: u64,
    /// Events not accepted again because their id was retained.
    pub duplicates: u64,
    /// Retained events.
    pub history_events: usize,
    /// What they cost in memory.
    pub history_bytes: usize,
    /// Names that records have.
    pub record_names: usize,
    /// What the newest record of each costs in memory.
    pub record_bytes: usize,
    /// Subscribers to records.
    pub record_subscribers: usize,
    /// What the names that they are limited to take in memory.
    pub subscribed_name_bytes: usize,
}

/// What the hub notes of a topic, beside its feed.
struct Topic {
    name: TopicName,
    serial: u64,
    listeners: Box<[u32]>,
    publisher_ids: HashMap<Arc<str>, u64>,
    /// The numbers among the publishers' ids that the topic no longer retains.
    evicted_numbers: EvictedNumbers,
}

impl Topic {
    fn subscribers(&self) -> usize {
        self.listeners.iter().map(|&count| count as usize).sum()
    }
}

struct State {
    ids: LocalSequencer,
    serials: u64,
    names: HashMap<TopicName, Slot>,
    feeds: Feeds<Topic>,
    records: Records,
    /// Publishers' ids that were evicted.
    evicted_ids: EvictedIds,
    /// What topics without event and listener have lost.
    tombstones: Tombstones,
    subscribers: usize,
    published: u64,
    duplicates: u64,
}

/// See the module's page.
pub struct Hub {
    limits: HubLimits,
    outboxes: Vec<Outbox>,
    state: Mutex<State>,
    floor: AtomicU64,
}

impl Hub {
    /// A hub whose ids are larger than `first_id`.
    pub fn new(limits: HubLimits, outboxes: Vec<Outbox>, first_id: u64) -> Self {
        let state = State {
            ids: LocalSequencer::new(first_id),
            serials: 0,
            names: HashMap::new(),
            feeds: Feeds::new(limits.events_per_topic),
            records: Records::new(outboxes.len(), limits.latest_bytes),
            evicted_ids: EvictedIds::default(),
            tombstones: Tombstones::default(),
            subscribers: 0,
            published: 0,
            duplicates: 0,
        };
        Self { limits, outboxes, state: Mutex::new(state), floor: AtomicU64::new(0) }
    }

    /// No frame with an id up to this is retained anywhere: what age and the total of bytes have evicted.
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// What it retains and admits at most.
    pub fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.outboxes.len()
    }

    /// Wakes a worker.
    pub fn ring(&self, worker: WorkerId) {
        self.outboxes[worker].ring();
    }

    /// Returns whether this many events, of this many bytes, could be accepted now. A publish that takes long to encode asks
    /// first; its drafts are judged again when they are ready.
    pub fn room_for(&self, name: &TopicName, events: usize, bytes: usize, now_micros: u64) -> Room {
        let state = self.lock();
        if !state.ids.has_room(events, now_micros) {
            return Room::Later;
        }
        match state.names.get(name) {
            None if state.feeds.count() >= self.limits.topics => Room::TooManyTopics,
            None => Room::Now,
            Some(&slot) => {
                let listeners = state.feeds.get(slot).note.listeners.iter().zip(&self.outboxes);
                let mut heard = listeners.filter(|&(&count, _)| count > 0);
                if heard.all(|(_, outbox)| outbox.has_room(events, bytes)) { Room::Now } else { Room::Later }
            }
        }
    }

    /// Accepts all drafts, in order, or none. `from` is the calling worker, which needs no waking.
    pub fn publish(
        &self,
        name: &TopicName,
        drafts: Vec<UnsequencedFrame>,
        now_micros: u64,
        from: Option<WorkerId>,
    ) -> Result<Published, Refused> {
        let cost = drafts.iter().map(UnsequencedFrame::cost).sum();
        let mut state = self.lock();
        if !state.ids.has_room(drafts.len(), now_micros) {
            return Err(Refused::Backpressure(drafts));
        }
        let Some(slot) = self.slot_of(&mut state, name) else {
            return Err(Refused::TooManyTopics);
        };
        let mut heard = WorkerSet::default();
        for (worker, &count) in state.feeds.get(slot).note.listeners.iter().enumerate() {
            if count > 0 {
                if !self.outboxes[worker].has_room(drafts.len(), cost) {
                    state.bury_if_idle(slot);
                    return Err(Refused::Backpressure(drafts));
                }
                heard.insert(worker);
            }
        }
        let published = self.append_all(&mut state, slot, drafts, now_micros, &heard);
        drop(state);
        for worker in heard.iter().filter(|&worker| Some(worker) != from) {
            self.outboxes[worker].ring();
        }
        Ok(published)
    }

    fn append_all(
        &self,
        state: &mut State,
        slot: Slot,
        drafts: Vec<UnsequencedFrame>,
        now: u64,
        heard: &WorkerSet,
    ) -> Published {
        let topic = TopicId { serial: state.feeds.get(slot).note.serial, slot };
        let mut published = Published { id: 0, events: 0, subscribers: state.feeds.get(slot).note.subscribers() };
        let mut repeated = None;
        for draft in drafts {
            if let Some(first) = draft.publisher_id().and_then(|own| state.feeds.get(slot).note.publisher_ids.get(own))
            {
                repeated = Some(*first);
                state.duplicates += 1;
                continue;
            }
            let frame = draft.stamp(state.ids.assign(now));
            published.id = frame.id();
            published.events += 1;
            for worker in heard.iter() {
                self.outboxes[worker].send(Delivery { feed: FeedId::Topic(topic), frame: Arc::clone(&frame) });
            }
            self.retain(state, slot, frame);
        }
        if let (0, Some(first)) = (published.events, repeated) {
            published.id = first;
        }
        state.published += published.events as u64;
        state.bury_if_idle(slot);
        published
    }

    /// Admits a subscriber of `worker` to the topics, resuming after `position`.
    pub fn join(&self, worker: WorkerId, names: &[TopicName], position: Position<'_>) -> Result<Joined, AtCapacity> {
        let mut state = self.lock();
        if state.subscribers >= self.limits.subscribers {
            return Err(AtCapacity::Subscribers);
        }
        let mut slots = Vec::with_capacity(names.len());
        for name in names {
            match self.slot_of(&mut state, name) {
                Some(slot) => slots.push(slot),
                None => {
                    slots.iter().for_each(|&slot| state.bury_if_idle(slot));
                    return Err(AtCapacity::Topics);
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        state.subscribers += 1;
        let (cursor, gap) = position::resolve(&state, &slots, position);
        let newest = state.ids.newest();
        let mut topics: Vec<_> = slots.iter().map(|&slot| state.listen(slot, worker)).collect();
        topics.sort_unstable_by_key(|topic| topic.id);
        Ok(Joined { cursor, newest, gap, feeds: JoinedFeeds::Topics(topics) })
    }

    /// A subscriber of `worker` to these topics has left.
    pub fn leave(&self, worker: WorkerId, topics: &[TopicId]) {
        let mut state = self.lock();
        state.subscribers -= 1;
        for topic in topics {
            state.feeds.note_mut(topic.slot).listeners[worker] -= 1;
            state.bury_if_idle(topic.slot);
        }
    }

    /// What was admitted does not begin after all.
    pub fn abandon(&self, worker: WorkerId, joined: &Joined) {
        match &joined.feeds {
            JoinedFeeds::Topics(topics) => {
                let ids: Vec<_> = topics.iter().map(|topic| topic.id).collect();
                self.leave(worker, &ids);
            }
            JoinedFeeds::Records { names, .. } => self.leave_records(worker, names),
        }
    }

    /// What each worker was sent and has not yet served: frames and bytes.
    pub fn debts(&self) -> impl Iterator<Item = (usize, usize)> {
        self.outboxes.iter().map(Outbox::debt)
    }

    /// The numbers of this moment.
    pub fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts {
            topics: state.feeds.count(),
            subscribers: state.subscribers,
            published: state.published,
            duplicates: state.duplicates,
            history_events: state.feeds.events(),
            history_bytes: state.feeds.bytes(),
            record_names: state.records.latest.len(),
            record_bytes: state.records.latest.bytes(),
            record_subscribers: state.records.subscribers,
            subscribed_name_bytes: state.records.names.bytes(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's slot; a new topic gets one unless there are too many.
    fn slot_of(&self, state: &mut State, name: &TopicName) -> Option<Slot> {
        if let Some(&slot) = state.names.get(name) {
            return Some(slot);
        }
        if state.feeds.count() >= self.limits.topics {
            return None;
        }
        state.serials += 1;
        let lost = state.tombstones.take(name);
        let topic = Topic {
            name: *name,
            serial: state.serials,
            listeners: vec![0; self.outboxes.len()].into(),
            publisher_ids: HashMap::new(),
            evicted_numbers: lost.numbers,
        };
        let slot = state.feeds.open(lost.through, topic);
        state.names.insert(*name, slot);
        Some(slot)
    }
}

impl State {
    fn listen(&mut self, slot: Slot, worker: WorkerId) -> JoinedTopic {
        let topic = self.feeds.note_mut(slot);
        topic.listeners[worker] += 1;
        let is_first = topic.listeners[worker] == 1;
        let id = TopicId { serial: topic.serial, slot };
        let window = &self.feeds.get(slot).window;
        let backlog = is_first.then(|| window.frames().cloned().collect());
        JoinedTopic { id, evicted_through: window.evicted_through(), backlog }
    }
}

/// The workers that hear of a publish: a set without an allocation for up to 64 of them.
#[derive(Default)]
struct WorkerSet {
    first: u64,
    rest: Vec<WorkerId>,
}

impl WorkerSet {
    fn insert(&mut self, worker: WorkerId) {
        match worker {
            0..64 => self.first |= 1 << worker,
            _ => self.rest.push(worker),
        }
    }

    fn iter(&self) -> impl Iterator<Item = WorkerId> {
        let mut left = self.first;
        let first = std::iter::from_fn(move || {
            let lowest = left.trailing_zeros();
            // Clears the lowest bit; none is left of zero.
            left &= left.checked_sub(1)?;
            Some(lowest as WorkerId)
        });
        first.chain(self.rest.iter().copied())
    }
}
