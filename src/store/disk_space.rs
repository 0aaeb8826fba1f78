//! Space on the disk: inserts are refused before it runs out, so that index, mark and the move of the log still fit.
//! Refuses to know what is done without.

use super::checkpointer::Log;
use super::location::Database;
use super::shortage::Shortage;

/// So many bytes are left alone, beside what the log has yet to bring into the database.
const RESERVE: u64 = 64 << 20;
/// The disk is looked at after so many milliseconds,
const LOOK_MILLIS: u64 = 250;
/// or after so many bytes.
const LOOK_BYTES: u64 = 8 << 20;

/// Tells a place's room in bytes; None: without bound, or unknown.
pub(super) type SpaceProbe = fn(&Database) -> Option<u64>;

/// What was last seen of it.
pub(super) struct DiskSpace {
    database: Database,
    gauge: SpaceProbe,
    looked_at: Option<u64>,
    since: u64,
    shortage: Option<Shortage>,
}

impl DiskSpace {
    pub fn new(database: Database, gauge: SpaceProbe) -> Self {
        Self { database, gauge, looked_at: None, since: 0, shortage: None }
    }

    /// Returns why so many bytes more can't be taken, if so.
    pub fn lacks(&mut self, bytes: u64, log: Log, now_millis: u64) -> Option<Shortage> {
        self.since += bytes;
        let is_fresh = self.looked_at.is_some_and(|at| now_millis - at < LOOK_MILLIS);
        if is_fresh && self.since < LOOK_BYTES {
            return self.shortage;
        }
        self.looked_at = Some(now_millis);
        self.since = bytes;
        let reserved = RESERVE + log.rest();
        let free = (self.gauge)(&self.database).filter(|&free| free < reserved + bytes);
        self.shortage = free.map(|free| Shortage::Reserve { free, reserved });
        self.shortage
    }

    /// The next look is a fresh one.
    pub fn doubt(&mut self) {
        self.looked_at = None;
    }
}
