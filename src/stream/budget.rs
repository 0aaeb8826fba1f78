//! What one loop iteration may spend on streams, so that accepts, requests and other topics are served as well.

use std::fmt;

/// The cost of all writes in one iteration. A write costs 1, and 1 more for every 16 KiB.
pub const BUDGET_PER_ITERATION: usize = 512;
/// The time of all writes in one iteration, in microseconds. Writes may take longer than their cost suggests.
const SERVE_MICROS: u64 = 2_000;
/// The clock is read once at least this much was spent since the last reading.
const COST_PER_READING: usize = 32;
/// The cost of writes to one group before the next group is served.
pub const BUDGET_PER_SLICE: usize = 128;
/// How many subscribers one iteration of a sweep or a drain looks at.
pub const CHECKS_PER_ITERATION: usize = 8192;

/// The bytes after which a write costs 1 more.
const BYTES_PER_UNIT: usize = 16 << 10;

/// Returns the cost of a write of `bytes` bytes.
pub fn cost(bytes: usize) -> usize {
    1 + bytes / BYTES_PER_UNIT
}

/// What is left of an iteration's budget, in cost and in time.
pub struct Allowance<'a> {
    left: usize,
    /// A clock in microseconds.
    micros: &'a dyn Fn() -> u64,
    began: u64,
    /// The time from `began` to the last reading of the clock, and how long it may become.
    elapsed: u64,
    limit: u64,
    /// The cost since the last reading.
    unmeasured: usize,
}

impl<'a> Allowance<'a> {
    /// Begins an iteration with the first half of this cost, and of the time.
    pub fn first_half(cost: usize, micros: &'a dyn Fn() -> u64) -> Self {
        let (left, limit) = (cost.div_ceil(2), SERVE_MICROS / 2);
        Self { left, micros, began: micros(), elapsed: 0, limit, unmeasured: 0 }
    }

    /// Adds the second half of this cost to what is left, and begins the second half of the time: it is the same, however long
    /// the first half took.
    pub fn begin_second_half(&mut self, cost: usize) {
        self.left += cost - cost.div_ceil(2);
        (self.began, self.elapsed, self.unmeasured) = ((self.micros)(), 0, 0);
    }

    /// Returns the cost that is left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Charges this cost, and from time to time the time that has passed.
    pub fn spend(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
        self.unmeasured += cost;
        if self.unmeasured >= COST_PER_READING {
            self.unmeasured = 0;
            self.elapsed = (self.micros)().saturating_sub(self.began);
        }
    }

    /// Returns whether the rest has to wait for the next iteration.
    pub fn is_spent(&self) -> bool {
        self.left == 0 || self.elapsed >= self.limit
    }
}

impl fmt::Debug for Allowance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowance").field("left", &self.left).field("elapsed", &self.elapsed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn half_of_the_cost_and_the_time_is_left_for_the_second_half() {
        let now = Cell::new(7);
        let micros = || now.get();
        let mut allowance = Allowance::first_half(201, &micros);
        allowance.spend(100);
        assert_eq!((allowance.left(), allowance.is_spent()), (1, false));
        allowance.spend(3);
        assert_eq!((allowance.left(), allowance.is_spent()), (0, true));
        allowance.begin_second_half(201);
        assert_eq!((allowance.left(), allowance.is_spent()), (100, false));
        now.set(6 + SERVE_MICROS / 2);
        allowance.spend(COST_PER_READING);
        assert!(!allowance.is_spent());
        now.set(7 + SERVE_MICROS / 2);
        allowance.spend(COST_PER_READING);
        assert!(allowance.is_spent() && allowance.left() > 0);
    }

    #[test]
    fn a_first_half_that_took_too_long_leaves_the_second_half() {
        let now = Cell::new(0);
        let micros = || now.get();
        let mut allowance = Allowance::first_half(512, &micros);
        now.set(10 * SERVE_MICROS);
        allowance.spend(COST_PER_READING);
        assert!(allowance.is_spent());
        allowance.begin_second_half(512);
        assert!(!allowance.is_spent());
        allowance.spend(COST_PER_READING);
        assert!(!allowance.is_spent());
    }

    #[test]
    fn the_clock_is_read_rarely_and_may_stand_still() {
        let readings = Cell::new(0);
        let micros = || {
            readings.set(readings.get() + 1);
            5
        };
        let mut allowance = Allowance::first_half(1000, &micros);
        (0..160).for_each(|_| allowance.spend(1));
        assert_eq!((allowance.is_spent(), readings.get()), (false, 1 + 160 / COST_PER_READING));
    }
}
