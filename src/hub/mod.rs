//! The hub: accepts events, assigns each its id in the broker's order, and delivers it to every worker with a listener.
//! One lock protects everything, because a subscriber to several topics must see all their events in one order. The lock is
//! held only briefly, and no syscall is made inside it. Independent of sockets and of the current time, which is passed in.
//!
//! ```text
//! publish ──► lock: admit, assign ids, deliver to inboxes, retain ──► unlock ──► wake the workers
//! join    ──► lock: count the listener, resolve its position, copy what is retained ──► unlock
//! ```
//! Counting a listener and copying what is retained is one critical section. An event is therefore either in the copy or
//! delivered to the worker's inbox afterwards: a subscriber neither misses nor repeats one.
//!
//! ```text
//! publish      admission of events, their ids, delivery
//! publisher_ids
//!              finds retained events by their publishers' ids
//! apply        events whose ids a log has assigned
//! order        which of the two it is
//! records/     the same for records, which the store has committed
//!   apply      records whose ids a log has assigned
//!   latest     the newest record of every name
//!   names      the record names that streams are limited to
//!   slice      reads the newest records a slice at a time
//! join         subscribers join topics and leave them
//! position     from a client's resume position to a cursor
//! retain       the bounds of history; closes topics that are not in use
//! status       what each topic has: subscribers, retained events, publishes
//! topic        names and keys of topics
//! topic_index  finds topics by name
//! window       the retained frames of one topic
//! feeds        the windows of all topics, with what they cost
//! lock         the lock, which counts how often threads wait for it
//! inbox        the channel from the hub to one worker
//! local        subscribers inside this process
//! worker_set   a set of workers
//! evicted      which publisher ids are no longer retained
//! tombstones   what was evicted from topics that no longer exist
//! snapshot/    all this as bytes, from which a later run continues
//! ```

mod apply;
mod evicted;
mod feeds;
mod inbox;
mod join;
mod local;
mod lock;
mod order;
mod position;
mod publish;
mod publisher_ids;
mod records;
mod retain;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod tombstones;
mod topic;
mod topic_index;
mod window;
mod worker_set;

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

pub use apply::LoggedFrame;
pub use feeds::{Feed, Feeds, Slot};
pub use inbox::{Delivery, Inbox, MAX_IN_FLIGHT_BYTES, Outbox, WakeFn, inbox};
pub use join::{AtCapacity, Gap, Joined, JoinedFeeds, JoinedTopic};
pub use local::{JoinLocalError, LocalSubscriber, LocalSubscription, Taken, TopicFrame};
pub use lock::LockWaits;
pub use position::Position;
pub use publish::{Published, Refused, Room};
pub use records::{RecordChange, RecordReset, RecordSlice, RecordStart};
pub use snapshot::{Snapshot, SnapshotCounts, SnapshotError};
pub use status::{TopicPage, TopicStatus};
pub use topic::{FeedId, ParseTopicError, TopicId, TopicName};
pub use window::{Run, Window};
pub use worker_set::WorkerId;

use crate::ids::{AppliedIds, LocalSequencer};
use evicted::{EvictedIds, EvictedNumbers};
use local::LocalSubscribers;
use lock::Lock;
use order::TopicOrder;
use publisher_ids::PublisherIds;
use records::Records;
use tombstones::{Evicted, Tombstones};
use topic_index::TopicIndex;

/// The bounds of what the hub retains and admits.
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
    /// Subscribers of all workers together.
    pub subscribers: usize,
    /// Bytes of the newest record of every name, overhead included.
    pub latest_bytes: usize,
}

/// The hub's counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Topics that retain an event or have a listener.
    pub topics: usize,
    /// Subscribers, to topics and to records.
    pub subscribers: usize,
    /// Events accepted since the start.
    pub published: u64,
    /// Events not accepted again because their publisher id was retained.
    pub duplicates: u64,
    /// Retained events.
    pub history_events: usize,
    /// Bytes of memory that they take.
    pub history_bytes: usize,
    /// Names that records have.
    pub record_names: usize,
    /// Bytes of memory that the newest record of each name takes.
    pub record_bytes: usize,
    /// Subscribers to records.
    pub record_subscribers: usize,
    /// Bytes of memory that the names they are limited to take.
    pub subscribed_name_bytes: usize,
}

/// What the hub keeps for each topic, in addition to its retained frames.
struct Topic {
    name: TopicName,
    /// Distinguishes this topic from all others that used its slot.
    serial: u64,
    /// Subscribers of each worker.
    listeners: Box<[u32]>,
    /// The publisher ids of retained events, with the events' ids.
    publisher_ids: PublisherIds,
    /// The range of the numbers among the publisher ids that are no longer retained.
    evicted_numbers: EvictedNumbers,
    /// Bytes of memory that the retained frames take.
    bytes: usize,
    /// Events accepted since the topic was opened.
    published: u64,
}

impl Topic {
    fn subscribers(&self) -> usize {
        self.listeners.iter().map(|&count| count as usize).sum()
    }
}

/// Everything behind the lock.
struct State {
    /// Assigns the ids of records, and those of events unless a log does.
    ids: LocalSequencer,
    order: TopicOrder,
    /// The number of topics opened since the start.
    serials: u64,
    index: TopicIndex,
    feeds: Feeds<Topic>,
    records: Records,
    /// Publisher ids that are no longer retained, of all topics.
    evicted_ids: EvictedIds,
    /// What was evicted from topics that no longer exist.
    tombstones: Tombstones,
    subscribers: usize,
    /// Subscribers inside this process.
    local: LocalSubscribers,
    counters: Counters,
}

/// Totals since the start.
#[derive(Default)]
struct Counters {
    published: u64,
    duplicates: u64,
}

/// The order of events, the retained history, and who listens. Shared by all threads.
pub struct Hub {
    limits: HubLimits,
    outboxes: Vec<Outbox>,
    state: Lock<State>,
    /// The number of events evicted because of the bytes of all topics.
    evicted_for_bytes: AtomicU64,
    /// The largest id evicted because of age or of the bytes of all topics.
    evicted_through: AtomicU64,
    /// The id through which the log has lost events.
    lost_through: AtomicU64,
    /// How often all records were replaced since the first subscriber to them.
    record_resets: AtomicU64,
}

impl Hub {
    /// Creates a hub with one outbox per worker. All its ids are larger than `start_id`: see [`crate::ids`].
    pub fn new(limits: HubLimits, outboxes: Vec<Outbox>, start_id: u64) -> Self {
        Self::with_order(limits, outboxes, start_id, TopicOrder::Local)
    }

    /// Creates a hub whose events come from a log: see [`Hub::apply`]. The ids of records are larger than `start_id`.
    pub fn following(limits: HubLimits, outboxes: Vec<Outbox>, start_id: u64) -> Self {
        Self::with_order(limits, outboxes, start_id, TopicOrder::Log(AppliedIds::default()))
    }

    fn with_order(limits: HubLimits, outboxes: Vec<Outbox>, start_id: u64, order: TopicOrder) -> Self {
        let state = State {
            ids: LocalSequencer::new(start_id),
            order,
            serials: 0,
            index: TopicIndex::default(),
            feeds: Feeds::new(limits.events_per_topic),
            records: Records::new(outboxes.len(), limits.latest_bytes),
            evicted_ids: EvictedIds::default(),
            tombstones: Tombstones::default(),
            subscribers: 0,
            local: LocalSubscribers::default(),
            counters: Counters::default(),
        };
        Self {
            limits,
            outboxes,
            state: Lock::new(state),
            evicted_for_bytes: AtomicU64::new(0),
            evicted_through: AtomicU64::new(0),
            lost_through: AtomicU64::new(0),
            record_resets: AtomicU64::new(0),
        }
    }

    /// Returns an id up to which no topic retains a frame, because of age or of the bytes of all topics.
    pub fn evicted_through(&self) -> u64 {
        self.evicted_through.load(Ordering::Acquire)
    }

    /// Returns how many events were evicted because of the bytes of all topics, and not because of their age or number.
    pub fn evicted_for_bytes(&self) -> u64 {
        self.evicted_for_bytes.load(Ordering::Relaxed)
    }

    /// Returns the bounds it was created with.
    pub fn limits(&self) -> &HubLimits {
        &self.limits
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.outboxes.len()
    }

    /// Wakes a worker.
    pub fn wake(&self, worker: WorkerId) {
        self.outboxes[worker].wake();
    }

    /// Returns the largest id that this process has assigned so far, to an event or a record.
    pub fn newest(&self) -> u64 {
        self.lock().ids.newest()
    }

    /// Returns what each worker was sent and has not yet acknowledged: events and bytes.
    pub fn in_flight(&self) -> impl Iterator<Item = (usize, usize)> {
        self.outboxes.iter().map(Outbox::in_flight)
    }

    /// Returns how often each worker was woken.
    pub fn wakes(&self) -> impl Iterator<Item = u64> {
        self.outboxes.iter().map(Outbox::wakes)
    }

    /// Returns how often threads had to wait for the lock, and for how long.
    pub fn lock_waits(&self) -> LockWaits {
        self.state.waits()
    }

    /// Returns the present counters and gauges.
    pub fn counts(&self) -> HubCounts {
        let state = self.lock();
        HubCounts {
            topics: state.feeds.count(),
            subscribers: state.subscribers,
            published: state.counters.published,
            duplicates: state.counters.duplicates,
            history_events: state.feeds.events(),
            history_bytes: state.feeds.bytes(),
            record_names: state.records.latest.len(),
            record_bytes: state.records.latest.bytes(),
            record_subscribers: state.records.subscribers,
            subscribed_name_bytes: state.records.names.bytes(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.take()
    }

    /// Returns the topic's slot, and opens the topic if necessary. `None` if there are too many topics.
    fn find_or_open(&self, state: &mut State, name: &TopicName) -> Option<Slot> {
        match state.slot(name) {
            Some(slot) => Some(slot),
            None if state.feeds.count() >= self.limits.topics => None,
            None => Some(state.open(name, self.outboxes.len())),
        }
    }
}

impl State {
    /// Opens a topic that does not exist.
    fn open(&mut self, name: &TopicName, workers: usize) -> Slot {
        let evicted = self.tombstones.take(name);
        self.open_after(name, evicted, workers)
    }

    /// Opens a topic that does not exist and has no tombstone, and from which this was evicted.
    fn open_after(&mut self, name: &TopicName, evicted: Evicted, workers: usize) -> Slot {
        self.serials += 1;
        let topic = Topic {
            name: *name,
            serial: self.serials,
            listeners: vec![0; workers].into(),
            publisher_ids: PublisherIds::default(),
            evicted_numbers: evicted.numbers,
            bytes: 0,
            published: 0,
        };
        debug_assert!(self.slot(name).is_none(), "a topic is open once");
        let slot = self.feeds.open(evicted.through, topic);
        self.index.insert(name, slot);
        slot
    }

    fn topic_id(&self, slot: Slot) -> TopicId {
        TopicId { serial: self.feeds.get(slot).meta.serial, slot }
    }
}
