//! When to connect again after a failure: soon at first, then less and less often.

/// The shortest and the longest time between two attempts, in milliseconds.
const RANGE: (u64, u64) = (100, 5_000);

/// The time of the next attempt to connect.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Failures since the last success.
    failures: u32,
    retry_at: u64,
}

impl Backoff {
    /// Returns the milliseconds until the next attempt.
    pub fn left(&self, now: u64) -> u64 {
        self.retry_at.saturating_sub(now)
    }

    /// Notes a failure: the next attempt is after up to twice the time, chosen at random so that brokers don't all come at the
    /// same moment.
    pub fn fail(&mut self, now: u64) {
        let limit = (RANGE.0 << self.failures.min(16)).min(RANGE.1);
        self.failures += 1;
        self.retry_at = now + fastrand::u64(limit / 2..=limit);
    }

    /// Notes a success: the next attempt may be at once.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rare_up_to_a_bound() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.left(7), 0);
        let waits: Vec<_> = (0..40)
            .map(|_| {
                backoff.fail(1000);
                backoff.left(1000)
            })
            .collect();
        assert!((50..=100).contains(&waits[0]) && (100..=200).contains(&waits[1]), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (2_500..=5_000).contains(wait)), "{waits:?}");
        backoff.succeed();
        assert_eq!(backoff.left(0), 0);
    }
}
