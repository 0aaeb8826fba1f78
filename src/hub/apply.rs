//! Follows a log that several brokers share: applies its events, whose ids the log has assigned, and forgets what it has lost.
//! Everything here is called by the one thread that reads the log, except for what is asked before a publish.
//!
//! Losing events does not take long, however many there are: the id through which events are lost is set at once, for all
//! topics, and is checked wherever retained events are read. Then the lost events are evicted in slices.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::local::{self, LocalSubscriber};
use super::order::TopicOrder;
use super::worker_set::WorkerSet;
use super::{Hub, Slot, State, TopicName};
use crate::ids::{OutOfOrder, parse_id};
use crate::sse::Frame;

/// The number of events that are applied at a time, so that the lock is held only briefly.
pub(super) const APPLY_SLICE: usize = 256;
/// The number of lost events that are evicted at a time, for the same reason.
const EVICT_SLICE: usize = 2_000;

/// An event of the log, and its topic.
pub type LoggedFrame = (TopicName, Arc<Frame>);

/// Who is to be woken when the lock is released.
#[derive(Default)]
struct Wakes {
    workers: WorkerSet,
    /// By topic; adjacent events of one topic are added once.
    local: Vec<(Slot, Arc<[Arc<LocalSubscriber>]>)>,
}

/// Why a slice ended.
#[derive(PartialEq, Eq)]
pub(super) enum SliceEnd {
    /// More events or records may be left.
    Full,
    /// None is left, or a worker has too much in flight.
    Stop,
}

impl Hub {
    /// Applies events from the front of the queue, and removes them. Their ids ascend. Leaves those for which a worker has no
    /// room; try again in a moment. Fails at an id that is not larger than the newest, and leaves that event in front.
    pub fn apply(&self, events: &mut VecDeque<LoggedFrame>) -> Result<(), OutOfOrder> {
        while self.apply_slice(events)? == SliceEnd::Full {}
        Ok(())
    }

    fn apply_slice(&self, events: &mut VecDeque<LoggedFrame>) -> Result<SliceEnd, OutOfOrder> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let mut end = Ok(SliceEnd::Full);
        for _ in 0..APPLY_SLICE {
            end = self.apply_first(&mut state, events, &mut wakes);
            if end != Ok(SliceEnd::Full) {
                break;
            }
        }
        drop(state);
        self.wake_all(&wakes.workers, None);
        wakes.local.iter().for_each(|(_, subscribers)| local::wake(Some(subscribers)));
        end
    }

    fn apply_first(
        &self,
        state: &mut State,
        events: &mut VecDeque<LoggedFrame>,
        wakes: &mut Wakes,
    ) -> Result<SliceEnd, OutOfOrder> {
        let Some((name, frame)) = events.front() else { return Ok(SliceEnd::Stop) };
        let open = state.slot(name);
        let listening =
            open.map_or_else(|| Some(WorkerSet::default()), |slot| self.listening(state, slot, 1, frame.cost()));
        let Some(listening) = listening else { return Ok(SliceEnd::Stop) };
        state.apply_id(frame.id())?;
        let Some((name, frame)) = events.pop_front() else { return Ok(SliceEnd::Stop) };
        state.counters.published += 1;
        let Some(slot) = open.or_else(|| self.find_or_open(state, &name)) else {
            state.forget(&name, &frame);
            return Ok(SliceEnd::Full);
        };
        wakes.add(slot, &listening, state);
        self.append(state, state.topic_id(slot), frame, &listening);
        state.retire_if_idle(slot);
        Ok(SliceEnd::Full)
    }

    /// Notes the oldest id that the log has. Positions before it are in doubt. Called before anything else.
    pub fn begin(&self, oldest: u64) {
        if let TopicOrder::Log(ids) = &mut self.lock().order {
            ids.begin(oldest);
        }
    }

    /// Makes an id the newest, and a known position, though no event has it. Does nothing if a larger one is known.
    pub fn pass(&self, id: u64) {
        // An id that is known already is known either way.
        let _ = self.lock().apply_id(id);
    }

    /// Retains nothing up to this id, and makes it the newest and a known position. Each stream of topics that is open gets one
    /// gap, whether it is behind or not, and whether its topics have had events or not. Positions before the id are in doubt.
    pub fn lose_through(&self, id: u64) {
        if let Some(through) = self.note_loss(id) {
            while self.evict_lost(through) {}
        }
    }

    /// Hides what is lost, and lets all streams know. Returns the id through which events are lost; `None` without a log.
    pub(super) fn note_loss(&self, id: u64) -> Option<u64> {
        let mut state = self.lock();
        let TopicOrder::Log(ids) = &mut state.order else { return None };
        let through = ids.lose_through(id);
        // The workers' replicas follow. No event after it is delivered before it is stored.
        self.lost_through.store(through, Ordering::SeqCst);
        let local_subscribers = state.local.set_behind();
        drop(state);
        self.outboxes.iter().for_each(|outbox| outbox.wake());
        local::wake(Some(&local_subscribers));
        Some(through)
    }

    /// Returns the id through which the log has lost events. Nothing up to it is to be delivered.
    pub fn lost_through(&self) -> u64 {
        self.lost_through.load(Ordering::SeqCst)
    }

    /// Evicts lost events, at most a slice of them. Returns whether more may be left.
    pub(super) fn evict_lost(&self, through: u64) -> bool {
        let mut state = self.lock();
        for _ in 0..EVICT_SLICE {
            match state.feeds.oldest() {
                Some((id, slot)) if id <= through => {
                    state.evict(slot);
                    state.retire_if_idle(slot);
                }
                _ => {
                    state.index.shrink_if_sparse();
                    return false;
                }
            }
        }
        true
    }

    /// Returns whether a topic is open, or [`HubLimits::topics`](super::HubLimits::topics) allows it to be opened.
    pub fn can_publish(&self, name: &TopicName) -> bool {
        let state = self.lock();
        state.slot(name).is_some() || state.feeds.count() < self.limits.topics
    }

    /// Returns the number of subscribers of a topic, including those inside this process.
    pub fn subscribers_of(&self, name: &TopicName) -> usize {
        let state = self.lock();
        state.slot(name).map_or(0, |slot| state.subscribers_of(slot))
    }
}

impl Wakes {
    fn add(&mut self, slot: Slot, listening: &WorkerSet, state: &State) {
        listening.iter().for_each(|worker| self.workers.add(worker));
        if self.local.last().is_none_or(|(last, _)| *last != slot)
            && let Some(subscribers) = state.local.of(slot)
        {
            self.local.push((slot, subscribers));
        }
    }
}

impl State {
    /// Makes an id the newest. All ids are refused if this process orders the events itself.
    fn apply_id(&mut self, id: u64) -> Result<(), OutOfOrder> {
        match &mut self.order {
            TopicOrder::Log(ids) => ids.push(id),
            TopicOrder::Local => Err(OutOfOrder { id, newest: self.ids.newest() }),
        }
    }

    /// Notes an event that is not retained, because there are too many topics, so that it is not skipped silently.
    pub(super) fn forget(&mut self, name: &TopicName, frame: &Frame) {
        let mut evicted = self.tombstones.take(name);
        evicted.through = frame.id();
        if let Some(publisher_id) = frame.publisher_id() {
            evicted.numbers.add(parse_id(publisher_id));
            self.evicted_ids.insert(name, publisher_id);
        }
        self.tombstones.insert(name, evicted);
    }
}
