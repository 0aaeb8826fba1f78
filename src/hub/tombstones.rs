//! What is remembered of topics that have neither event nor listener: the mark of what they have lost, under a keyed hash
//! of the name, of which there are so many that no two names share one. Refuses to know what a topic is.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

use super::TopicName;
use crate::spare::Spare;

/// So many are remembered; older ones share one mark, which can make a `gap` event out of caution, never hide one.
pub(super) const MAX: usize = 65_536;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    hasher: RandomState,
    marks: HashMap<u64, u64>,
    by_mark: BTreeMap<u64, u64>,
    /// The highest mark that was forgotten.
    forgotten_through: u64,
}

impl Tombstones {
    /// The topic has lost everything up to this mark.
    pub fn put(&mut self, name: &TopicName, mark: u64) {
        if mark <= self.forgotten_through {
            return;
        }
        let hash = self.hasher.hash_one(name);
        self.marks.insert(hash, mark);
        self.by_mark.insert(mark, hash);
        if self.marks.len() > MAX
            && let Some((mark, hash)) = self.by_mark.pop_first()
        {
            self.marks.remove(&hash);
            self.forgotten_through = mark;
        }
    }

    /// The topic is there again: its mark.
    pub fn take(&mut self, name: &TopicName) -> u64 {
        let mark = self.remove(self.hasher.hash_one(name));
        self.marks.give_back();
        mark.unwrap_or(self.forgotten_through)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    fn remove(&mut self, hash: u64) -> Option<u64> {
        let mark = self.marks.remove(&hash)?;
        self.by_mark.remove(&mark);
        Some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> TopicName {
        TopicName::parse(&format!("topic{number:06}")).unwrap()
    }

    #[test]
    fn the_oldest_share_one_mark() {
        let mut tombstones = Tombstones::default();
        assert_eq!(tombstones.take(&name(0)), 0);
        (1..=MAX + 10).for_each(|number| tombstones.put(&name(number), number as u64));
        assert_eq!((tombstones.marks.len(), tombstones.by_mark.len()), (MAX, MAX));
        assert_eq!([1, 10, 11, MAX + 10].map(|number| tombstones.take(&name(number))), [10, 10, 11, MAX as u64 + 10]);
        assert_eq!(tombstones.take(&name(11)), 10, "a topic that is there has none");
        tombstones.put(&name(11), 5);
        assert_eq!((tombstones.marks.len(), tombstones.take(&name(11))), (MAX - 2, 10), "what all share says as much");
        tombstones.put(&name(12), 50);
        assert_eq!(tombstones.take(&name(12)), 50);
        assert_eq!(tombstones.by_mark.len(), tombstones.marks.len());
    }
}
