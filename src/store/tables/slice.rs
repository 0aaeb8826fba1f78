//! How long a slice of work between two commits may take.

use crate::clock::Clock;

/// A slice ends after this many microseconds if inserts are waiting.
const BUSY_MICROS: u64 = 1_000;
/// A slice ends after this many microseconds even if no inserts are waiting.
const IDLE_MICROS: u64 = 4_000;

/// A slice of work that has begun.
pub(in crate::store) struct Slice<'a> {
    clock: &'a Clock,
    /// Returns whether inserts are waiting.
    is_awaited: &'a dyn Fn() -> bool,
    begin: u64,
    max_micros: u64,
    rows: usize,
    min_rows: usize,
    max_rows: usize,
}

impl<'a> Slice<'a> {
    /// Begins a slice of at least `min_rows` rows, and of not many more than `max_rows`.
    pub fn begin(clock: &'a Clock, is_awaited: &'a dyn Fn() -> bool, min_rows: usize, max_rows: usize) -> Self {
        let (begin, max_micros, max_rows) = (clock.elapsed_micros(), IDLE_MICROS, max_rows.max(min_rows));
        Self { clock, is_awaited, begin, max_micros, rows: 0, min_rows, max_rows }
    }

    /// Returns the slice with another maximum duration, in microseconds, whether inserts are waiting or not.
    #[must_use]
    pub fn at_most(self, max_micros: u64) -> Self {
        Self { max_micros, ..self }
    }

    /// Adds rows that were processed. Returns whether the slice must end.
    pub fn is_over(&mut self, rows: usize) -> bool {
        self.rows += rows;
        if self.rows < self.min_rows || self.rows >= self.max_rows {
            return self.rows >= self.max_rows;
        }
        let micros = self.clock.elapsed_micros().saturating_sub(self.begin);
        micros >= self.max_micros || micros >= BUSY_MICROS && (self.is_awaited)()
    }

    /// Returns the time, in milliseconds.
    pub fn millis(&self) -> u64 {
        self.clock.now().millis
    }

    /// Returns the time of ids.
    pub fn id_micros(&self) -> u64 {
        self.clock.now().id_micros
    }
}
