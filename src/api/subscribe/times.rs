//! The times of a stream that are drawn at random, so that the streams of many clients don't end, and they don't reconnect, all
//! at the same moment.

/// Returns the second in which a stream ends that begins now: after 80 to 100 % of the maximum age, so that streams that began
/// at the same time end at different times. Rounded up, so that a stream never lives for less than 80 %.
pub(super) fn age_limit(now_millis: u64, max_age_millis: u64) -> u64 {
    let least = max_age_millis - max_age_millis / 5;
    (now_millis.saturating_add(fastrand::u64(least..=max_age_millis))).div_ceil(1000)
}

/// Returns the reconnection time ±33 %, so that clients that lost their connections at the same time reconnect at different
/// times.
pub(super) fn jittered(retry_millis: u64) -> u64 {
    let spread = retry_millis * 33 / 100;
    retry_millis - spread + fastrand::u64(0..=2 * spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_after_80_to_100_percent_of_their_maximum_age() {
        let drawn: Vec<_> = (0..1000).map(|_| age_limit(5_000, 1_000_000)).collect();
        assert!(drawn.iter().all(|second| (805..=1005).contains(second)));
        assert!(drawn.iter().min() < Some(&825) && drawn.iter().max() > Some(&985));
        assert!((0..100).all(|_| (1..=2).contains(&(age_limit(500, 1000)))));
        assert!(age_limit(u64::MAX, u64::MAX) > 0);
    }

    #[test]
    fn reconnection_times_are_spread_by_33_percent() {
        let drawn: Vec<_> = (0..1000).map(|_| jittered(3000)).collect();
        assert!(drawn.iter().all(|millis| (2010..=3990).contains(millis)));
        assert!(drawn.iter().min() < Some(&2200) && drawn.iter().max() > Some(&3800));
        assert_eq!(jittered(1), 1);
    }
}
