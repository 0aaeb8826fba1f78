//! Reads the clocks and sleeps; no other module does either. A worker reads a [`Now`] once per loop iteration and passes it
//! down, so that everything below can be tested with times chosen by the test. A [`ManualClock`] does this for a whole broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::ids::id_time::IdTime;

/// One moment, on the three time scales that the broker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time of ids ([`IdTime`]): microseconds since the Unix epoch. Never goes back, even if the system clock does.
    pub id_micros: u64,
    /// Milliseconds since the Unix epoch by the system clock, for the `Date` field and the times in tokens.
    pub unix_millis: u64,
    /// Milliseconds since the clock was created, for timeouts.
    pub millis: u64,
}

impl Now {
    /// Returns this moment with `millis` no smaller than in `last`. On some virtual machines even the monotonic clock steps
    /// back, and a connection that was written to a moment ago would count as silent for weeks.
    #[must_use]
    pub fn not_before(self, last: Self) -> Self {
        Self { millis: self.millis.max(last.millis), ..self }
    }

    /// Returns whole seconds since the Unix epoch by the system clock.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_millis / 1000
    }
}

/// Times that a simulation sets.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// Microseconds since the Unix epoch. May be set back, as operators and time servers do with a system clock.
    pub unix_micros: AtomicU64,
    /// Microseconds since the clock was created.
    pub elapsed_micros: AtomicU64,
}

impl ManualClock {
    /// Advances both times.
    pub fn advance(&self, micros: u64) {
        self.elapsed_micros.fetch_add(micros, Ordering::Relaxed);
        self.unix_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Where a clock's times come from.
#[derive(Clone, Debug)]
enum Source {
    /// The system's clocks. Holds the time at which this clock was created.
    System(Instant),
    #[cfg_attr(not(feature = "internals"), allow(dead_code, reason = "only a simulation creates it"))]
    Manual(Arc<ManualClock>),
}

/// Reads the time. Clones share their state, so they agree with each other.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    id_time: Arc<IdTime>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Creates a clock that reads the system's clocks. Its monotonic time begins now.
    pub fn new() -> Self {
        Self { source: Source::System(Instant::now()), id_time: Arc::default() }
    }

    /// Creates a clock that shows the times of `manual`.
    #[cfg(feature = "internals")]
    pub fn manual(manual: Arc<ManualClock>) -> Self {
        Self { source: Source::Manual(manual), id_time: Arc::default() }
    }

    fn elapsed(&self) -> Duration {
        match &self.source {
            Source::System(start) => start.elapsed(),
            Source::Manual(manual) => Duration::from_micros(manual.elapsed_micros.load(Ordering::Relaxed)),
        }
    }

    fn wall(&self) -> Duration {
        match &self.source {
            Source::System(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Source::Manual(manual) => Duration::from_micros(manual.unix_micros.load(Ordering::Relaxed)),
        }
    }

    /// Sleeps for this duration. A manual clock advances instead.
    pub fn sleep(&self, duration: Duration) {
        match &self.source {
            Source::System(_) => std::thread::sleep(duration),
            Source::Manual(manual) => manual.advance(micros(duration)),
        }
    }

    /// Returns the present moment.
    pub fn now(&self) -> Now {
        self.now_and_micros().0
    }

    /// Returns the present moment, and the reading of [`Clock::elapsed_micros`] at that moment.
    pub fn now_and_micros(&self) -> (Now, u64) {
        let (wall, elapsed) = (self.wall(), self.elapsed());
        let now = Now {
            id_micros: self.id_time.read(micros(wall), micros(elapsed)),
            unix_millis: millis(wall),
            millis: millis(elapsed),
        };
        (now, micros(elapsed))
    }

    /// Returns the time of ids alone. Cheaper than [`Clock::now`], because it does not read the system clock.
    pub fn id_micros_now(&self) -> u64 {
        self.id_time.estimate(self.elapsed_micros())
    }

    /// Returns microseconds since the clock was created, for measuring durations below a millisecond.
    pub fn elapsed_micros(&self) -> u64 {
        micros(self.elapsed())
    }

    /// Makes the time of ids at least `micros` from now on, even if the system clock is behind it.
    pub fn advance_ids(&self, micros: u64) {
        self.id_time.advance_to(micros, self.elapsed_micros());
    }
}

/// Returns the reading of the system's monotonic clock: for messages to a service manager, which reads the same clock, and for
/// measuring durations where there is no [`Clock`].
pub fn monotonic() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Returns the CPU time that the process has used.
pub fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// Converts a duration to whole milliseconds, the unit of all timeouts.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Formats seconds since the Unix epoch for the `Date` field (RFC 9110 section 5.6.7). Times after the year 9999 are
/// formatted as its last second.
pub fn imf_fixdate(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

#[cfg(test)]
mod tests {
    use super::{Clock, Now};

    #[test]
    fn the_time_for_timeouts_never_goes_back() {
        let at = |millis| Now { id_micros: 5, unix_millis: 6, millis };
        assert_eq!(at(9).not_before(at(10)).millis, 10);
        assert_eq!(at(11).not_before(at(10)).millis, 11);
        assert_eq!(at(9).not_before(at(10)).unix_millis, 6);
    }

    #[test]
    fn clones_share_the_time_of_ids() {
        let clock = Clock::new();
        let clone = clock.clone();
        let now = clock.now().id_micros;
        assert!((now..now + 60_000_000).contains(&clone.id_micros_now()), "the same time, a little later");
        clone.advance_ids(1 << 50);
        assert!(clock.now().id_micros >= 1 << 50, "the system clock is behind");
    }
}
