//! How fast each publisher may publish.

use super::bucket_table::Buckets;
use super::token_bucket::{Excess, Rate};
use crate::auth::Principal;

/// See the module's page.
pub struct RateLimiter(Buckets<Principal>);

impl RateLimiter {
    /// A bucket of this kind for everybody.
    pub fn new(rate: Rate) -> Self {
        Self(Buckets::new(rate))
    }

    /// Events that may be published at once.
    pub fn burst(&self) -> u64 {
        self.0.rate().burst
    }

    /// Checks that a holder has an event left, and takes none.
    pub fn check(&self, holder: Principal, now_millis: u64) -> Result<(), Excess> {
        self.0.check(holder, now_millis)
    }

    /// Takes so many events out of a holder's bucket, all or none.
    pub fn take(&self, holder: Principal, events: usize, now_millis: u64) -> Result<(), Excess> {
        self.0.take(holder, events as u64, now_millis)
    }

    /// Buckets that are kept.
    pub fn buckets(&self) -> usize {
        self.0.len()
    }

    /// Gives back what a surge took, bit by bit.
    pub fn tidy(&self, now_millis: u64) {
        self.0.tidy(now_millis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_a_bucket_of_its_own() {
        let pace = RateLimiter::new(Rate { per_second: 1, burst: 1 });
        for holder in [Principal::Subject(1), Principal::Subject(2), Principal::Bearer(1)] {
            assert_eq!(pace.take(holder, 1, 0), Ok(()));
            assert_eq!(pace.take(holder, 1, 0), Err(Excess::ForNow(1)));
        }
        assert_eq!(pace.buckets(), 3);
    }
}
