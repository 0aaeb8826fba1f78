//! Finds open topics by name. An entry holds only a slot and 32 bits of the name's hash; the name itself is in the topic. A
//! million topics take 19 MB here, and a table that grows moves no names.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::feeds::{Feeds, Slot};
use super::topic::TopicName;
use super::{State, Topic};
use crate::util::shrink::sparse_target;

/// The slots of all open topics.
#[derive(Default)]
pub(super) struct TopicIndex {
    entries: HashTable<Entry>,
    /// Seeded randomly: clients choose the names, and must not be able to make many of them collide.
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    slot: Slot,
}

impl TopicIndex {
    fn find(&self, name: &TopicName, feeds: &Feeds<Topic>) -> Option<Slot> {
        let hash = self.hash(name);
        let is_it = |entry: &Entry| entry.hash == hash && feeds.get(entry.slot).meta.name == *name;
        self.entries.find(spread(hash), is_it).map(|entry| entry.slot)
    }

    /// Adds a topic that is not in the index.
    pub fn insert(&mut self, name: &TopicName, slot: Slot) {
        let hash = self.hash(name);
        self.entries.insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
    }

    /// Removes a topic, whose feed may already be closed.
    pub fn remove(&mut self, name: &TopicName, slot: Slot) {
        let found = self.entries.find_entry(spread(self.hash(name)), |entry| entry.slot == slot);
        debug_assert!(found.is_ok(), "an open topic is in the index");
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Returns the slots of all topics, in no particular order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.entries.iter().map(|entry| entry.slot)
    }

    /// Frees most of the unused memory if there is much of it.
    pub fn shrink_if_sparse(&mut self) {
        if let Some(capacity) = sparse_target::<Entry>(self.entries.len(), self.entries.capacity()) {
            self.entries.shrink_to(capacity, |entry| spread(entry.hash));
        }
    }

    /// Returns how many topics there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    fn hash(&self, name: &TopicName) -> u32 {
        self.hasher.hash_one(name) as u32
    }
}

impl State {
    /// Returns the slot of an open topic.
    pub(super) fn slot(&self, name: &TopicName) -> Option<Slot> {
        self.index.find(name, &self.feeds)
    }
}

/// Returns the hash that the table uses: it takes the bucket from the low bits, and compares the high ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
