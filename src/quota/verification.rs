//! How much of the broker's time each client address may take with tokens whose signature turns out to be bad. Anybody can
//! send those, and a signature costs up to 1.5 ms to verify. Good ones cost nothing here.

use super::Client;
use super::bucket_table::Buckets;
use super::token_bucket::{Excess, Rate};

/// Microseconds of failed verification per second that each address is allowed: a twentieth of one processor.
const MICROS_PER_SECOND: u64 = 50_000;
/// Microseconds at once after a pause, so that a page full of clients with tokens of an old key is answered at once.
const BURST_MICROS: u64 = 250_000;

/// Limits failed verifications per address. Clients through a Unix socket have no address and count as one.
pub struct VerificationLimiter(Buckets<Client>);

impl Default for VerificationLimiter {
    fn default() -> Self {
        Self(Buckets::new(Rate { per_second: MICROS_PER_SECOND, burst: BURST_MICROS }))
    }
}

impl VerificationLimiter {
    /// Returns whether a token from this address may be verified now. One that is not known to be good takes the allowance
    /// only once it has failed, so several that are verified at the same time may take more than is left; the address owes
    /// that.
    pub fn check(&self, client: Client, now_millis: u64) -> Result<(), Excess> {
        self.0.check(client, now_millis)
    }

    /// Charges an address with the time that a failed verification took.
    pub fn charge(&self, client: Client, micros: u64, now_millis: u64) {
        // In simulated time nothing takes any.
        if micros > 0 {
            self.0.charge(client, micros, now_millis);
        }
    }

    /// Gives back what a surge took, bit by bit.
    pub fn tidy(&self, now_millis: u64) {
        self.0.tidy(now_millis);
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
    fn an_address_that_has_used_up_its_allowance_waits_and_no_other_does() {
        let limiter = VerificationLimiter::default();
        limiter.charge(source(1), BURST_MICROS - 1, 0);
        assert_eq!(limiter.check(source(1), 0), Ok(()));
        limiter.charge(source(1), 100_000, 0);
        assert_eq!(limiter.check(source(1), 0), Err(Excess::ForNow(2)));
        assert_eq!([source(2), Client::Local].map(|other| limiter.check(other, 0)), [Ok(()); 2]);
        assert_eq!(
            (limiter.check(source(1), 1_999), limiter.check(source(1), 2_000)),
            (Err(Excess::ForNow(1)), Ok(()))
        );
        limiter.charge(Client::Local, BURST_MICROS, 2_000);
        assert!(limiter.check(Client::Local, 2_000).is_err(), "all Unix sockets are one");
    }

    proptest! {
        /// However forgeries come, what they take in any time is the burst, what the time brings, and one of them more.
        #[test]
        fn an_address_takes_no_more_than_its_allowance(
            tries in prop::collection::vec((0..40_u64, 1..3_000_u64), 1..500),
        ) {
            let limiter = VerificationLimiter::default();
            let (mut now, mut taken, mut dearest) = (0, 0, 0);
            for (millis, micros) in tries {
                now += millis;
                if limiter.check(source(1), now).is_ok() {
                    limiter.charge(source(1), micros, now);
                    (taken, dearest) = (taken + micros, dearest.max(micros));
                } else {
                    // It is not held back for nothing.
                    prop_assert!(taken >= BURST_MICROS);
                }
                prop_assert!(taken < BURST_MICROS + now * MICROS_PER_SECOND / 1000 + dearest);
            }
        }
    }
}
