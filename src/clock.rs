//! The only reader of clocks. A [`Now`] is read once per turn of a worker and passed down, so that
//! everything below it can be tested with a time of the test's own making.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment, in the two times that the broker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the Unix epoch: what ids are made of. May jump when the system clock is set.
    pub wall_micros: u64,
    /// Milliseconds since the clock was made: what time-outs are measured by. Never goes back.
    pub millis: u64,
}

impl Now {
    /// Seconds since the Unix epoch.
    pub fn wall_seconds(self) -> u64 {
        self.wall_micros / 1_000_000
    }
}

/// Reads the system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            wall_micros: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX / 2),
            millis: millis(self.start.elapsed()),
        }
    }
}

/// A duration in whole milliseconds, the unit of all time-outs.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
