//! When the streams of a drain end: spread evenly over `--drain`, and all that are left after it.

/// How long a drain may take after `--drain`: the ten seconds that are documented, less what joining the threads may take.
const DRAIN_MILLIS: u64 = 9_000;
/// How long before its end a drain stops waiting for the engine and the store: the streams need the rest to end, and the clients
/// to receive their responses.
const ENDING_MILLIS: u64 = 2_500;

/// The schedule of one worker's drain, in the worker's milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    begin: u64,
    /// The time over which streams end.
    spread: u64,
    /// The streams that were open at the beginning.
    streams: u64,
    /// The part of the first interval, in fractions of `spread`, that counts as passed at the beginning. It is random: otherwise
    /// the streams of all workers would end at the same moments.
    head_start: u64,
}

impl Schedule {
    /// Plans a drain that begins now.
    pub(super) fn new(begin: u64, spread: u64, streams: usize) -> Self {
        let head_start = if spread == 0 { 0 } else { fastrand::u64(0..spread) };
        Self { begin, spread, streams: streams as u64, head_start }
    }

    /// Returns how many streams may have ended by now. After the spread, there is no limit.
    pub(super) fn due(self, now: u64) -> usize {
        if !self.is_spreading(now) {
            return usize::MAX;
        }
        let due = (self.streams * now.saturating_sub(self.begin) + self.head_start) / self.spread;
        usize::try_from(due).unwrap_or(usize::MAX)
    }

    /// Returns whether streams end one after the other.
    pub(super) fn is_spreading(self, now: u64) -> bool {
        now < self.begin + self.spread
    }

    /// Returns whether streams still wait for publishes and inserts that have no response.
    pub(super) fn is_patient(self, now: u64) -> bool {
        now < self.begin + DRAIN_MILLIS - ENDING_MILLIS
    }

    /// Returns when publishes stop waiting for the engine.
    pub(super) fn responses_until(self) -> u64 {
        self.until() - ENDING_MILLIS
    }

    /// Returns when the drain ends at the latest.
    pub(super) fn until(self) -> u64 {
        self.begin + self.spread + DRAIN_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 7_000;

    fn schedule(spread: u64, streams: u64, head_start: u64) -> Schedule {
        Schedule { begin: BEGIN, spread, streams, head_start }
    }

    #[test]
    fn streams_end_at_equal_intervals() {
        let schedule = schedule(2_000, 4, 0);
        let due = |elapsed: u64| schedule.due(BEGIN + elapsed);
        assert_eq!([0, 499, 500, 999, 1_000, 1_500, 1_999].map(due), [0, 0, 1, 1, 2, 3, 3]);
        assert_eq!(due(2_000), usize::MAX, "those that were not ready, or are new, end as well");
    }

    /// A worker's streams all end within the time, wherever its intervals begin.
    #[test]
    fn the_intervals_of_a_worker_begin_at_random() {
        for head_start in [0, 1, 999, 1_000, 1_999] {
            let schedule = schedule(2_000, 2, head_start);
            let turn = |number: usize| (0..).find(|elapsed| schedule.due(BEGIN + elapsed) >= number).unwrap();
            let interval = 1_000;
            assert_eq!(turn(1), (2_000 - head_start).div_ceil(2));
            assert_eq!(turn(2), turn(1) + interval);
        }
        let starts: Vec<_> = (0..50).map(|_| Schedule::new(BEGIN, 2_000, 1).head_start).collect();
        assert!(starts.iter().all(|start| *start < 2_000) && starts.iter().any(|start| *start != starts[0]));
    }

    #[test]
    fn without_a_spread_all_end_at_once() {
        let schedule = Schedule::new(BEGIN, 0, 4);
        assert_eq!((schedule.due(BEGIN), schedule.is_spreading(BEGIN)), (usize::MAX, false));
        assert_eq!((schedule.responses_until(), schedule.until()), (BEGIN + 6_500, BEGIN + 9_000));
    }

    #[test]
    fn the_spread_is_added_to_the_limits() {
        let schedule = schedule(60_000, 4, 0);
        assert!(schedule.is_patient(BEGIN + 6_499) && !schedule.is_patient(BEGIN + 6_500));
        assert_eq!((schedule.responses_until(), schedule.until()), (BEGIN + 66_500, BEGIN + 69_000));
    }
}
