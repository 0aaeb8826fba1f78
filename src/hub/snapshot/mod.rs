//! A snapshot of what the hub retains and of what it remembers about evicted events, from which a later run of the broker
//! continues. Every position is then judged as if the broker had not stopped. Independent of where snapshots are stored.
//!
//! ```text
//! format   a snapshot as bytes
//! blocks   bytes in blocks with checksums, so that damage is noticed
//! ```

mod blocks;
mod format;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::evicted::EvictedIds;
use super::order::TopicOrder;
use super::tombstones::{Evicted, Tombstones};
use super::{Hub, Slot, State, TopicName};
use crate::ids::AssignedIds;
use crate::sse::Frame;

pub use format::SnapshotError;

/// What a hub retains, and what it remembers of evicted events. The frames are shared with the hub.
pub struct Snapshot {
    /// The ids assigned so far.
    ids: AssignedIds,
    /// See [`Hub::evicted_through`].
    evicted_through: u64,
    evicted_ids: EvictedIds,
    tombstones: Tombstones,
    /// The topics that retain an event, with what was evicted from them.
    topics: Vec<(TopicName, Evicted)>,
    /// The retained events of all topics, by ascending id, with the indexes of their topics.
    events: Vec<(u32, Arc<Frame>)>,
}

/// How much a snapshot, or what was restored from it, contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCounts {
    /// Retained events.
    pub events: usize,
    /// Topics that retain an event.
    pub topics: usize,
}

impl Snapshot {
    /// Returns how much it contains.
    pub fn counts(&self) -> SnapshotCounts {
        SnapshotCounts { events: self.events.len(), topics: self.topics.len() }
    }
}

impl Hub {
    /// Takes a snapshot. To be called when no more ids are assigned. `None` with a log, which retains the events itself.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let state = self.lock();
        if let TopicOrder::Log(_) = state.order {
            return None;
        }
        let mut snapshot = Snapshot {
            ids: state.ids.assigned(),
            evicted_through: self.evicted_through(),
            evicted_ids: state.evicted_ids.clone(),
            tombstones: state.tombstones.clone(),
            topics: Vec::with_capacity(state.feeds.count()),
            events: Vec::with_capacity(state.feeds.events()),
        };
        state.index.slots().for_each(|slot| snapshot.add_topic(&state, slot));
        drop(state);
        snapshot.events.sort_unstable_by_key(|(_, frame)| frame.id());
        Some(snapshot)
    }

    /// Continues from a snapshot. To be called before anything is published or anybody joins, with a snapshot whose ids are
    /// smaller than those of this run. What exceeds the present limits is evicted; `now_micros` is the time of ids. Returns how
    /// much is retained.
    pub fn restore(&self, snapshot: Snapshot, now_micros: u64) -> SnapshotCounts {
        let Snapshot { ids, evicted_through, evicted_ids, tombstones, topics, events } = snapshot;
        let mut state = self.lock();
        state.ids.continue_from(ids);
        (state.evicted_ids, state.tombstones) = (evicted_ids, tombstones);
        self.evicted_through.store(evicted_through, Ordering::Release);
        let mut topics: Vec<_> = topics.into_iter().map(|(name, evicted)| (name, Some(evicted))).collect();
        for (topic, frame) in events {
            let Some((name, evicted)) = topics.get_mut(topic as usize) else { continue };
            self.restore_event(&mut state, name, evicted.take(), frame);
        }
        drop(state);
        while self.expire(now_micros) {}
        let state = self.lock();
        SnapshotCounts { events: state.feeds.events(), topics: state.feeds.count() }
    }

    /// Retains an event again. `evicted` is what was evicted from its topic, if this is the topic's first event.
    fn restore_event(&self, state: &mut State, name: &TopicName, evicted: Option<Evicted>, frame: Arc<Frame>) {
        let is_full = state.feeds.count() >= self.limits.topics;
        let slot = match (state.slot(name), evicted) {
            (Some(slot), _) => slot,
            (None, Some(evicted)) if !is_full => state.open_after(name, evicted, self.outboxes.len()),
            (None, None) if !is_full => state.open(name, self.outboxes.len()),
            (None, evicted) => {
                evicted.into_iter().for_each(|evicted| state.tombstones.insert(name, evicted));
                return state.forget(name, &frame);
            }
        };
        self.retain(state, slot, frame);
        // The present limits may not even allow this event.
        state.retire_if_idle(slot);
    }
}

impl Snapshot {
    /// Adds a topic. One that retains no event is added as a tombstone.
    fn add_topic(&mut self, state: &State, slot: Slot) {
        let feed = state.feeds.get(slot);
        let evicted = Evicted { through: feed.window.evicted_through(), numbers: feed.meta.evicted_numbers };
        if feed.window.is_empty() {
            return self.tombstones.insert(&feed.meta.name, evicted);
        }
        let topic = self.topics.len() as u32;
        self.topics.push((feed.meta.name, evicted));
        self.events.extend(feed.window.frames().map(|frame| (topic, Arc::clone(frame))));
    }
}
