//! The policy for returning memory after a surge. A container that uses less than an eighth of its capacity shrinks to twice
//! its length. Shrinking moves the elements that are left, so it has to stay rare: three quarters of them must be removed
//! before the next time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// A container with no more capacity than this, in bytes, never shrinks.
const MIN_BYTES: usize = 512;
/// A container is sparse if its capacity is more than this many times its length.
const SPARSE: usize = 8;
/// A sparse container shrinks to this many times its length.
const CAPACITY_LEFT: usize = 2;

/// A container that returns unused memory.
pub trait Shrink {
    /// Returns most of the unused memory if the container is sparse. Cheap if it is not.
    fn shrink_if_sparse(&mut self);
}

/// Returns the capacity to shrink to if a container of elements of type `T` is sparse.
pub(crate) fn sparse_target<T>(len: usize, capacity: usize) -> Option<usize> {
    let is_large = capacity.saturating_mul(size_of::<T>()) > MIN_BYTES;
    (is_large && len < capacity / SPARSE).then_some(len * CAPACITY_LEFT)
}

impl<T> Shrink for Vec<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(capacity) = sparse_target::<T>(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(capacity) = sparse_target::<T>(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    fn shrink_if_sparse(&mut self) {
        if let Some(capacity) = sparse_target::<(K, V)>(self.len(), self.capacity()) {
            self.shrink_to(capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sparse_containers_shrink_and_few_elements_move() {
        let mut map: HashMap<usize, usize> = (0..100_000).map(|key| (key, key)).collect();
        let (mut moved, mut room) = (0, map.capacity());
        for key in 0..100_000 {
            map.remove(&key);
            map.shrink_if_sparse();
            // A removal alone can lower what a map reports as its capacity.
            moved += if map.capacity() < room / 2 { map.len() } else { 0 };
            room = map.capacity();
        }
        assert!(room * size_of::<(usize, usize)>() <= MIN_BYTES, "room for {room}");
        assert!(moved < 30_000, "{moved} entries were moved for 100 000 that were removed");
        let mut small: VecDeque<usize> = VecDeque::with_capacity(64);
        small.shrink_if_sparse();
        assert_eq!(small.capacity(), 64);
    }
}
