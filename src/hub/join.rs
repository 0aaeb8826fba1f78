//! Subscribers join topics at a position, and leave them.

use std::sync::Arc;

use super::{Hub, Position, Slot, State, TopicId, TopicName, WorkerId, position};
use crate::sse::Frame;

/// Why a subscriber is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtCapacity {
    /// [`HubLimits::subscribers`](super::HubLimits::subscribers) is reached.
    Subscribers,
    /// A topic is new, and [`HubLimits::topics`](super::HubLimits::topics) is reached.
    Topics,
    /// The names that streams of records are limited to take too much memory.
    Names,
}

/// Events after a position are no longer retained, or the position is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The oldest id still retained in these topics.
    pub oldest: Option<u64>,
}

/// How a subscription starts.
#[derive(Debug)]
pub struct Joined {
    /// The subscriber is to get everything after this id.
    pub cursor: u64,
    /// The newest id of the whole broker at that moment; of records, the newest record's.
    pub newest: u64,
    /// To be reported before anything else.
    pub gap: Option<Gap>,
    /// What it listens to.
    pub feeds: JoinedFeeds,
}

/// What a subscriber listens to.
#[derive(Debug)]
pub enum JoinedFeeds {
    /// Topics, ascending, without duplicates.
    Topics(Vec<JoinedTopic>),
    /// The newest records.
    Records {
        /// The names it is limited to; empty for all.
        names: Arc<[Arc<str>]>,
        /// See [`Hub::record_resets`].
        resets: u64,
        /// The id of the last erasure. The subscriber knows, from the gap or because it asked for what there is.
        erased_through: u64,
    },
}

/// One topic of a join.
#[derive(Debug)]
pub struct JoinedTopic {
    /// Its key.
    pub id: TopicId,
    /// Frames up to this id are no longer retained. The subscriber knows, from the gap or because it asked for what there is.
    pub evicted_through: u64,
    /// The initial content of the worker's replica, oldest first, if the worker had no listener.
    pub backlog: Option<Vec<Arc<Frame>>>,
}

impl Hub {
    /// Admits a subscriber of `worker` to these topics, resuming after `position`.
    pub fn join(&self, worker: WorkerId, names: &[TopicName], position: Position<'_>) -> Result<Joined, AtCapacity> {
        let mut state = self.lock();
        if state.subscribers >= self.limits.subscribers {
            return Err(AtCapacity::Subscribers);
        }
        let mut slots = Vec::with_capacity(names.len());
        for name in names {
            match self.find_or_open(&mut state, name) {
                Some(slot) => slots.push(slot),
                None => {
                    slots.iter().for_each(|&slot| state.retire_if_idle(slot));
                    return Err(AtCapacity::Topics);
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        state.subscribers += 1;
        let (cursor, gap) = position::resolve(&state, &slots, position);
        let newest = state.newest();
        debug_assert!(cursor <= newest, "a cursor does not skip future events");
        let mut topics: Vec<_> = slots.iter().map(|&slot| state.listen(slot, worker)).collect();
        topics.sort_unstable_by_key(|topic| topic.id);
        Ok(Joined { cursor, newest, gap, feeds: JoinedFeeds::Topics(topics) })
    }

    /// Removes a subscriber of `worker` to these topics.
    pub fn leave(&self, worker: WorkerId, topics: &[TopicId]) {
        let mut state = self.lock();
        state.remove_subscriber();
        for topic in topics {
            let count = &mut state.feeds.meta_mut(topic.slot).listeners[worker];
            debug_assert!(*count > 0, "a worker leaves only topics that it has joined");
            *count -= 1;
            state.retire_if_idle(topic.slot);
        }
    }

    /// Undoes a join whose stream does not start.
    pub fn abandon(&self, worker: WorkerId, joined: &Joined) {
        match &joined.feeds {
            JoinedFeeds::Topics(topics) => {
                let ids: Vec<_> = topics.iter().map(|topic| topic.id).collect();
                self.leave(worker, &ids);
            }
            JoinedFeeds::Records { names, .. } => self.leave_records(worker, names),
        }
    }
}

impl State {
    fn listen(&mut self, slot: Slot, worker: WorkerId) -> JoinedTopic {
        let topic = self.feeds.meta_mut(slot);
        topic.listeners[worker] += 1;
        let is_first = topic.listeners[worker] == 1;
        let id = self.topic_id(slot);
        let window = &self.feeds.get(slot).window;
        let lost_through = self.order.lost_through();
        let backlog = is_first.then(|| window.after(lost_through).cloned().collect());
        JoinedTopic { id, evicted_through: self.evicted_through(slot), backlog }
    }

    pub(super) fn remove_subscriber(&mut self) {
        debug_assert!(self.subscribers > 0, "only subscribers that joined leave");
        self.subscribers -= 1;
    }
}
