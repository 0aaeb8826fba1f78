//! Frames and records that sockets blocked within, and the memory that those take which the history has evicted.
//!
//! A frame that is partly written must be completed, even if the history has evicted it in the meantime. A subscriber that
//! blocks within a retained frame costs nothing. One that blocks within an evicted frame keeps it in memory, and a thousand
//! within different frames would grow memory beyond the history's bounds. Hence [`MAX_EVICTED_BYTES`].

use std::collections::{BTreeMap, HashMap};

use crate::util::shrink::Shrink;

/// The bytes of evicted frames that are kept. Beyond them the subscribers within the oldest frame are closed; they
/// continue from their position when they reconnect.
pub const MAX_EVICTED_BYTES: usize = 32 << 20;

/// Frames that at least one subscriber blocked within.
#[derive(Debug, Default)]
pub struct PinnedFrames {
    /// Those that the history has, by id.
    retained: HashMap<u64, Pin>,
    /// Those that it has evicted, oldest first.
    evicted: BTreeMap<PinKey, Pin>,
    evicted_bytes: usize,
}

/// The id and the address of a frame or a record: a record that replaces another one may have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PinKey(u64, usize);

impl PinKey {
    /// Returns the key of a frame or a record with this id.
    pub fn new<T>(id: u64, pinned: &T) -> Self {
        Self(id, std::ptr::from_ref(pinned).addr())
    }
}

#[derive(Debug)]
struct Pin {
    key: PinKey,
    /// The number of subscribers within the frame.
    subscribers: usize,
    cost: usize,
}

impl PinnedFrames {
    /// Counts a subscriber that blocked within a frame or a record, which takes `cost` bytes.
    pub fn pin(&mut self, key: PinKey, cost: usize, is_retained: bool) {
        let new = || Pin { key, subscribers: 0, cost };
        let pin = match is_retained {
            true => self.retained.entry(key.0).or_insert_with(new),
            false => self.evicted.entry(key).or_insert_with(new),
        };
        pin.subscribers += 1;
        if pin.subscribers == 1 && !is_retained {
            self.evicted_bytes += pin.cost;
        }
    }

    /// Removes a subscriber that was counted. Returns whether the history still has the frame or the record.
    pub fn unpin(&mut self, key: PinKey) -> bool {
        if let Some(pin) = self.retained.get_mut(&key.0).filter(|pin| pin.key == key) {
            pin.subscribers -= 1;
            if pin.subscribers == 0 {
                self.retained.remove(&key.0);
            }
            return true;
        }
        if let Some(pin) = self.evicted.get_mut(&key) {
            pin.subscribers -= 1;
            if pin.subscribers == 0 {
                self.evicted_bytes -= pin.cost;
                self.evicted.remove(&key);
            }
        }
        false
    }

    /// Notes that the history has evicted a frame.
    pub fn on_evicted(&mut self, id: u64) {
        // Usually nothing is pinned. Even in an empty map, `remove` hashes the key, which takes longer than the rest of an eviction.
        if !self.retained.is_empty()
            && let Some(pin) = self.retained.remove(&id)
        {
            self.evicted_bytes += pin.cost;
            self.evicted.insert(pin.key, pin);
        }
    }

    /// Returns the oldest evicted frame, if these frames take more than [`MAX_EVICTED_BYTES`].
    pub fn oldest_over_limit(&self) -> Option<PinKey> {
        self.evicted.first_key_value().filter(|_| self.evicted_bytes > MAX_EVICTED_BYTES).map(|(&key, _)| key)
    }

    /// Returns whether nothing is pinned.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        (self.evicted_bytes, self.retained.len(), self.evicted.len()) == (0, 0, 0)
    }
}

impl Shrink for PinnedFrames {
    fn shrink_if_sparse(&mut self) {
        self.retained.shrink_if_sparse();
    }
}
