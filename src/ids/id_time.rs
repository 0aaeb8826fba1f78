//! The time that ids are made of. It follows the system clock forward. While that clock is set back, it continues at the pace
//! of the monotonic clock. Independent of clocks: both readings are passed in.

use std::sync::atomic::{AtomicU64, Ordering};

/// Turns clock readings into the time of ids. Shared by all threads.
#[derive(Debug, Default)]
pub struct IdTime {
    /// The largest difference seen between the system clock and the monotonic clock, in microseconds.
    offset: AtomicU64,
}

impl IdTime {
    /// Returns the time of ids, in microseconds since the Unix epoch, from a reading of the system clock and one of the
    /// monotonic clock.
    pub fn read(&self, unix_micros: u64, elapsed_micros: u64) -> u64 {
        let offset = unix_micros.saturating_sub(elapsed_micros);
        let largest = self.offset.load(Ordering::Relaxed);
        if offset > largest {
            // Written only when it grows: all workers read it in every loop iteration.
            self.offset.fetch_max(offset, Ordering::Relaxed);
        }
        elapsed_micros + largest.max(offset)
    }

    /// Returns the time of ids without a new reading of the system clock.
    pub fn estimate(&self, elapsed_micros: u64) -> u64 {
        elapsed_micros + self.offset.load(Ordering::Relaxed)
    }

    /// Makes every later time at least `micros`, even if the system clock is behind it.
    pub fn advance_to(&self, micros: u64, elapsed_micros: u64) {
        self.offset.fetch_max(micros.saturating_sub(elapsed_micros), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_system_clock_forward_but_not_back() {
        let time = IdTime::default();
        assert_eq!(time.read(1_000, 10), 1_000);
        assert_eq!(time.read(5_000, 20), 5_000, "set forward");
        assert_eq!(time.read(2_000, 30), 5_010, "set back");
        assert_eq!(time.read(2_010, 40), 5_020);
        assert_eq!(time.read(9_000, 50), 9_000);
        assert_eq!(time.estimate(60), 9_010);
    }

    #[test]
    fn continues_from_the_time_it_is_advanced_to() {
        let time = IdTime::default();
        time.advance_to(1 << 50, 100);
        assert_eq!(time.read(1_000, 107), (1 << 50) + 7);
        time.advance_to(1 << 40, 200);
        assert_eq!(time.estimate(200), (1 << 50) + 100, "an earlier time changes nothing");
    }
}
