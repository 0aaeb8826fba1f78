//! The minimum average rate of a transfer, as a deadline that moves with the bytes. Independent of what is transferred.

/// The minimum average rate of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Milliseconds that a transfer may take before the rate matters; also the longest pause that faster bytes can pay for.
    pub grace_millis: u64,
    /// The rate.
    pub bytes_per_second: u64,
}

/// How far a transfer is ahead of the minimum rate: the moment at which it falls behind unless more bytes move.
///
/// Each byte moves the deadline by its share of a second, up to a grace period from now. So a transfer may pause for a grace
/// period, and one that moves a lot at once and then nothing is not kept for longer than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateMeter {
    deadline: u64,
    /// Bytes that did not amount to a whole millisecond, times 1000.
    remainder: u64,
}

impl RateMeter {
    /// Begins a transfer at `now`, in milliseconds of any clock.
    pub fn begin(rate: MinRate, now: u64) -> Self {
        Self { deadline: now + rate.grace_millis, remainder: 0 }
    }

    /// Returns the meter after `bytes` more bytes.
    #[must_use]
    pub fn advance(self, rate: MinRate, bytes: usize, now: u64) -> Self {
        let moved = self.remainder + bytes as u64 * 1000;
        let deadline = self.deadline + moved / rate.bytes_per_second;
        Self { deadline: deadline.min(now + rate.grace_millis), remainder: moved % rate.bytes_per_second }
    }

    /// Returns the millisecond in which the transfer is too slow unless more bytes have moved by then.
    pub fn deadline(self) -> u64 {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: MinRate = MinRate { grace_millis: 30_000, bytes_per_second: 1024 };

    /// Moves `bytes` bytes every `every_millis` milliseconds for ten minutes. Returns when that was too slow, if it was.
    fn too_slow(begin: RateMeter, bytes: usize, every_millis: u64) -> Option<u64> {
        let mut meter = begin;
        for now in (every_millis..600_000).step_by(every_millis as usize) {
            if meter.deadline() <= now {
                return Some(meter.deadline());
            }
            meter = meter.advance(RATE, bytes, now);
        }
        None
    }

    #[test]
    fn a_transfer_at_the_minimum_rate_is_never_too_slow() {
        let begin = RateMeter::begin(RATE, 0);
        for (bytes, every_millis) in [(1, 0), (1024, 1000), (10 * 1024, 10_000), (100, 50), (25 * 1024, 25_000)] {
            assert_eq!(too_slow(begin, bytes, every_millis.max(1)), None, "{bytes} bytes every {every_millis} ms");
        }
    }

    #[test]
    fn a_trickle_is_too_slow_however_fast_it_began() {
        let begin = RateMeter::begin(RATE, 0);
        assert_eq!(too_slow(begin, 0, 1000), Some(30_000));
        assert_eq!(too_slow(begin, 1, 25_000), Some(30_000));
        assert_eq!(too_slow(begin.advance(RATE, 256 << 20, 5), 1, 25_000), Some(30_005));
        let half = too_slow(begin, 512, 1000).expect("it is too slow");
        assert!((59_000..=61_000).contains(&half), "half the rate uses the grace period up in twice its time: {half}");
    }

    proptest! {
        /// Against a count in bytes: how many are missing at the deadline.
        #[test]
        fn the_deadline_is_when_the_bytes_are_missing(pieces in prop::collection::vec((0..3000_u64, 0..9000_usize), 0..60)) {
            let (mut meter, mut now) = (RateMeter::begin(RATE, 0), 0);
            // Thousandths of bytes by which the transfer is ahead.
            let full = RATE.grace_millis * RATE.bytes_per_second;
            let mut spare = full;
            for (millis, bytes) in pieces {
                now += millis;
                match spare.checked_sub(millis * RATE.bytes_per_second).filter(|&spare| spare > 0) {
                    None => {
                        prop_assert!(meter.deadline() <= now + 1);
                        return Ok(());
                    }
                    Some(left) => spare = (left + bytes as u64 * 1000).min(full),
                }
                prop_assert!(meter.deadline() > now.saturating_sub(1));
                meter = meter.advance(RATE, bytes, now);
                prop_assert!(meter.deadline().abs_diff(now + spare / RATE.bytes_per_second) <= 1);
            }
        }
    }
}
