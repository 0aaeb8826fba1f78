//! The budget for driving connections in one loop iteration, in steps and in microseconds, so that streams are served in time
//! and no connection takes more than its share. Independent of clocks: their readings are passed in.

/// Steps of all connections together. A read costs one step, and one more for every 4 KiB; a request costs one.
const MAX_STEPS: usize = 1024;
/// Steps of one connection before the next one is driven, if many wait; if few do, they share what is left.
const SHARE_STEPS: usize = MAX_STEPS / 4;
/// Microseconds of one connection before the next one is driven, if many wait. A request is never interrupted: one that takes
/// longer is the only one of its connection in this iteration.
const SHARE_MICROS: u64 = 250;

/// The budget of one loop iteration, or of a part of it, and the share of the connection that is driven now.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The latest reading of the clock.
    now: u64,
    ends: u64,
    share_ends: u64,
    steps: usize,
    share_ends_at_step: usize,
}

impl Budget {
    /// Creates a budget of `micros` microseconds from this reading of the clock on.
    pub(crate) fn new(micros: u64, now: u64) -> Self {
        Self { now, ends: now.saturating_add(micros), share_ends: now, steps: 0, share_ends_at_step: 0 }
    }

    /// Begins the share of the connection that is driven next, while `waiting` others wait.
    pub(crate) fn begin_share(&mut self, waiting: usize) {
        let micros = self.ends.saturating_sub(self.now) / (waiting as u64 + 1);
        let steps = MAX_STEPS.saturating_sub(self.steps) / (waiting + 1);
        self.share_ends = self.now.saturating_add(micros.max(SHARE_MICROS));
        self.share_ends_at_step = self.steps.saturating_add(steps.max(SHARE_STEPS));
    }

    /// Charges steps.
    pub(crate) fn count(&mut self, steps: usize) {
        self.steps += steps;
    }

    /// Charges the time since the previous reading, and returns it. A clock that steps back costs nothing.
    pub(crate) fn measure(&mut self, now: u64) -> u64 {
        let now = now.max(self.now);
        now - std::mem::replace(&mut self.now, now)
    }

    /// Returns whether the rest has to wait for the next iteration.
    pub(crate) fn is_spent(&self) -> bool {
        self.steps >= MAX_STEPS || self.now >= self.ends
    }

    /// Returns whether the connection that is driven now has to wait for its next share.
    pub(crate) fn is_share_spent(&self) -> bool {
        self.is_spent() || self.steps >= self.share_ends_at_step || self.now >= self.share_ends
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 2_000;

    #[test]
    fn a_clock_that_steps_back_costs_nothing() {
        let mut budget = Budget::new(LIMIT, 1_000);
        assert_eq!([1_100, 900, 1_050, 1_101].map(|now| budget.measure(now)), [100, 0, 0, 1]);
        budget.measure(999 + LIMIT);
        assert!(!budget.is_spent());
        budget.measure(1_000 + LIMIT);
        assert!(budget.is_spent() && budget.is_share_spent());
    }

    #[test]
    fn steps_without_measurable_time_are_limited_by_count() {
        let mut budget = Budget::new(LIMIT, 0);
        let mut shares = 0;
        while !budget.is_spent() {
            budget.begin_share(100);
            shares += 1;
            while !budget.is_share_spent() {
                budget.count(1);
            }
        }
        assert_eq!((shares, budget.steps), (4, MAX_STEPS));
    }

    #[test]
    fn a_connection_gets_all_that_is_left_if_no_other_waits() {
        let mut budget = Budget::new(LIMIT, 0);
        budget.measure(100);
        budget.begin_share(0);
        budget.count(MAX_STEPS - 1);
        budget.measure(LIMIT - 1);
        assert!(!budget.is_share_spent());
        budget.count(1);
        assert!(budget.is_share_spent());
    }

    /// Adds up all charges.
    #[derive(Default)]
    struct Naive {
        all: Vec<(usize, u64)>,
        share: Vec<(usize, u64)>,
        share_limit: (usize, u64),
    }

    impl Naive {
        fn begin_share(&mut self, waiting: usize) {
            let (steps, micros) = sum(&self.all);
            let left = (MAX_STEPS.saturating_sub(steps), LIMIT.saturating_sub(micros));
            self.share_limit =
                ((left.0 / (waiting + 1)).max(SHARE_STEPS), (left.1 / (waiting as u64 + 1)).max(SHARE_MICROS));
            self.share.clear();
        }
    }

    fn sum(charges: &[(usize, u64)]) -> (usize, u64) {
        charges.iter().fold((0, 0), |sum, charge| (sum.0 + charge.0, sum.1 + charge.1))
    }

    fn is_beyond(charges: &[(usize, u64)], limit: (usize, u64)) -> bool {
        let (steps, micros) = sum(charges);
        steps >= limit.0 || micros >= limit.1
    }

    proptest! {
        #[test]
        fn is_spent_when_the_sum_of_all_charges_reaches_a_limit(
            acts in prop::collection::vec((prop::option::of(0..6_usize), 0..80_usize, 0..200_u64), 1..100),
        ) {
            let (mut budget, mut naive, mut now) = (Budget::new(LIMIT, 7), Naive::default(), 7);
            for (another, steps, micros) in acts {
                if let Some(waiting) = another {
                    budget.begin_share(waiting);
                    naive.begin_share(waiting);
                }
                now += micros;
                budget.count(steps);
                prop_assert_eq!(budget.measure(now), micros);
                naive.all.push((steps, micros));
                naive.share.push((steps, micros));
                let is_spent = is_beyond(&naive.all, (MAX_STEPS, LIMIT));
                prop_assert_eq!(budget.is_spent(), is_spent);
                let is_share_spent = is_spent || is_beyond(&naive.share, naive.share_limit);
                prop_assert_eq!(budget.is_share_spent(), is_share_spent);
            }
        }

        /// Drives a queue of connections as a worker does, each with requests of its own cost.
        #[test]
        fn a_connection_waits_at_most_for_one_share_of_each_other(costs in prop::collection::vec(1..2_000_u64, 1..40)) {
            let mut queue: VecDeque<_> = (0..costs.len()).collect();
            let (mut now, mut waited) = (0, vec![0; costs.len()]);
            for _ in 0..20 {
                let (mut budget, began) = (Budget::new(LIMIT, now), now);
                for _ in 0..queue.len() {
                    let Some(connection) = queue.pop_front() else { break };
                    let share_began = now;
                    budget.begin_share(queue.len());
                    let share = SHARE_MICROS.max((LIMIT - (now - began)) / (queue.len() as u64 + 1));
                    while !budget.is_share_spent() {
                        now += costs[connection];
                        budget.measure(now);
                    }
                    prop_assert!(now - share_began < share + costs[connection]);
                    waited.iter_mut().for_each(|time| *time += now - share_began);
                    waited[connection] = 0;
                    queue.push_back(connection);
                    if budget.is_spent() {
                        break;
                    }
                }
                let largest = costs.iter().max().copied().unwrap_or_default();
                prop_assert!(now - began < LIMIT + largest);
                let share_of_all: u64 = costs.iter().map(|cost| SHARE_MICROS + cost).sum();
                prop_assert!(waited.iter().all(|&time| time <= share_of_all + LIMIT));
            }
        }
    }
}
