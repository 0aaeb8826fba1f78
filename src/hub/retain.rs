//! What the hub keeps and what it lets go: the bounds of history by count, age and bytes, and the
//! tombstones of topics that have neither event nor listener. Part of the hub's critical section.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Hub, Slot, State};
use crate::sse::Frame;

/// So many idle topics are remembered for what they have lost; older ones share one mark, which can
/// make a `gap` event out of caution, never hide one.
pub(super) const MAX_TOMBSTONES: usize = 65_536;

/// An aged history is let go in slices of so many frames, so that the lock stays short.
const EXPIRE_SLICE: usize = 2_000;

impl Hub {
    /// Puts a frame into its feed and lets go what is over the bounds of count and bytes.
    pub(super) fn retain(&self, state: &mut State, slot: Slot, frame: Arc<Frame>) {
        if let Some(own) = frame.own_id() {
            let own = Arc::clone(own);
            state.feeds.note_mut(slot).own_ids.insert(own, frame.id());
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
                _ => return false,
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
fn give_room_back(own_ids: &mut HashMap<Arc<str>, u64>) {
    if own_ids.is_empty() {
        *own_ids = HashMap::new();
    } else if own_ids.capacity() > 64 && own_ids.len() < own_ids.capacity() / 4 {
        own_ids.shrink_to(own_ids.len() * 2);
    }
}

impl State {
    fn evict(&mut self, slot: Slot) {
        let Some(frame) = self.feeds.pop(slot) else { return };
        if let Some(own) = frame.own_id() {
            let own_ids = &mut self.feeds.note_mut(slot).own_ids;
            own_ids.remove(own);
            give_room_back(own_ids);
        }
    }

    /// A topic without event and listener is forgotten, or becomes a tombstone if it has lost events.
    pub(super) fn bury_if_idle(&mut self, slot: Slot) {
        let Some(feed) = self.feeds.find(slot) else { return };
        if !feed.window.is_empty() || feed.note.subscribers() > 0 {
            return;
        }
        let mark = feed.window.evicted_through();
        if mark <= self.forgotten_through {
            self.forget(slot);
            return;
        }
        self.tombstones.insert(mark, slot);
        if self.tombstones.len() > MAX_TOMBSTONES
            && let Some((mark, slot)) = self.tombstones.pop_first()
        {
            self.forgotten_through = mark;
            self.forget(slot);
        }
    }

    /// The topic is about to get an event or a listener.
    pub(super) fn unbury(&mut self, slot: Slot) {
        let mark = self.feeds.get(slot).window.evicted_through();
        if self.tombstones.get(&mark) == Some(&slot) {
            self.tombstones.remove(&mark);
        }
    }

    fn forget(&mut self, slot: Slot) {
        let topic = self.feeds.close(slot);
        self.names.remove(&topic.name);
    }
}
