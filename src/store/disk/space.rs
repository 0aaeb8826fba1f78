//! Free space on the disk. Inserts are refused before it runs out, so that the index, the high-water mark and checkpoints
//! still fit.

use std::time::Duration;

use super::location::Database;
use super::shortage::Shortage;

/// The bytes kept free, in addition to what the next checkpoint adds to the database.
const RESERVE: u64 = 64 << 20;
/// A measurement is valid for this many milliseconds,
const VALID_MILLIS: u64 = 250;
/// or until this many bytes have been inserted.
const VALID_BYTES: u64 = 8 << 20;

/// Returns the free bytes on the database's disk; `None` if they are unlimited or unknown.
pub(in crate::store) type SpaceProbe = fn(&Database) -> Option<u64>;

/// The last measurement, and when a full disk is tried again. Times are in milliseconds, as in `Now::millis`.
pub(in crate::store) struct DiskSpace {
    database: Database,
    probe: SpaceProbe,
    /// `None` if the next call must measure.
    measured_at: Option<u64>,
    bytes_since: u64,
    shortage: Option<Shortage>,
    retry: Duration,
    /// When the disk was last found full, or last tried.
    full_at: u64,
}

impl DiskSpace {
    pub fn new(database: Database, probe: SpaceProbe, retry: Duration) -> Self {
        Self { database, probe, measured_at: None, bytes_since: 0, shortage: None, retry, full_at: 0 }
    }

    /// Returns why there is no room for this many bytes, or `None` if there is. A checkpoint will add at most `wal_bytes` to
    /// the database.
    pub fn check(&mut self, bytes: u64, wal_bytes: u64, now_millis: u64) -> Option<Shortage> {
        self.bytes_since += bytes;
        let is_valid = self.measured_at.is_some_and(|at| now_millis - at < VALID_MILLIS);
        if is_valid && self.bytes_since < VALID_BYTES {
            return self.shortage;
        }
        self.measured_at = Some(now_millis);
        self.bytes_since = bytes;
        let reserved = RESERVE + wal_bytes;
        let free = (self.probe)(&self.database).filter(|&free| free < reserved + bytes);
        self.shortage = free.map(|free| Shortage::Reserve { free, reserved });
        self.shortage
    }

    /// Makes the next [`DiskSpace::check`] measure.
    pub fn invalidate(&mut self) {
        self.measured_at = None;
    }

    /// Restarts the wait for the next try.
    pub fn defer_retry(&mut self, now_millis: u64) {
        self.full_at = now_millis;
    }

    /// Returns whether a full disk is due to be tried again.
    pub fn is_retry_due(&self, now_millis: u64) -> bool {
        now_millis - self.full_at >= self.retry.as_millis() as u64
    }
}
