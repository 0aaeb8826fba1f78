//! The arithmetic of one token bucket, in integers. A bucket is stored as the time at which it will be full, in units of the
//! time that a thousandth of an event takes to refill. So a bucket is a single number, and refills without being updated. What
//! is called an event here may be any unit, such as a microsecond of CPU time.

/// The units of one event: at one event per second, a bucket gains one unit per millisecond.
const EVENT: u64 = 1000;

/// How fast a bucket refills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per second. At least 1.
    pub per_second: u64,
    /// The burst size: how many events a full bucket holds. At least 1.
    pub burst: u64,
}

/// A bucket, as the time at which it will be full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u64);

/// Why events can't be taken from a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The bucket will have enough after this many seconds, rounded up, unless more is taken before.
    RetryAfter(u32),
    /// Even a full bucket does not hold that many.
    ExceedsBurst,
}

impl Rate {
    /// Takes events from a bucket and returns what is left.
    pub(super) fn take(&self, bucket: Bucket, events: u64, now_millis: u64) -> Result<Bucket, Excess> {
        if events > self.burst {
            return Err(Excess::ExceedsBurst);
        }
        let left = self.charge(bucket, events, now_millis);
        let missing = left.0.saturating_sub(self.units(now_millis));
        match missing.saturating_sub(self.burst.saturating_mul(EVENT)) {
            0 => Ok(left),
            excess => Err(Excess::RetryAfter(self.seconds(excess))),
        }
    }

    /// Takes events from a bucket even if it has fewer, and returns what is left. For a cost that is known only afterwards. A
    /// bucket in debt must refill beyond zero before anything can be taken.
    pub(super) fn charge(&self, bucket: Bucket, events: u64, now_millis: u64) -> Bucket {
        let now = self.units(now_millis);
        let missing = bucket.0.saturating_sub(now).saturating_add(events.saturating_mul(EVENT));
        Bucket(now.saturating_add(missing))
    }

    /// Returns whether a bucket is full, which is equivalent to having no bucket.
    pub(super) fn is_full(&self, bucket: Bucket, now_millis: u64) -> bool {
        bucket.0 <= self.units(now_millis)
    }

    /// Converts milliseconds to the units of buckets.
    fn units(&self, millis: u64) -> u64 {
        millis.saturating_mul(self.per_second)
    }

    /// Converts the units of buckets to seconds, rounded up.
    fn seconds(&self, units: u64) -> u32 {
        u32::try_from(units.div_ceil(self.per_second.saturating_mul(EVENT))).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_burst_is_exact_and_the_rate_refills_it() {
        let rate = Rate { per_second: 2, burst: 3 };
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket = rate.take(bucket, 1, 1_000).unwrap();
        }
        assert_eq!(rate.take(bucket, 1, 1_000), Err(Excess::RetryAfter(1)));
        assert_eq!(rate.take(bucket, 1, 1_499), Err(Excess::RetryAfter(1)));
        let bucket = rate.take(bucket, 1, 1_500).unwrap();
        assert_eq!(rate.take(bucket, 3, 1_500), Err(Excess::RetryAfter(2)));
        assert_eq!(rate.take(bucket, 4, 1_500), Err(Excess::ExceedsBurst));
        assert!(rate.take(bucket, 3, 3_000).is_ok() && !rate.is_full(bucket, 2_999) && rate.is_full(bucket, 3_000));
    }

    #[test]
    fn a_clock_that_steps_back_refills_nothing() {
        let rate = Rate { per_second: 1000, burst: 1 };
        let bucket = rate.take(Bucket::default(), 1, 500).unwrap();
        assert_eq!(rate.take(bucket, 1, 490), Err(Excess::RetryAfter(1)));
        assert!(rate.take(bucket, 1, 501).is_ok());
    }

    #[test]
    fn extreme_numbers_saturate() {
        let rate = Rate { per_second: u64::MAX, burst: u64::MAX };
        assert!(rate.take(Bucket(u64::MAX), u64::MAX, u64::MAX).is_ok());
        let rate = Rate { per_second: 1, burst: 1 };
        assert_eq!(rate.take(Bucket(u64::MAX), 1, 0), Err(Excess::RetryAfter(u32::MAX)));
        assert_eq!(rate.charge(Bucket(u64::MAX), u64::MAX, 5), Bucket(u64::MAX));
    }

    /// A straightforward bucket, refilled millisecond by millisecond. A negative level is a debt.
    struct Naive {
        rate: Rate,
        thousandths: i64,
    }

    impl Naive {
        fn pass(&mut self, millis: u64) {
            for _ in 0..millis {
                self.thousandths = (self.thousandths + self.rate.per_second as i64).min(self.rate.burst as i64 * 1000);
            }
        }

        fn take(&mut self, events: u64) -> Result<(), Excess> {
            if events > self.rate.burst {
                return Err(Excess::ExceedsBurst);
            }
            let wanted = events as i64 * 1000;
            if self.thousandths >= wanted {
                self.thousandths -= wanted;
                return Ok(());
            }
            let mut later = Self { ..*self };
            let mut seconds = 0;
            while later.thousandths < wanted {
                later.pass(1000);
                seconds += 1;
            }
            Err(Excess::RetryAfter(seconds))
        }
    }

    proptest! {
        #[test]
        fn the_arithmetic_matches_a_naive_bucket(
            (per_second, burst) in (1..50_u64, 1..50_u64),
            acts in prop::collection::vec((0..3_000_u64, 1..55_u64, any::<bool>()), 0..60),
        ) {
            let rate = Rate { per_second, burst };
            let mut naive = Naive { rate, thousandths: burst as i64 * 1000 };
            let (mut bucket, mut now) = (Bucket::default(), 0);
            for (millis, events, is_known_in_advance) in acts {
                now += millis;
                naive.pass(millis);
                if !is_known_in_advance {
                    bucket = rate.charge(bucket, events, now);
                    naive.thousandths -= events as i64 * 1000;
                    continue;
                }
                let taken = rate.take(bucket, events, now);
                prop_assert_eq!(taken.map(|_| ()), naive.take(events));
                bucket = taken.unwrap_or(bucket);
                prop_assert_eq!(rate.is_full(bucket, now), naive.thousandths == burst as i64 * 1000);
            }
        }
    }
}
