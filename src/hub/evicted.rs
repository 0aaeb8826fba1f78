//! Publisher ids that are no longer retained, so that a resume position is not taken for another event with the same id.
//! Memory is bounded, so the results err towards "may have been evicted".

use super::topic::TopicName;
use crate::util::keyed_hash::KeyedHash;

/// Whether any publisher id of a topic was evicted, and the range of the numbers among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EvictedNumbers {
    pub low: u64,
    pub high: u64,
    /// Whether any id was added, numeric or not.
    pub any: bool,
}

impl EvictedNumbers {
    /// No id was evicted.
    pub const NONE: Self = Self { low: u64::MAX, high: 0, any: false };

    /// Adds an evicted id: its value if it is a number.
    pub fn add(&mut self, number: Option<u64>) {
        let (low, high) = number.map_or((u64::MAX, 0), |number| (number, number));
        self.merge(Self { low, high, any: true });
    }

    /// Adds the ids of another topic.
    pub fn merge(&mut self, other: Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.any |= other.any;
    }

    /// Returns whether any id was added.
    pub fn has_any(self) -> bool {
        self.any
    }

    /// Returns whether the number may have been added, which is true for all numbers in the range.
    pub fn may_contain(self, number: u64) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// The number of ids in one generation of [`EvictedIds`], which remembers between one and two generations.
pub(super) const GENERATION: usize = 65_536;
/// 64-bit words in the filter of one generation: 16 bits per id, 128 KiB.
pub(super) const WORDS: usize = GENERATION * 16 / 64;
/// Bits set for each id. With 16 bits per id, the false positive rate is 1 in 1700.
const PROBES: u64 = 8;

/// The most recently evicted publisher ids of all topics together: two Bloom filters, the older of which is emptied when the
/// newer one is full. It may report an id that was never inserted, and forgets an id after [`GENERATION`] others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EvictedIds {
    pub hasher: KeyedHash,
    pub newer: Vec<u64>,
    pub older: Vec<u64>,
    /// The number of ids in the newer filter.
    pub count: usize,
}

impl EvictedIds {
    /// Records that the topic no longer retains an event with this id.
    pub fn insert(&mut self, topic: &TopicName, id: &str) {
        if self.count == GENERATION {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.fill(0);
            self.count = 0;
        }
        // Allocated on first use: publishers may never send an id.
        self.newer.resize(WORDS, 0);
        self.count += 1;
        for bit in bits(self.hasher.of_texts(&[topic.as_str(), id])) {
            self.newer[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Returns whether an event with this id may have been evicted from the topic.
    pub fn may_contain(&self, topic: &TopicName, id: &str) -> bool {
        let hash = self.hasher.of_texts(&[topic.as_str(), id]);
        let is_in =
            |filter: &[u64]| bits(hash).all(|bit| filter.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1));
        is_in(&self.newer) || is_in(&self.older)
    }
}

/// Returns the bits that represent a hash in a filter: double hashing, with the halves of the hash as start and step.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let (start, step) = (hash & 0xFFFF_FFFF, hash >> 32 | 1);
    (0..PROBES).map(move |probe| (start + probe * step) as usize % (WORDS * 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_within_the_range_may_be_evicted() {
        let mut numbers = EvictedNumbers::NONE;
        assert!([0, 1, u64::MAX].iter().all(|&number| !numbers.may_contain(number)));
        numbers.add(None);
        assert!(numbers.has_any() && !EvictedNumbers::NONE.has_any() && !numbers.may_contain(0));
        numbers.add(Some(7));
        assert!(numbers.may_contain(7) && !numbers.may_contain(6) && !numbers.may_contain(8));
        numbers.merge(EvictedNumbers::NONE);
        numbers.add(Some(0));
        assert!(numbers.may_contain(0) && numbers.may_contain(6) && !numbers.may_contain(8));
        numbers.add(Some(u64::MAX));
        assert!(numbers.may_contain(8));
    }

    #[test]
    fn remembers_ids_for_a_generation_with_few_false_positives() {
        let topics = ["topicone1", "topictwo2"].map(|name| TopicName::parse(name).unwrap());
        let mut evicted = EvictedIds::default();
        assert!(!evicted.may_contain(&topics[0], "0"));
        let insert = |evicted: &mut EvictedIds, numbers: std::ops::Range<usize>| {
            numbers.for_each(|number| evicted.insert(&topics[0], &number.to_string()));
        };
        let known = |evicted: &EvictedIds, topic: usize, numbers: std::ops::Range<usize>| {
            numbers.filter(|number| evicted.may_contain(&topics[topic], &number.to_string())).count()
        };
        insert(&mut evicted, 0..2 * GENERATION);
        assert_eq!(known(&evicted, 0, 0..2 * GENERATION), 2 * GENERATION);
        insert(&mut evicted, 2 * GENERATION..2 * GENERATION + 1);
        assert_eq!(known(&evicted, 0, GENERATION..2 * GENERATION + 1), GENERATION + 1);
        // About 40 false positives are expected in each.
        assert!(known(&evicted, 0, 0..GENERATION) < 1000, "the oldest ids are forgotten");
        assert!(known(&evicted, 1, 0..GENERATION) < 1000, "ids are those of one topic");
        assert_eq!((evicted.newer.len(), evicted.older.len()), (WORDS, WORDS));
    }
}
