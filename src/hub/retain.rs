//! What the hub keeps and what it lets go: the bounds of history by count, age and bytes, and the
//! end of topics that have neither event nor listener. Part of the hub's critical section.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tombstones::Lost;
use super::{Hub, Slot, State};
use crate::engine::parse_id;
use crate::sse::Frame;
use crate::util::shrink::Shrink;

/// An aged history is let go in slices of so many frames, so that the lock stays short.
const EXPIRE_SLICE: usize = 2_000;

impl Hub {
    /// Puts a frame into its feed and lets go what is over the bounds of count and bytes.
    pub(super) fn retain(&self, state: &mut State, slot: Slot, frame: Arc<Frame>) {
        if let Some(own) = frame.publisher_id() {
            let own = Arc::clone(own);
            state.feeds.note_mut(slot).publisher_ids.insert(own, frame.id());
        }
        state.feeds.push(slot, frame);
        while state.feeds.has_surplus(slot) {
            state.evict(slot);
        }
        while state.feeds.bytes() > self.limits.bytes {
            self.evict_oldest(state, slot);
        }
    }

    /// Lets go one slice of what is too old. Answers whether more is left to do.
    pub fn expire(&self, now_micros: u64) -> bool {
        let horizon = now_micros.saturating_sub(self.limits.age_micros);
        let mut state = self.lock();
        for _ in 0..EXPIRE_SLICE {
            match state.feeds.oldest() {
                Some((id, slot)) if id < horizon => {
                    self.evict_oldest(&mut state, slot);
                    state.bury_if_idle(slot);
                }
                _ => {
                    state.names.shrink_if_sparse();
                    return false;
                }
            }
        }
        true
    }

    /// Evicts the oldest frame of all; `busy` is a topic that must not be buried meanwhile.
    fn evict_oldest(&self, state: &mut State, busy: Slot) {
        if let Some((id, slot)) = state.feeds.oldest() {
            state.evict(slot);
            self.floor.store(id, Ordering::Release);
            if slot != busy {
                state.bury_if_idle(slot);
            }
        }
    }
}

/// What a burst took, as the window of the same topic does.
fn give_room_back(publisher_ids: &mut HashMap<Arc<str>, u64>) {
    if publisher_ids.is_empty() {
        *publisher_ids = HashMap::new();
    } else {
        publisher_ids.shrink_if_sparse();
    }
}

impl State {
    fn evict(&mut self, slot: Slot) {
        let Some(frame) = self.feeds.pop(slot) else { return };
        if let Some(own) = frame.publisher_id() {
            let topic = self.feeds.note_mut(slot);
            topic.publisher_ids.remove(own);
            give_room_back(&mut topic.publisher_ids);
            topic.evicted_numbers.add(parse_id(own));
            self.evicted_ids.put(&topic.name, own);
        }
    }

    /// Forgets a topic without event and listener, except what it has lost.
    pub(super) fn bury_if_idle(&mut self, slot: Slot) {
        let Some(feed) = self.feeds.find(slot) else { return };
        if !feed.window.is_empty() || feed.note.subscribers() > 0 {
            return;
        }
        let through = feed.window.evicted_through();
        let topic = self.feeds.close(slot);
        self.names.remove(&topic.name);
        self.tombstones.put(&topic.name, Lost { through, numbers: topic.evicted_numbers });
    }
}
