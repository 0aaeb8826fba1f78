//! The arithmetic of one token bucket, in whole numbers. A bucket is kept as the moment at which it will be full, in a time
//! that runs as fast as it fills: a thousandth of an event at a time. So it is one number, and time fills it by itself. What
//! is called an event here may as well be a microsecond of work.

/// A thousandth of an event is what one event per second brings in a millisecond.
const EVENT: u64 = 1000;

/// How fast buckets fill, and how much they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events per second; not 0.
    pub per_second: u64,
    /// Events at once; not 0.
    pub burst: u64,
}

/// A bucket: when it will be full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u64);

/// Why so much can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Not now; after so many whole seconds, if nothing else is taken meanwhile.
    ForNow(u32),
    /// Never: it is more than a full bucket holds.
    ForEver,
}

impl Rate {
    /// The bucket after so many events were taken from it.
    pub(super) fn take(&self, bucket: Bucket, events: u64, now_millis: u64) -> Result<Bucket, Excess> {
        if events > self.burst {
            return Err(Excess::ForEver);
        }
        let left = self.charge(bucket, events, now_millis);
        let missing = left.0.saturating_sub(self.time(now_millis));
        match missing.saturating_sub(self.burst.saturating_mul(EVENT)) {
            0 => Ok(left),
            too_much => Err(Excess::ForNow(self.seconds(too_much))),
        }
    }

    /// The bucket after so many events, whose number is known only afterwards, were taken from it. If it had fewer, it owes
    /// them: until time has paid them back nothing can be taken.
    pub(super) fn charge(&self, bucket: Bucket, events: u64, now_millis: u64) -> Bucket {
        let now = self.time(now_millis);
        let missing = bucket.0.saturating_sub(now).saturating_add(events.saturating_mul(EVENT));
        Bucket(now.saturating_add(missing))
    }

    /// Whether it is full, and as good as none.
    pub(super) fn is_full(&self, bucket: Bucket, now_millis: u64) -> bool {
        bucket.0 <= self.time(now_millis)
    }

    fn time(&self, millis: u64) -> u64 {
        millis.saturating_mul(self.per_second)
    }

    fn seconds(&self, thousandths: u64) -> u32 {
        u32::try_from(thousandths.div_ceil(self.per_second.saturating_mul(EVENT))).unwrap_or(u32::MAX)
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
        assert_eq!(rate.take(bucket, 1, 1_000), Err(Excess::ForNow(1)));
        assert_eq!(rate.take(bucket, 1, 1_499), Err(Excess::ForNow(1)));
        let bucket = rate.take(bucket, 1, 1_500).unwrap();
        assert_eq!(rate.take(bucket, 3, 1_500), Err(Excess::ForNow(2)));
        assert_eq!(rate.take(bucket, 4, 1_500), Err(Excess::ForEver));
        assert!(rate.take(bucket, 3, 3_000).is_ok() && !rate.is_full(bucket, 2_999) && rate.is_full(bucket, 3_000));
    }

    #[test]
    fn a_time_that_goes_back_gives_nothing() {
        let rate = Rate { per_second: 1000, burst: 1 };
        let bucket = rate.take(Bucket::default(), 1, 500).unwrap();
        assert_eq!(rate.take(bucket, 1, 490), Err(Excess::ForNow(1)));
        assert!(rate.take(bucket, 1, 501).is_ok());
    }

    #[test]
    fn numbers_beyond_all_reason_do_no_harm() {
        let rate = Rate { per_second: u64::MAX, burst: u64::MAX };
        assert!(rate.take(Bucket(u64::MAX), u64::MAX, u64::MAX).is_ok());
        let rate = Rate { per_second: 1, burst: 1 };
        assert_eq!(rate.take(Bucket(u64::MAX), 1, 0), Err(Excess::ForNow(u32::MAX)));
        assert_eq!(rate.charge(Bucket(u64::MAX), u64::MAX, 5), Bucket(u64::MAX));
    }

    /// A bucket as one would draw it: filled drop by drop; below zero it owes.
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
                return Err(Excess::ForEver);
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
            Err(Excess::ForNow(seconds))
        }
    }

    proptest! {
        #[test]
        fn it_is_the_bucket_that_one_would_draw(
            (per_second, burst) in (1..50_u64, 1..50_u64),
            acts in prop::collection::vec((0..3_000_u64, 1..55_u64, any::<bool>()), 0..60),
        ) {
            let rate = Rate { per_second, burst };
            let mut naive = Naive { rate, thousandths: burst as i64 * 1000 };
            let (mut bucket, mut now) = (Bucket::default(), 0);
            for (millis, events, is_known_before) in acts {
                now += millis;
                naive.pass(millis);
                if !is_known_before {
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
