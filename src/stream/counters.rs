//! What happened to a worker's streams since the metrics were last updated.

use crate::metrics::{Buckets, Close};

/// Counts since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Events written.
    pub delivered: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Gaps reported to subscribers.
    pub gaps: u64,
    /// Streams whose token expired.
    pub expired: u64,
    /// Streams closed, by [`Close`].
    pub closed: [u64; Close::NAMES.len()],
    /// Time from an event's id to its write, for subscribers that were ready.
    pub latency: Buckets,
}

impl StreamCounters {
    /// Returns whether anything was counted. The other counts never change without one of these.
    pub(super) fn has_news(&self) -> bool {
        let Self { bytes, gaps, expired, closed, .. } = self;
        *bytes > 0 || *gaps > 0 || *expired > 0 || closed.iter().sum::<u64>() > 0
    }

    /// Counts a write: `events` in `bytes`.
    #[inline]
    pub(super) fn add_write(&mut self, events: usize, bytes: usize) {
        self.delivered += events as u64;
        self.bytes += bytes as u64;
    }

    /// Counts a gap that is reported.
    pub(super) fn add_gap(&mut self) {
        self.gaps += 1;
    }

    /// Counts a stream whose token has expired.
    pub(super) fn add_expired(&mut self) {
        self.expired += 1;
    }

    /// Counts a closed stream.
    pub(super) fn add_closed(&mut self, why: Close) {
        self.closed[why as usize] += 1;
    }
}
