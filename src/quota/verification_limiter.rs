//! Limits how much CPU time each client address may use with tokens whose signature is invalid. Anybody can send such tokens,
//! and verifying a signature takes up to 1.5 ms. Valid tokens are not limited.

use super::Client;
use super::bucket_table::BucketTable;
use super::token_bucket::{Excess, Rate};

/// Microseconds of failed verification per second and address: a twentieth of one CPU.
const MICROS_PER_SECOND: u64 = 50_000;
/// The burst size in microseconds, enough for many clients at one address to present tokens of an old key without a delay.
const BURST_MICROS: u64 = 250_000;

/// Limits failed verifications per address. All clients on Unix sockets, which have no address, count as one.
pub struct VerificationLimiter(BucketTable<Client>);

impl Default for VerificationLimiter {
    fn default() -> Self {
        Self(BucketTable::new(Rate { per_second: MICROS_PER_SECOND, burst: BURST_MICROS }))
    }
}

impl VerificationLimiter {
    /// Checks that a token from this address may be verified now. An address is charged only after a verification has failed,
    /// so several at the same time may use more than what is left; the address is then in debt.
    pub fn check(&self, client: Client, now_millis: u64) -> Result<(), Excess> {
        self.0.check(client, now_millis)
    }

    /// Charges an address with the time that a failed verification took.
    pub fn charge(&self, client: Client, micros: u64, now_millis: u64) {
        // In simulated time, a verification takes 0 microseconds.
        if micros > 0 {
            self.0.charge(client, micros, now_millis);
        }
    }

    /// Evicts some of the full buckets and returns their memory. Cheap; to be called periodically.
    pub fn evict_full(&self, now_millis: u64) {
        self.0.evict_full(now_millis);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn source(last: u8) -> Client {
        Client::from(Some(IpAddr::from([127, 0, 0, last])))
    }

    #[test]
    fn only_the_address_that_used_up_its_allowance_must_wait() {
        let limiter = VerificationLimiter::default();
        limiter.charge(source(1), BURST_MICROS - 1, 0);
        assert_eq!(limiter.check(source(1), 0), Ok(()));
        limiter.charge(source(1), 100_000, 0);
        assert_eq!(limiter.check(source(1), 0), Err(Excess::RetryAfter(2)));
        assert_eq!([source(2), Client::Local].map(|other| limiter.check(other, 0)), [Ok(()); 2]);
        assert_eq!(
            (limiter.check(source(1), 1_999), limiter.check(source(1), 2_000)),
            (Err(Excess::RetryAfter(1)), Ok(()))
        );
        limiter.charge(Client::Local, BURST_MICROS, 2_000);
        assert!(limiter.check(Client::Local, 2_000).is_err(), "all Unix sockets count as one");
    }

    proptest! {
        /// However forgeries are timed, they use no more than the burst, what has been refilled, and one verification more.
        #[test]
        fn an_address_uses_no_more_than_its_allowance(
            tries in prop::collection::vec((0..40_u64, 1..3_000_u64), 1..500),
        ) {
            let limiter = VerificationLimiter::default();
            let (mut now, mut used, mut longest) = (0, 0, 0);
            for (millis, micros) in tries {
                now += millis;
                if limiter.check(source(1), now).is_ok() {
                    limiter.charge(source(1), micros, now);
                    (used, longest) = (used + micros, longest.max(micros));
                } else {
                    // An address is refused only when its burst is used up.
                    prop_assert!(used >= BURST_MICROS);
                }
                prop_assert!(used < BURST_MICROS + now * MICROS_PER_SECOND / 1000 + longest);
            }
        }
    }
}
