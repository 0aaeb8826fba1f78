//! Removing versions and giving pages back, between commits and behind the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use crate::store::state::Shared;

/// The longest rest after a slice, in microseconds: under a higher load a slice must catch up with what is inserted in the meantime.
const MAX_REST_MICROS: u64 = 20_000;
/// Once this many records were inserted since the last slice, the next one does not wait for a checkpoint.
const MAX_UNTIDIED: usize = 512;

/// When the next slice may begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until then inserts come first, in microseconds.
    rest_until: u64,
}

impl Pace {
    /// Returns whether inserts come first.
    fn is_resting(&self, micros: u64) -> bool {
        micros < self.rest_until
    }

    /// Begins a rest after a slice, this many times as long.
    fn rest(&mut self, begin: u64, end: u64, times: u64) {
        self.rest_until = end + (end.saturating_sub(begin) * times).min(MAX_REST_MICROS);
    }

    /// Ends the rest, because no inserts have arrived.
    pub fn end_rest(&mut self) {
        self.rest_until = 0;
    }
}

/// Returns whether inserts are waiting.
pub(super) fn is_awaited(shared: &Shared) -> bool {
    shared.counters.queued.load(Ordering::Relaxed) > 0
}

impl Writer {
    /// Runs a slice, if one is due. Nothing is removed while the index is behind, on a disk without room for the log of that,
    /// or before checkpoints have caught up, because a long read of another program prevents them, for example.
    pub(super) fn tidy(&mut self) {
        if self.is_locked || self.tables.is_indexing() || !self.tables.must_tidy() || !self.has_room_to_tidy() {
            return;
        }
        let begin = self.tables.clock().elapsed_micros();
        if self.pace.is_resting(begin) || self.is_checkpointing() {
            self.must_tidy = true;
            return;
        }
        let shared = Arc::clone(&self.shared);
        let tidied = self.tables.tidy(self.tuning.prune_slice, &|| is_awaited(&shared));
        if self.check("removing versions", tidied) {
            self.must_tidy = self.tables.must_tidy();
        }
        self.pace.rest(begin, self.tables.clock().elapsed_micros(), self.tuning.prune_rest);
        self.update_gauges();
    }

    /// Returns whether a slice would compete with a checkpoint for the disk, and prolong it.
    fn is_checkpointing(&self) -> bool {
        self.checkpointer.is_running() && self.tables.untidied() < MAX_UNTIDIED
    }

    fn has_room_to_tidy(&mut self) -> bool {
        let wal_bytes = self.checkpointer.status().remaining();
        wal_bytes <= self.tuning.wal_limit / 2 && self.space.check(0, wal_bytes, self.now_millis()).is_none()
    }
}
