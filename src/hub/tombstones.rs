//! What is remembered of topics that have neither event nor listener: the mark of what they have lost, under a keyed hash
//! of the name, of which there are so many that no two names share one. Refuses to know what a topic is.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::TopicName;
use super::evicted::EvictedNumbers;
use crate::util::shrink::Shrink;

/// So many are remembered; older ones share one mark, which can make a `gap` event out of caution, never hide one.
pub(super) const MAX: usize = 65_536;

/// What a topic has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Every event up to this id.
    pub through: u64,
    /// The numbers among its publishers' ids.
    pub numbers: EvictedNumbers,
}

impl Lost {
    /// Nothing.
    const NOTHING: Self = Self { through: 0, numbers: EvictedNumbers::NONE };

    fn merge(&mut self, other: Self) {
        self.through = self.through.max(other.through);
        self.numbers.merge(other.numbers);
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Tombstones {
    hasher: RandomState,
    marks: HashMap<u64, Lost>,
    by_mark: BTreeMap<u64, u64>,
    /// What the topics that were forgotten have lost.
    forgotten: Lost,
}

impl Default for Tombstones {
    fn default() -> Self {
        let (hasher, marks, by_mark) = (RandomState::new(), HashMap::new(), BTreeMap::new());
        Self { hasher, marks, by_mark, forgotten: Lost::NOTHING }
    }
}

impl Tombstones {
    /// Remembers what a topic has lost.
    pub fn put(&mut self, name: &TopicName, lost: Lost) {
        if lost.through <= self.forgotten.through {
            return self.forgotten.merge(lost);
        }
        let hash = self.hasher.hash_one(name);
        self.marks.insert(hash, lost);
        self.by_mark.insert(lost.through, hash);
        if self.marks.len() > MAX
            && let Some((_, hash)) = self.by_mark.pop_first()
            && let Some(lost) = self.marks.remove(&hash)
        {
            self.forgotten.merge(lost);
        }
    }

    /// Returns what the topic, which is there again, has lost.
    pub fn take(&mut self, name: &TopicName) -> Lost {
        let lost = self.remove(self.hasher.hash_one(name));
        self.marks.shrink_if_sparse();
        lost.unwrap_or(self.forgotten)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    fn remove(&mut self, hash: u64) -> Option<Lost> {
        let lost = self.marks.remove(&hash)?;
        self.by_mark.remove(&lost.through);
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> TopicName {
        TopicName::parse(&format!("topic{number:06}")).unwrap()
    }

    fn lost(through: u64) -> Lost {
        Lost { through, ..Lost::NOTHING }
    }

    #[test]
    fn the_oldest_share_one_mark() {
        let mut tombstones = Tombstones::default();
        let take = |tombstones: &mut Tombstones, number| tombstones.take(&name(number)).through;
        assert_eq!(take(&mut tombstones, 0), 0);
        (1..=MAX + 10).for_each(|number| tombstones.put(&name(number), lost(number as u64)));
        assert_eq!((tombstones.marks.len(), tombstones.by_mark.len()), (MAX, MAX));
        assert_eq!([1, 10, 11, MAX + 10].map(|number| take(&mut tombstones, number)), [10, 10, 11, MAX as u64 + 10]);
        assert_eq!(take(&mut tombstones, 11), 10, "a topic that is there has none");
        tombstones.put(&name(11), lost(5));
        assert_eq!((tombstones.marks.len(), take(&mut tombstones, 11)), (MAX - 2, 10), "what all share says as much");
        tombstones.put(&name(12), lost(50));
        assert_eq!(take(&mut tombstones, 12), 50);
        assert_eq!(tombstones.by_mark.len(), tombstones.marks.len());
    }

    #[test]
    fn the_oldest_share_their_numbers() {
        let numbered = |number: u64| {
            let mut numbers = EvictedNumbers::NONE;
            numbers.add(Some(number));
            Lost { through: number, numbers }
        };
        let mut tombstones = Tombstones::default();
        (1..=MAX + 3).for_each(|number| tombstones.put(&name(number), numbered(number as u64)));
        assert_eq!(tombstones.take(&name(MAX)), numbered(MAX as u64));
        let mut shared = numbered(3);
        shared.numbers.add(Some(1));
        assert_eq!(tombstones.take(&name(2)), shared);
        tombstones.put(&name(2), Lost { numbers: numbered(9).numbers, ..shared });
        assert!(tombstones.take(&name(0)).numbers.may_have(9), "nothing of what is put is lost");
    }
}
