//! Counters with one writer and any number of readers, so that counting needs no locked instruction. Independent of what is
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number. Only the owning thread may call this.
    pub fn add(&self, count: u64) {
        self.set(self.get() + count);
    }

    /// Subtracts from the number, down to 0. Only the owning thread may call this.
    pub fn subtract(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    /// Replaces the number. Only the owning thread may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the number to `value` if it is smaller. Only the owning thread may call this.
    pub fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter for each of `N` kinds, which are numbered from 0.
#[derive(Debug)]
pub struct CountersBy<const N: usize>([Counter; N]);

impl<const N: usize> CountersBy<N> {
    /// Counts one of a kind. Only the owning thread may call this.
    pub fn count(&self, kind: usize) {
        self.0[kind].add(1);
    }

    /// Adds to the numbers of all kinds. Only the owning thread may call this.
    pub fn add_all(&self, counts: &[u64; N]) {
        self.0.iter().zip(counts).for_each(|(counter, &count)| counter.add(count));
    }

    /// Returns the number of one kind.
    pub fn get(&self, kind: usize) -> u64 {
        self.0[kind].get()
    }

    /// Returns the sum over all kinds.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl<const N: usize> Default for CountersBy<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn a_maximum_only_grows() {
        let counter = Counter::default();
        let maxima = [3, 2, 3, 5, 0].map(|value| {
            counter.raise_to(value);
            counter.get()
        });
        assert_eq!(maxima, [3, 3, 3, 5, 5]);
    }
}
