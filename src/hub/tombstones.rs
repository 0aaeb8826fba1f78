//! What was evicted from topics that have neither an event nor a listener any more. A topic is identified by a keyed 64-bit
//! hash of its name, so that a tombstone is small; collisions are not to be expected.

use std::collections::{BTreeMap, HashMap};

use super::evicted::EvictedNumbers;
use super::topic::TopicName;
use crate::util::keyed_hash::KeyedHash;
use crate::util::shrink::Shrink;

/// The number of tombstones. Older ones are merged into one, which can cause an unnecessary `gap` event but never hide one.
pub(super) const MAX: usize = 65_536;

/// What was evicted from a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evicted {
    /// Every event up to this id.
    pub through: u64,
    /// The publisher ids of these events.
    pub numbers: EvictedNumbers,
}

impl Evicted {
    /// Nothing was evicted.
    pub const NOTHING: Self = Self { through: 0, numbers: EvictedNumbers::NONE };

    fn merge(&mut self, other: Self) {
        self.through = self.through.max(other.through);
        self.numbers.merge(other.numbers);
    }
}

/// A bounded number of tombstones.
#[derive(Clone, Debug)]
pub(super) struct Tombstones {
    hasher: KeyedHash,
    /// By the hash of the topic's name.
    by_hash: HashMap<u64, Evicted>,
    /// The hashes by [`Evicted::through`], which is unique because an id belongs to one topic.
    by_id: BTreeMap<u64, u64>,
    /// The merged tombstones of the topics that were forgotten.
    forgotten: Evicted,
}

impl Default for Tombstones {
    fn default() -> Self {
        let (hasher, by_hash, by_id) = (KeyedHash::default(), HashMap::new(), BTreeMap::new());
        Self { hasher, by_hash, by_id, forgotten: Evicted::NOTHING }
    }
}

impl Tombstones {
    /// Returns the tombstones with these hashes, and those that were merged. `None` if there are too many, or two have the same
    /// hash or id, or one is covered by the merged ones.
    pub fn from_parts(hasher: KeyedHash, forgotten: Evicted, by_hash: HashMap<u64, Evicted>) -> Option<Self> {
        let by_id: BTreeMap<_, _> = by_hash.iter().map(|(&hash, evicted)| (evicted.through, hash)).collect();
        let are_distinct = by_id.len() == by_hash.len() && by_hash.len() <= MAX;
        let are_newer = by_id.first_key_value().is_none_or(|(&through, _)| through > forgotten.through);
        (are_distinct && are_newer).then_some(Self { hasher, by_hash, by_id, forgotten })
    }

    /// Returns the largest [`Evicted::through`].
    pub fn newest(&self) -> u64 {
        self.by_id.last_key_value().map_or(self.forgotten.through, |(&through, _)| through)
    }

    /// Returns what [`Tombstones::from_parts`] takes.
    pub fn parts(&self) -> (KeyedHash, Evicted, &HashMap<u64, Evicted>) {
        (self.hasher, self.forgotten, &self.by_hash)
    }

    /// Adds a tombstone for a topic that is closed.
    pub fn insert(&mut self, name: &TopicName, evicted: Evicted) {
        if evicted.through <= self.forgotten.through {
            return self.forgotten.merge(evicted);
        }
        let hash = self.hash(name);
        self.by_hash.insert(hash, evicted);
        self.by_id.insert(evicted.through, hash);
        debug_assert_eq!(self.by_hash.len(), self.by_id.len(), "both maps have the same tombstones");
        if self.by_hash.len() > MAX
            && let Some((_, hash)) = self.by_id.pop_first()
            && let Some(evicted) = self.by_hash.remove(&hash)
        {
            self.forgotten.merge(evicted);
        }
    }

    /// Returns what was evicted from a topic that does not exist.
    pub fn get(&self, name: &TopicName) -> Evicted {
        self.by_hash.get(&self.hash(name)).copied().unwrap_or(self.forgotten)
    }

    /// Removes the tombstone of a topic that is opened again, and returns what was evicted from the topic.
    pub fn take(&mut self, name: &TopicName) -> Evicted {
        let evicted = self.remove(self.hash(name));
        self.by_hash.shrink_if_sparse();
        evicted.unwrap_or(self.forgotten)
    }

    /// Returns the number of tombstones.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    fn hash(&self, name: &TopicName) -> u64 {
        self.hasher.of_texts(&[name.as_str()])
    }

    fn remove(&mut self, hash: u64) -> Option<Evicted> {
        let evicted = self.by_hash.remove(&hash)?;
        self.by_id.remove(&evicted.through);
        Some(evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> TopicName {
        TopicName::parse(&format!("topic{number:06}")).unwrap()
    }

    fn evicted(through: u64) -> Evicted {
        Evicted { through, ..Evicted::NOTHING }
    }

    #[test]
    fn the_oldest_tombstones_are_merged() {
        let mut tombstones = Tombstones::default();
        let take = |tombstones: &mut Tombstones, number| tombstones.take(&name(number)).through;
        assert_eq!(take(&mut tombstones, 0), 0);
        (1..=MAX + 10).for_each(|number| tombstones.insert(&name(number), evicted(number as u64)));
        assert_eq!((tombstones.by_hash.len(), tombstones.by_id.len()), (MAX, MAX));
        assert_eq!([1, 10, 11, MAX + 10].map(|number| take(&mut tombstones, number)), [10, 10, 11, MAX as u64 + 10]);
        assert_eq!(take(&mut tombstones, 11), 10, "a tombstone is taken once");
        tombstones.insert(&name(11), evicted(5));
        assert_eq!(
            (tombstones.by_hash.len(), take(&mut tombstones, 11)),
            (MAX - 2, 10),
            "the merged tombstone covers it"
        );
        tombstones.insert(&name(12), evicted(50));
        assert_eq!(take(&mut tombstones, 12), 50);
        assert_eq!(tombstones.by_id.len(), tombstones.by_hash.len());
    }

    #[test]
    fn merged_tombstones_keep_their_numbers() {
        let numbered = |number: u64| {
            let mut numbers = EvictedNumbers::NONE;
            numbers.add(Some(number));
            Evicted { through: number, numbers }
        };
        let mut tombstones = Tombstones::default();
        (1..=MAX + 3).for_each(|number| tombstones.insert(&name(number), numbered(number as u64)));
        assert_eq!(tombstones.take(&name(MAX)), numbered(MAX as u64));
        let mut shared = numbered(3);
        shared.numbers.add(Some(1));
        assert_eq!(tombstones.take(&name(2)), shared);
        tombstones.insert(&name(2), Evicted { numbers: numbered(9).numbers, ..shared });
        assert!(tombstones.take(&name(0)).numbers.may_contain(9), "what is merged is not lost");
    }
}
