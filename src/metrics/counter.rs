//! Numbers with one writer and any number of readers: counting takes no locked instruction. Refuses to know what is
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts up. Only the owning thread may call this.
    pub fn add(&self, count: u64) {
        self.set(self.get() + count);
    }

    /// Counts down. Only the owning thread may call this.
    pub fn subtract(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    /// Overwrites. Only the owning thread may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one thing by its kinds, which have numbers from 0 to `N` - 1.
#[derive(Debug)]
pub struct CountersBy<const N: usize>([Counter; N]);

impl<const N: usize> CountersBy<N> {
    /// One more of this kind. Only the owning thread may call this.
    pub fn count(&self, kind: usize) {
        self.0[kind].add(1);
    }

    /// So many more of each kind. Only the owning thread may call this.
    pub fn add_all(&self, counts: &[u64; N]) {
        self.0.iter().zip(counts).for_each(|(counter, &count)| counter.add(count));
    }

    /// So many of this kind.
    pub fn get(&self, kind: usize) -> u64 {
        self.0[kind].get()
    }

    /// Of all kinds.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl<const N: usize> Default for CountersBy<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}
