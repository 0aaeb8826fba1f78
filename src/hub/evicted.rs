//! What is remembered of publishers' ids that have left the history, so that a position is not taken for another event that
//! has the same id. Independent of topics beyond their names.

use std::hash::{BuildHasher, RandomState};

use super::TopicName;

/// Whether a topic has evicted ids, and the bounds of the numbers among them. What lies between may have been one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EvictedNumbers {
    low: u64,
    high: u64,
    /// Whether there were any, numbers or not.
    any: bool,
}

impl EvictedNumbers {
    /// No number.
    pub const NONE: Self = Self { low: u64::MAX, high: 0, any: false };

    /// Adds an id, which may be a number.
    pub fn add(&mut self, number: Option<u64>) {
        let (low, high) = number.map_or((u64::MAX, 0), |number| (number, number));
        self.merge(Self { low, high, any: true });
    }

    /// Adds the numbers of another topic.
    pub fn merge(&mut self, other: Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.any |= other.any;
    }

    /// Returns whether any id was added.
    pub fn has_any(self) -> bool {
        self.any
    }

    /// Returns whether the number may have been added.
    pub fn may_have(self, number: u64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// The ids in one generation of [`EvictedIds`]; between one and two generations are remembered.
pub(super) const GENERATION: usize = 65_536;
/// 64-bit words in the filter of a generation: 16 bits per id, 128 KiB.
const WORDS: usize = GENERATION * 16 / 64;
/// Bits set for each id. With 16 bits per id one lookup in 1700 is wrong.
const PROBES: u64 = 8;

/// The publishers' ids evicted last, of all topics together: two Bloom filters, the older of which is emptied when the newer
/// one is full. It may claim an id that it never got, and forgets an id after [`GENERATION`] others.
#[derive(Debug, Default)]
pub(super) struct EvictedIds {
    hasher: RandomState,
    newer: Vec<u64>,
    older: Vec<u64>,
    /// Ids in the newer filter.
    count: usize,
}

impl EvictedIds {
    /// Remembers that the topic no longer retains an event with this id.
    pub fn put(&mut self, topic: &TopicName, id: &str) {
        if self.count == GENERATION {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.fill(0);
            self.count = 0;
        }
        // No topic may ever have an id of a publisher's.
        self.newer.resize(WORDS, 0);
        self.count += 1;
        for bit in bits(self.hasher.hash_one((topic, id))) {
            self.newer[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Returns whether the topic may have lost an event with this id.
    pub fn may_have(&self, topic: &TopicName, id: &str) -> bool {
        let hash = self.hasher.hash_one((topic, id));
        let is_in =
            |filter: &[u64]| bits(hash).all(|bit| filter.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1));
        is_in(&self.newer) || is_in(&self.older)
    }
}

/// The places of a hash in a filter: double hashing, with the hash's halves as start and step.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let (start, step) = (hash & 0xFFFF_FFFF, hash >> 32 | 1);
    (0..PROBES).map(move |probe| (start + probe * step) as usize % (WORDS * 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_between_the_bounds_are_in_doubt() {
        let mut numbers = EvictedNumbers::NONE;
        assert!([0, 1, u64::MAX].iter().all(|&number| !numbers.may_have(number)));
        numbers.add(None);
        assert!(numbers.has_any() && !EvictedNumbers::NONE.has_any() && !numbers.may_have(0));
        numbers.add(Some(7));
        assert!(numbers.may_have(7) && !numbers.may_have(6) && !numbers.may_have(8));
        numbers.merge(EvictedNumbers::NONE);
        numbers.add(Some(0));
        assert!(numbers.may_have(0) && numbers.may_have(6) && !numbers.may_have(8));
        numbers.add(Some(u64::MAX));
        assert!(numbers.may_have(8));
    }

    #[test]
    fn ids_are_remembered_for_a_generation_and_hardly_ever_imagined() {
        let topics = ["topicone1", "topictwo2"].map(|name| TopicName::parse(name).unwrap());
        let mut evicted = EvictedIds::default();
        assert!(!evicted.may_have(&topics[0], "0"));
        let put = |evicted: &mut EvictedIds, numbers: std::ops::Range<usize>| {
            numbers.for_each(|number| evicted.put(&topics[0], &number.to_string()));
        };
        let known = |evicted: &EvictedIds, topic: usize, numbers: std::ops::Range<usize>| {
            numbers.filter(|number| evicted.may_have(&topics[topic], &number.to_string())).count()
        };
        put(&mut evicted, 0..2 * GENERATION);
        assert_eq!(known(&evicted, 0, 0..2 * GENERATION), 2 * GENERATION);
        put(&mut evicted, 2 * GENERATION..2 * GENERATION + 1);
        assert_eq!(known(&evicted, 0, GENERATION..2 * GENERATION + 1), GENERATION + 1);
        // About 40 are to be expected of either.
        assert!(known(&evicted, 0, 0..GENERATION) < 1000, "the oldest are forgotten");
        assert!(known(&evicted, 1, 0..GENERATION) < 1000, "another topic's are others");
        assert_eq!((evicted.newer.len(), evicted.older.len()), (WORDS, WORDS));
    }
}
