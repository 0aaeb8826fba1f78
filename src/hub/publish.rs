//! Publishing: admits the events of one request, assigns their ids, and appends them to their topic.
//!
//! ```text
//! admit ──► for each event: assign its id ──► append: deliver to inboxes, retain
//! ```
//! Appending takes a frame that already has its id and does not depend on who assigned it. With a log, events are published
//! there, and [`Hub::apply`] appends them.

use std::sync::Arc;

use super::order::TopicOrder;
use super::worker_set::WorkerSet;
use super::{Delivery, FeedId, Hub, Slot, State, TopicId, TopicName, WorkerId, local};
use crate::ids::MAX_CLOCK_LEAD;
use crate::sse::{Frame, MAX_EVENTS, UnsequencedFrame};

const _: () = assert!((MAX_EVENTS as u64) < MAX_CLOCK_LEAD, "even the largest publish can be admitted at some time");

/// A publish that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The id of the last new event. If none was new, the id that the last one was assigned the first time.
    pub id: u64,
    /// How many of the events were new.
    pub events: usize,
    /// Subscribers of the topic at that moment, including those inside this process.
    pub subscribers: usize,
}

impl Published {
    /// Returns whether none of the events was new.
    pub fn is_duplicate(&self) -> bool {
        self.events == 0
    }
}

/// Why a publish is refused. None of its events is accepted.
#[derive(Debug)]
pub enum Refused {
    /// A worker has too much in flight, or ids would run too far ahead of the clock. Contains the frames for a later try.
    Backpressure(Vec<UnsequencedFrame>),
    /// The topic is new, and [`HubLimits::topics`](super::HubLimits::topics) is reached.
    TooManyTopics,
}

/// Whether a publish would be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It would be accepted now.
    Now,
    /// A worker has too much in flight, or ids would run too far ahead of the clock.
    Later,
    /// The topic is new, and [`HubLimits::topics`](super::HubLimits::topics) is reached.
    TooManyTopics,
}

/// The verdict on a publish.
enum Admission {
    /// The topic's slot, if it is open, and the workers that have a listener.
    Granted(Option<Slot>, WorkerSet),
    Backpressure,
    TooManyTopics,
}

impl Hub {
    /// Returns whether a publish with this many events and bytes would be accepted now. To be called before encoding a large
    /// body; [`Hub::publish`] checks again.
    pub fn room_for(&self, name: &TopicName, events: usize, bytes: usize, now_micros: u64) -> Room {
        match self.admit(&self.lock(), name, events, bytes, now_micros) {
            Admission::Granted(..) => Room::Now,
            Admission::Backpressure => Room::Later,
            Admission::TooManyTopics => Room::TooManyTopics,
        }
    }

    /// Publishes all frames, in order, or none. Not to be called with a log. `from` is the calling worker, which need not be woken.
    pub fn publish(
        &self,
        name: &TopicName,
        frames: Vec<UnsequencedFrame>,
        now_micros: u64,
        from: Option<WorkerId>,
    ) -> Result<Published, Refused> {
        let bytes = frames.iter().map(UnsequencedFrame::cost).sum();
        let mut state = self.lock();
        debug_assert!(matches!(state.order, TopicOrder::Local), "a log orders the events");
        let (slot, listening) = match self.admit(&state, name, frames.len(), bytes, now_micros) {
            Admission::Granted(slot, listening) => (slot, listening),
            Admission::Backpressure => return Err(Refused::Backpressure(frames)),
            Admission::TooManyTopics => return Err(Refused::TooManyTopics),
        };
        let slot = slot.unwrap_or_else(|| state.open(name, self.outboxes.len()));
        let local_subscribers = state.local.of(slot);
        let published = self.sequence(&mut state, slot, frames, now_micros, &listening);
        drop(state);
        self.wake_all(&listening, from);
        local::wake(local_subscribers.as_deref());
        Ok(published)
    }

    fn admit(&self, state: &State, name: &TopicName, events: usize, bytes: usize, now_micros: u64) -> Admission {
        if !state.ids.has_room(events, now_micros) {
            return Admission::Backpressure;
        }
        let Some(slot) = state.slot(name) else {
            let is_full = state.feeds.count() >= self.limits.topics;
            return if is_full { Admission::TooManyTopics } else { Admission::Granted(None, WorkerSet::default()) };
        };
        match self.listening(state, slot, events, bytes) {
            Some(listening) => Admission::Granted(Some(slot), listening),
            None => Admission::Backpressure,
        }
    }

    /// Returns the workers that have a listener of a topic. `None` if one of them has too much in flight.
    pub(super) fn listening(&self, state: &State, slot: Slot, events: usize, bytes: usize) -> Option<WorkerSet> {
        let mut listening = WorkerSet::default();
        for (worker, &count) in state.feeds.get(slot).meta.listeners.iter().enumerate() {
            if count > 0 {
                if !self.outboxes[worker].has_room(events, bytes) {
                    return None;
                }
                listening.insert(worker);
            }
        }
        Some(listening)
    }

    /// Assigns each frame its id and appends it, unless the topic retains an event with the same publisher id.
    fn sequence(
        &self,
        state: &mut State,
        slot: Slot,
        frames: Vec<UnsequencedFrame>,
        now_micros: u64,
        listening: &WorkerSet,
    ) -> Published {
        let topic = state.topic_id(slot);
        let subscribers = state.subscribers_of(slot);
        let mut published = Published { id: 0, events: 0, subscribers };
        let mut original = None;
        for frame in frames {
            if let Some(id) = state.retained_original(slot, &frame) {
                original = Some(id);
                state.counters.duplicates += 1;
                continue;
            }
            let frame = frame.assign_id(state.ids.assign(now_micros));
            published.id = frame.id();
            published.events += 1;
            self.append(state, topic, frame, listening);
        }
        if let (0, Some(original)) = (published.events, original) {
            published.id = original;
        }
        state.counters.published += published.events as u64;
        state.retire_if_idle(slot);
        published
    }

    /// Appends a frame to its topic: delivers it to the workers that listen, and retains it.
    pub(super) fn append(&self, state: &mut State, topic: TopicId, frame: Arc<Frame>, listening: &WorkerSet) {
        debug_assert!(frame.id() <= state.newest(), "an id is assigned before its event is appended");
        self.deliver(listening, FeedId::Topic(topic), &frame, 0);
        state.local.deliver(topic.slot, &frame);
        self.retain(state, topic.slot, frame);
    }

    /// Puts a frame into the inboxes of these workers, without waking them.
    pub(super) fn deliver(&self, workers: &WorkerSet, feed: FeedId, frame: &Arc<Frame>, superseded: u64) {
        for worker in workers.iter() {
            self.outboxes[worker].send(Delivery { feed, frame: Arc::clone(frame), superseded });
        }
    }

    /// Wakes these workers except for the calling one. Called without the lock.
    pub(super) fn wake_all(&self, workers: &WorkerSet, from: Option<WorkerId>) {
        for worker in workers.iter().filter(|&worker| Some(worker) != from) {
            self.outboxes[worker].wake();
        }
    }
}

impl State {
    /// Returns the number of subscribers of a topic, including those inside this process.
    pub(super) fn subscribers_of(&self, slot: Slot) -> usize {
        self.feeds.get(slot).meta.subscribers() + self.local.count(slot)
    }

    /// Returns the id of the retained event that this frame repeats.
    fn retained_original(&self, slot: Slot, frame: &UnsequencedFrame) -> Option<u64> {
        let publisher_id = frame.publisher_id()?;
        self.feeds.get(slot).meta.publisher_ids.get(publisher_id)
    }
}
