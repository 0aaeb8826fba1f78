//! Histograms of durations. All have the same bounds, from a tenth of a millisecond to ten seconds. Independent of clocks.

use super::counter::{Counter, CountersBy};

/// The upper bounds of the buckets, in microseconds and in seconds. The last bucket has no bound and is not listed.
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
/// The number of buckets, including the one without a bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The counts of a histogram, for use by a single thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    counts: [u64; BUCKETS],
    sum_micros: u64,
}

impl Buckets {
    /// Counts a duration a number of times.
    pub fn add(&mut self, micros: u64, times: u64) {
        let bucket = BOUNDS.partition_point(|&(bound, _)| bound < micros);
        self.counts[bucket] += times;
        self.sum_micros += micros * times;
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_micros += other.sum_micros;
    }

    /// Returns the number of all durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Returns each bound in seconds with the number of durations that did not exceed it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.iter().zip(self.counts).scan(0, |below, (&(_, seconds), count)| {
            *below += count;
            Some((seconds, *below))
        })
    }
}

/// A histogram with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: CountersBy<BUCKETS>,
    sum_micros: Counter,
}

impl Histogram {
    /// Adds counts. Only the owning thread may call this.
    pub fn merge(&self, buckets: &Buckets) {
        self.counts.add_all(&buckets.counts);
        self.sum_micros.add(buckets.sum_micros);
    }

    /// Counts a duration. Only the owning thread may call this.
    pub fn add(&self, micros: u64) {
        let mut buckets = Buckets::default();
        buckets.add(micros, 1);
        self.merge(&buckets);
    }

    /// Returns the current counts.
    pub fn get(&self) -> Buckets {
        Buckets { counts: std::array::from_fn(|bucket| self.counts.get(bucket)), sum_micros: self.sum_micros.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        [0, 100, 101, 10_000_000, 10_000_001].into_iter().for_each(|micros| histogram.add(micros));
        let buckets = histogram.get();
        let cumulative: Vec<_> = buckets.cumulative().collect();
        assert_eq!(cumulative[..2], [(0.0001, 2), (0.000_25, 3)]);
        assert_eq!(cumulative[14..], [(5.0, 3), (10.0, 4)]);
        assert_eq!((buckets.count(), buckets.sum_seconds()), (5, 20.000_202));
    }

    #[test]
    fn bounds_ascend_and_agree_in_both_units() {
        assert!(BOUNDS.is_sorted());
        assert!(BOUNDS.iter().all(|&(micros, seconds)| (micros as f64 / 1e6 - seconds).abs() < 1e-12));
    }

    #[test]
    fn merged_histograms_keep_counts_and_sums() {
        let (mut one, mut other) = (Buckets::default(), Buckets::default());
        one.add(300, 64);
        other.add(700, 2);
        one.merge(&other);
        assert_eq!((one.count(), one.sum_seconds()), (66, 0.0206));
    }
}
