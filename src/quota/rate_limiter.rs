//! Limits how fast each principal publishes.

use super::bucket_table::BucketTable;
use super::token_bucket::{Excess, Rate};
use crate::auth::Principal;

/// A token bucket for each principal.
pub struct RateLimiter(BucketTable<Principal>);

impl RateLimiter {
    /// Creates a limiter that allows each principal this rate.
    pub fn new(rate: Rate) -> Self {
        Self(BucketTable::new(rate))
    }

    /// Returns the burst size in events.
    pub fn burst(&self) -> u64 {
        self.0.rate().burst
    }

    /// Checks that a principal may publish at least one event, and takes nothing.
    pub fn check(&self, principal: Principal, now_millis: u64) -> Result<(), Excess> {
        self.0.check(principal, now_millis)
    }

    /// Takes events from a principal's bucket, all or none.
    pub fn take(&self, principal: Principal, events: usize, now_millis: u64) -> Result<(), Excess> {
        self.0.take(principal, events as u64, now_millis)
    }

    /// Returns the number of buckets that are not known to be full.
    pub fn buckets(&self) -> usize {
        self.0.len()
    }

    /// Evicts some of the full buckets and returns their memory. Cheap; to be called periodically.
    pub fn evict_full(&self, now_millis: u64) {
        self.0.evict_full(now_millis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principal_has_its_own_bucket() {
        let limiter = RateLimiter::new(Rate { per_second: 1, burst: 1 });
        for principal in [Principal::Subject(1), Principal::Subject(2), Principal::Bearer(1)] {
            assert_eq!(limiter.take(principal, 1, 0), Ok(()));
            assert_eq!(limiter.take(principal, 1, 0), Err(Excess::RetryAfter(1)));
        }
        assert_eq!(limiter.buckets(), 3);
    }
}
