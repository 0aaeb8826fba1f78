//! The only reader of clocks, and the only one who sleeps. A [`Now`] is read once per turn of a worker and passed down, so
//! that everything below it can be tested with a time of the test's own making; a whole broker is by a [`ManualClock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// One moment, in the three times that the broker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the Unix epoch, of which ids are made. Follows the system clock forward, but
    /// goes on at its own pace while that is set back.
    pub id_micros: u64,
    /// Milliseconds since the Unix epoch by the system clock, for the `Date` field and what tokens say.
    pub unix_millis: u64,
    /// Milliseconds since the clock was made: what time-outs are measured by.
    pub millis: u64,
}

impl Now {
    /// The same with a time for time-outs that is not before `last`'s: on some virtual machines even the monotonic clock
    /// steps back, and whoever was written to a moment ago would count as silent for weeks.
    #[must_use]
    pub fn not_before(self, last: Self) -> Self {
        Self { millis: self.millis.max(last.millis), ..self }
    }

    /// Whole seconds since the Unix epoch by the system clock.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_millis / 1000
    }
}

/// A clock's face that is set by hand, for simulation.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// Microseconds since the Unix epoch, as an operator or another machine sets them: back, too.
    pub unix_micros: AtomicU64,
    /// Microseconds since the clock was made.
    pub elapsed_micros: AtomicU64,
}

impl ManualClock {
    /// Time passes.
    pub fn advance(&self, micros: u64) {
        self.elapsed_micros.fetch_add(micros, Ordering::Relaxed);
        self.unix_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Where a clock's times come from.
#[derive(Clone, Debug)]
enum Source {
    /// The system; when the clock was made.
    System(Instant),
    ManualClock(Arc<ManualClock>),
}

/// Reads the system's clocks. Clones agree with each other.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// The largest difference seen between the system clock and the time since the start.
    offset_micros: Arc<AtomicU64>,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { source: Source::System(Instant::now()), offset_micros: Arc::default() }
    }

    /// A clock that shows what is manual.
    pub fn manual(dial: Arc<ManualClock>) -> Self {
        Self { source: Source::ManualClock(dial), offset_micros: Arc::default() }
    }

    fn elapsed(&self) -> Duration {
        match &self.source {
            Source::System(start) => start.elapsed(),
            Source::ManualClock(dial) => Duration::from_micros(dial.elapsed_micros.load(Ordering::Relaxed)),
        }
    }

    fn wall(&self) -> Duration {
        match &self.source {
            Source::System(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Source::ManualClock(dial) => Duration::from_micros(dial.unix_micros.load(Ordering::Relaxed)),
        }
    }

    /// Waits for so long.
    pub fn sleep(&self, duration: Duration) {
        match &self.source {
            Source::System(_) => std::thread::sleep(duration),
            Source::ManualClock(dial) => dial.advance(micros(duration)),
        }
    }

    /// The present moment.
    pub fn now(&self) -> Now {
        let (wall, elapsed) = (self.wall(), self.elapsed());
        Now {
            id_micros: self.id_micros(micros(wall), micros(elapsed)),
            unix_millis: millis(wall),
            millis: millis(elapsed),
        }
    }

    /// The time of ids alone, for a look at it between two turns' moments.
    pub fn id_micros_now(&self) -> u64 {
        self.elapsed_micros() + self.offset_micros.load(Ordering::Relaxed)
    }

    /// Microseconds since the clock was made, for what takes less than a millisecond.
    pub fn elapsed_micros(&self) -> u64 {
        micros(self.elapsed())
    }

    /// From now on the time of ids is not before this: ids go on from here though the system's clock may
    /// be behind.
    pub fn advance_ids(&self, micros_at_least: u64) {
        let elapsed = self.elapsed_micros();
        self.offset_micros.fetch_max(micros_at_least.saturating_sub(elapsed), Ordering::Relaxed);
    }

    fn id_micros(&self, wall: u64, elapsed: u64) -> u64 {
        let offset = wall.saturating_sub(elapsed);
        let largest = self.offset_micros.load(Ordering::Relaxed);
        if offset > largest {
            // Only now: all workers read this mark in every turn.
            self.offset_micros.fetch_max(offset, Ordering::Relaxed);
        }
        elapsed + largest.max(offset)
    }
}

/// The system's monotonic clock, which a service manager reads as well.
pub fn monotonic() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Processor time that the process has taken.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// A duration in whole milliseconds, the unit of all time-outs.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// The `Date` field's format (RFC 9110 section 5.6.7) of seconds since the Unix epoch; what is beyond
/// the year 9999 is shown as the last second before.
pub fn imf_fixdate(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::{Clock, Now};

    #[test]
    fn the_time_of_time_outs_never_goes_back() {
        let at = |millis| Now { id_micros: 5, unix_millis: 6, millis };
        assert_eq!(at(9).not_before(at(10)).millis, 10);
        assert_eq!(at(11).not_before(at(10)).millis, 11);
        assert_eq!(at(9).not_before(at(10)).unix_millis, 6);
    }

    #[test]
    fn the_time_of_ids_follows_the_system_clock_forward_and_never_back() {
        let clock = Clock::new();
        assert_eq!(clock.id_micros(1_000, 10), 1_000);
        assert_eq!(clock.id_micros(5_000, 20), 5_000, "set forward");
        assert_eq!(clock.id_micros(2_000, 30), 5_010, "set back");
        assert_eq!(clock.id_micros(2_010, 40), 5_020);
        assert_eq!(clock.id_micros(9_000, 50), 9_000);
        let now = clock.now().id_micros;
        assert!((now..now + 60_000_000).contains(&clock.id_micros_now()), "the same time, a little later");
        clock.advance_ids(1 << 50);
        assert!(clock.now().id_micros >= 1 << 50, "though the system's clock is behind");
    }
}
