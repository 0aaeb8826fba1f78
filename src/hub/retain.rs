//! Retention: keeps history within its bounds of count, age and bytes, and closes topics that have neither an event nor a
//! listener.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tombstones::Evicted;
use super::{Hub, Slot, State};
use crate::ids::parse_id;
use crate::sse::Frame;

/// The number of aged frames that are evicted at a time, so that the lock is held only briefly.
const EXPIRE_SLICE: usize = 2_000;

impl Hub {
    /// Adds a frame to its feed and evicts what exceeds the bounds of count and bytes.
    pub(super) fn retain(&self, state: &mut State, slot: Slot, frame: Arc<Frame>) {
        let topic = state.feeds.meta_mut(slot);
        topic.published += 1;
        topic.bytes += frame.cost();
        if let Some(publisher_id) = frame.publisher_id() {
            // A log may have an id again while this broker still retains its first event, which remains the earliest.
            topic.publisher_ids.insert(publisher_id, frame.id());
        }
        state.feeds.push(slot, frame);
        while state.feeds.is_over_limit(slot) {
            state.evict(slot);
        }
        while state.feeds.bytes() > self.limits.bytes {
            self.evict_oldest(state, slot);
            self.evicted_for_bytes.fetch_add(1, Ordering::Relaxed);
        }
        debug_assert!(
            state.feeds.get(slot).window.len() <= self.limits.events_per_topic,
            "history is within its bounds"
        );
    }

    /// Evicts events that are too old, at most a slice of them. `now_micros` is the time that their ids are made of: with a
    /// log, the log's. Returns whether more may be left.
    pub fn expire(&self, now_micros: u64) -> bool {
        let horizon = now_micros.saturating_sub(self.limits.age_micros);
        let mut state = self.lock();
        for _ in 0..EXPIRE_SLICE {
            match state.feeds.oldest() {
                Some((id, slot)) if id < horizon => {
                    self.evict_oldest(&mut state, slot);
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

    /// Evicts the oldest frame of all topics. `busy` is a topic that must stay open.
    fn evict_oldest(&self, state: &mut State, busy: Slot) {
        if let Some((id, slot)) = state.feeds.oldest() {
            state.evict(slot);
            self.evicted_through.store(id, Ordering::Release);
            if slot != busy {
                state.retire_if_idle(slot);
            }
        }
    }
}

impl State {
    /// Evicts the oldest event of a topic.
    pub(super) fn evict(&mut self, slot: Slot) {
        let Some(frame) = self.feeds.pop(slot) else { return };
        let topic = self.feeds.meta_mut(slot);
        topic.bytes -= frame.cost();
        if let Some(publisher_id) = frame.publisher_id() {
            topic.publisher_ids.remove(publisher_id, frame.id());
            topic.evicted_numbers.add(parse_id(publisher_id));
            self.evicted_ids.insert(&topic.name, publisher_id);
        }
    }

    /// Closes a topic that has neither an event nor a listener, and leaves a tombstone.
    pub(super) fn retire_if_idle(&mut self, slot: Slot) {
        let Some(feed) = self.feeds.find(slot) else { return };
        if !feed.window.is_empty() || feed.meta.subscribers() > 0 || self.has_local_subscriber(slot) {
            return;
        }
        let through = feed.window.evicted_through();
        let topic = self.feeds.close(slot);
        debug_assert!(topic.publisher_ids.is_empty(), "publisher ids are those of retained events");
        self.index.remove(&topic.name, slot);
        self.tombstones.insert(&topic.name, Evicted { through, numbers: topic.evicted_numbers });
    }
}
