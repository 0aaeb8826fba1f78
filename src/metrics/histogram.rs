//! How often something took how long. The bounds are the same for all: a tenth of a millisecond to ten seconds. Refuses
//! to know any clock.

use super::counter::{Counter, CountersBy};

/// The largest value of each bucket in microseconds, and the same in seconds; the last bucket, which has no bound, is
/// not among them.
pub const BOUNDS: [(u64, f64); 16] = [
    (100, 0.0001),
    (250, 0.000_25),
    (500, 0.0005),
    (1_000, 0.001),
    (2_500, 0.0025),
    (5_000, 0.005),
    (10_000, 0.01),
    (25_000, 0.025),
    (50_000, 0.05),
    (100_000, 0.1),
    (250_000, 0.25),
    (500_000, 0.5),
    (1_000_000, 1.0),
    (2_500_000, 2.5),
    (5_000_000, 5.0),
    (10_000_000, 10.0),
];
/// One more than there are bounds.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts of one thread's own, or read from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    counts: [u64; BUCKETS],
    sum_micros: u64,
}

impl Buckets {
    /// Something took so long, so many times.
    pub fn add(&mut self, micros: u64, times: u64) {
        let bucket = BOUNDS.partition_point(|&(bound, _)| bound < micros);
        self.counts[bucket] += times;
        self.sum_micros += micros * times;
    }

    /// All that others counted.
    pub fn merge(&mut self, others: &Self) {
        self.counts.iter_mut().zip(others.counts).for_each(|(count, more)| *count += more);
        self.sum_micros += others.sum_micros;
    }

    /// How often in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long in all.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Each bound in seconds, and how often it was not exceeded.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.iter().zip(self.counts).scan(0, |below, (&(_, seconds), count)| {
            *below += count;
            Some((seconds, *below))
        })
    }
}

/// The same with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: CountersBy<BUCKETS>,
    sum_micros: Counter,
}

impl Histogram {
    /// Adds what was counted. Only the owning thread may call this.
    pub fn merge(&self, buckets: &Buckets) {
        self.counts.add_all(&buckets.counts);
        self.sum_micros.add(buckets.sum_micros);
    }

    /// Something took so long. Only the owning thread may call this.
    pub fn add(&self, micros: u64) {
        let mut buckets = Buckets::default();
        buckets.add(micros, 1);
        self.merge(&buckets);
    }

    /// What was counted so far.
    pub fn get(&self) -> Buckets {
        Buckets { counts: std::array::from_fn(|bucket| self.counts.get(bucket)), sum_micros: self.sum_micros.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        [0, 100, 101, 10_000_000, 10_000_001].into_iter().for_each(|micros| histogram.add(micros));
        let buckets = histogram.get();
        let cumulative: Vec<_> = buckets.cumulative().collect();
        assert_eq!(cumulative[..2], [(0.0001, 2), (0.000_25, 3)]);
        assert_eq!(cumulative[14..], [(5.0, 3), (10.0, 4)]);
        assert_eq!((buckets.count(), buckets.sum_seconds()), (5, 20.000_202));
    }

    #[test]
    fn bounds_ascend_and_are_the_same_in_both_units() {
        assert!(BOUNDS.is_sorted());
        assert!(BOUNDS.iter().all(|&(micros, seconds)| (micros as f64 / 1e6 - seconds).abs() < 1e-12));
    }

    #[test]
    fn what_weighs_more_counts_more() {
        let (mut one, mut other) = (Buckets::default(), Buckets::default());
        one.add(300, 64);
        other.add(700, 2);
        one.merge(&other);
        assert_eq!((one.count(), one.sum_seconds()), (66, 0.0206));
    }
}
