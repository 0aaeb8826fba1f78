//! Subscribers inside this process: threads of a program that embeds the broker.
//!
//! A local subscriber has a bounded queue. Publishing puts frames into it without waiting or allocating. If the queue is
//! full, the subscriber falls behind, and gets no more frames until it has caught up from the retained history, exactly as a
//! network subscriber does whose socket was full. What is no longer retained by then is reported as a gap.
//!
//! ```text
//! live ── queue full ──► behind ── catch_up until nothing is left ──► live
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Gap, Hub, Position, Slot, State, TopicName, position};
use crate::sse::Frame;

/// The maximum number of frames in a local subscriber's queue, and of frames that it catches up with at a time.
const MAX_QUEUED: usize = 256;
/// The maximum number of bytes in a local subscriber's queue. A single larger frame is accepted if the queue is empty.
const MAX_QUEUED_BYTES: usize = 1 << 20;

/// A frame and the topic it was published to.
pub type TopicFrame = (Slot, Arc<Frame>);

/// Why a local subscriber is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinLocalError {
    /// A topic is new, and [`HubLimits::topics`](super::HubLimits::topics) is reached.
    TooManyTopics,
    /// [`Hub::close_local`] was called.
    Closed,
}

/// What a local subscriber finds in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Frames, or nothing yet.
    Frames,
    /// The queue is empty and was full: it must catch up.
    Behind,
    /// The queue is empty and stays so.
    Closed,
}

/// A subscriber inside this process.
#[derive(Debug)]
pub struct LocalSubscriber {
    topics: Box<[(Slot, TopicName)]>,
    queue: Mutex<Queue>,
    arrival: Condvar,
    /// Whether a thread waits for an arrival, so that publishing makes no syscall otherwise.
    is_waiting: AtomicBool,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<TopicFrame>,
    bytes: usize,
    is_behind: bool,
    is_closed: bool,
    /// For each topic, the id through which evicted events were reported. With several topics the cursor alone does not show
    /// this: after a gap it continues from the oldest frame of all, and another topic may have evicted events after that one.
    reported: Box<[u64]>,
}

/// How a local subscriber starts.
#[derive(Debug)]
pub struct LocalSubscription {
    /// To be passed to [`Hub::leave_local`] at the end.
    pub subscriber: Arc<LocalSubscriber>,
    /// The subscriber is to get everything after this id.
    pub cursor: u64,
    /// To be reported before anything else.
    pub gap: Option<Gap>,
}

/// All local subscribers, by the topics they subscribe to.
#[derive(Debug, Default)]
pub(super) struct LocalSubscribers {
    by_topic: HashMap<Slot, Arc<[Arc<LocalSubscriber>]>>,
    is_closed: bool,
}

impl LocalSubscriber {
    fn new(topics: Box<[(Slot, TopicName)]>, is_behind: bool, reported: Box<[u64]>) -> Self {
        let frames = VecDeque::with_capacity(MAX_QUEUED);
        let queue = Queue { frames, bytes: 0, is_behind, is_closed: false, reported };
        Self { topics, queue: Mutex::new(queue), arrival: Condvar::new(), is_waiting: AtomicBool::new(false) }
    }

    /// Returns the name of a topic it subscribes to.
    pub fn topic(&self, slot: Slot) -> Option<TopicName> {
        self.topics.iter().find(|(own, _)| *own == slot).map(|&(_, name)| name)
    }

    /// Moves the queued frames to `frames`, which must be empty.
    pub fn take(&self, frames: &mut VecDeque<TopicFrame>) -> Taken {
        let mut queue = self.lock();
        if queue.frames.is_empty() && queue.is_behind {
            return Taken::Behind;
        }
        if queue.frames.is_empty() && queue.is_closed {
            return Taken::Closed;
        }
        std::mem::swap(&mut queue.frames, frames);
        queue.frames.reserve(MAX_QUEUED);
        queue.bytes = 0;
        Taken::Frames
    }

    /// Waits until there is something to take, but no longer than `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) {
        let is_idle = |queue: &mut Queue| {
            let is_idle = queue.frames.is_empty() && !queue.is_behind && !queue.is_closed;
            self.is_waiting.store(is_idle, Ordering::Relaxed);
            is_idle
        };
        let queue = self.lock();
        match timeout {
            Some(timeout) => drop(self.arrival.wait_timeout_while(queue, timeout, is_idle)),
            None => drop(self.arrival.wait_while(queue, is_idle)),
        }
    }

    /// Adds a frame, unless the subscriber is behind or falls behind now.
    fn push(&self, slot: Slot, frame: &Arc<Frame>) {
        let mut queue = self.lock();
        let is_full = queue.frames.len() >= MAX_QUEUED
            || (!queue.frames.is_empty() && queue.bytes + frame.cost() > MAX_QUEUED_BYTES);
        queue.is_behind |= is_full;
        if !queue.is_behind {
            queue.bytes += frame.cost();
            queue.frames.push_back((slot, Arc::clone(frame)));
        }
    }

    /// Wakes the thread that waits. Called without the hub's lock.
    fn wake(&self) {
        if self.is_waiting.swap(false, Ordering::Relaxed) {
            self.arrival.notify_all();
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalSubscribers {
    /// Returns the subscribers of a topic, to be woken when the hub's lock is released.
    pub fn of(&self, slot: Slot) -> Option<Arc<[Arc<LocalSubscriber>]>> {
        self.by_topic.get(&slot).cloned()
    }

    /// Returns the number of subscribers to a topic.
    pub fn count(&self, slot: Slot) -> usize {
        self.by_topic.get(&slot).map_or(0, |subscribers| subscribers.len())
    }

    /// Puts a frame into the queues of the topic's subscribers.
    pub fn deliver(&self, slot: Slot, frame: &Arc<Frame>) {
        self.by_topic
            .get(&slot)
            .into_iter()
            .flat_map(|all| all.iter())
            .for_each(|subscriber| subscriber.push(slot, frame));
    }

    /// Lets all subscribers catch up, and returns them, to be woken when the hub's lock is released.
    pub fn set_behind(&self) -> Vec<Arc<LocalSubscriber>> {
        let all = self.all();
        all.iter().for_each(|subscriber| subscriber.lock().is_behind = true);
        all
    }

    /// Returns all subscribers, some of them several times.
    fn all(&self) -> Vec<Arc<LocalSubscriber>> {
        self.by_topic.values().flat_map(|subscribers| subscribers.iter().cloned()).collect()
    }

    fn add(&mut self, subscriber: &Arc<LocalSubscriber>) {
        for (slot, _) in &subscriber.topics {
            let others = self.by_topic.remove(slot).unwrap_or_default();
            let all = others.iter().chain([subscriber]).map(Arc::clone).collect();
            self.by_topic.insert(*slot, all);
        }
    }

    fn remove(&mut self, subscriber: &Arc<LocalSubscriber>) {
        for (slot, _) in &subscriber.topics {
            let all = self.by_topic.remove(slot).unwrap_or_default();
            let others: Arc<[_]> = all.iter().filter(|other| !Arc::ptr_eq(other, subscriber)).map(Arc::clone).collect();
            if !others.is_empty() {
                self.by_topic.insert(*slot, others);
            }
        }
    }
}

/// Wakes the subscribers of a topic. Called without the hub's lock.
pub(super) fn wake(subscribers: Option<&[Arc<LocalSubscriber>]>) {
    subscribers.into_iter().flatten().for_each(|subscriber| subscriber.wake());
}

impl Hub {
    /// Admits a local subscriber to these topics, resuming after `position`. Unless that is the newest event, it
    /// starts behind and must catch up first.
    pub fn join_local(&self, names: &[TopicName], position: Position<'_>) -> Result<LocalSubscription, JoinLocalError> {
        let mut state = self.lock();
        if state.local.is_closed {
            return Err(JoinLocalError::Closed);
        }
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            match self.find_or_open(&mut state, name) {
                Some(slot) => topics.push((slot, *name)),
                None => {
                    topics.iter().for_each(|&(slot, _)| state.retire_if_idle(slot));
                    return Err(JoinLocalError::TooManyTopics);
                }
            }
        }
        topics.sort_unstable_by_key(|&(slot, _)| slot);
        topics.dedup_by_key(|&mut (slot, _)| slot);
        let slots: Vec<_> = topics.iter().map(|&(slot, _)| slot).collect();
        let (cursor, gap) = position::resolve(&state, &slots, position);
        let is_behind = cursor < state.newest();
        // The subscriber knows what is not retained, from the gap or because it asked for what there is.
        let reported = slots.iter().map(|&slot| state.evicted_through(slot)).collect();
        let subscriber = Arc::new(LocalSubscriber::new(topics.into(), is_behind, reported));
        state.local.add(&subscriber);
        Ok(LocalSubscription { subscriber, cursor, gap })
    }

    /// Removes a local subscriber.
    pub fn leave_local(&self, subscriber: &Arc<LocalSubscriber>) {
        let mut state = self.lock();
        state.local.remove(subscriber);
        subscriber.topics.iter().for_each(|&(slot, _)| state.retire_if_idle(slot));
    }

    /// Appends retained frames after `cursor` to `frames`, in order and at most [`MAX_QUEUED`]. If none is left, the subscriber
    /// is no longer behind. Returns the gap instead, and moves the cursor beyond it, if frames after the cursor were evicted.
    pub fn catch_up(
        &self,
        subscriber: &LocalSubscriber,
        cursor: &mut u64,
        frames: &mut VecDeque<TopicFrame>,
    ) -> Option<Gap> {
        let state = self.lock();
        let mut queue = subscriber.lock();
        let slots = || subscriber.topics.iter().map(|&(slot, _)| slot);
        let evicted = || slots().map(|slot| state.evicted_through(slot));
        if evicted().zip(&queue.reported).any(|(evicted, &reported)| evicted > reported.max(*cursor)) {
            let oldest = slots().filter_map(|slot| state.oldest(slot)).min();
            *cursor = oldest.map_or(state.newest(), |id| id - 1).max(*cursor);
            queue.reported = evicted().collect();
            return Some(Gap { oldest });
        }
        let run = |slot| state.feeds.get(slot).window.after(*cursor).peekable();
        let mut runs: Vec<_> = slots().map(|slot| (slot, run(slot))).collect();
        for _ in 0..MAX_QUEUED {
            let next = runs
                .iter_mut()
                .filter_map(|(slot, run)| Some((run.peek()?.id(), *slot, run)))
                .min_by_key(|next| next.0);
            let Some((slot, frame)) = next.and_then(|(_, slot, run)| Some((slot, run.next()?))) else {
                queue.is_behind = false;
                break;
            };
            frames.push_back((slot, Arc::clone(frame)));
        }
        None
    }

    /// Lets all local subscribers end once they have received what is published by now.
    pub fn close_local(&self) {
        let mut state = self.lock();
        state.local.is_closed = true;
        let all = state.local.all();
        drop(state);
        all.iter().for_each(|subscriber| subscriber.close());
    }
}

impl State {
    /// Returns whether a topic has a local subscriber inside this process.
    pub(super) fn has_local_subscriber(&self, slot: Slot) -> bool {
        self.local.by_topic.contains_key(&slot)
    }
}
