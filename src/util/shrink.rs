//! Room that a container keeps from a time when it held far more, and that it gives back. Rare, for what is left is moved:
//! a container that gives back three quarters must first grow fourfold to do so again.
//! Refuses to know what is kept.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// So much room is never worth a look.
const MIN: usize = 64;

/// See the module's page.
pub trait Shrink {
    /// Gives back what is far too much, if it is; cheap if it is not.
    fn shrink_if_sparse(&mut self);
}

/// What to shrink to, if the room is far too much.
fn fitting(len: usize, capacity: usize) -> Option<usize> {
    (capacity > MIN && len < capacity / 8).then_some(len * 2)
}

impl<T> Shrink for Vec<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = fitting(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_back_seldom_and_only_where_it_is_far_too_much() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|key| (key, key)).collect();
        let (mut moved, mut room) = (0, map.capacity());
        for key in 0..100_000 {
            map.remove(&key);
            map.shrink_if_sparse();
            // A removal alone can take a place from what a map calls its capacity.
            moved += if map.capacity() < room / 2 { map.len() } else { 0 };
            room = map.capacity();
        }
        assert!(room <= MIN, "room for {room}");
        assert!(moved < 30_000, "{moved} entries were moved for 100 000 that left");
        let mut few: VecDeque<usize> = VecDeque::with_capacity(MIN);
        few.shrink_if_sparse();
        assert_eq!(few.capacity(), MIN);
    }
}
