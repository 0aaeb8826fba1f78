//! What a connection can wait for, and for how long.

use super::min_rate::{MinRate, RateMeter};
use crate::api::publish;
use crate::clock::millis;
use crate::config::Settings;
use crate::net::ListenerRole;

/// Time limit for requests on the administration's connections: they are few, and idle ones keep others out.
const ADMIN_MILLIS: u64 = 2_000;
/// How long a publish waits for room before it is refused.
const ROOM_MILLIS: u64 = 5_000;
/// The longest that work on a publish may take, in slices between which other connections are driven. Only a broker that is
/// overloaded beyond use takes this long.
const WORK_MILLIS: u64 = 60_000;
/// How long the store may take to reply; a disk that takes longer has failed.
const STORE_MILLIS: u64 = 60_000;
/// How long the store or the engine may take to look up a stream's position.
const LOOKUP_MILLIS: u64 = 5_000;
/// How long a connection lingers for the peer's end after its own.
const LINGER_MILLIS: u64 = 5_000;
/// How long a new connection may take to send its first request while the broker drains: a proxy sends it right away.
pub(super) const DRAIN_FIRST_MILLIS: u64 = 500;
/// How long a connection lingers while the broker drains.
pub(super) const DRAIN_LINGER_MILLIS: u64 = 500;
/// A body may pause for this many times the limit for a head.
const BODY_PAUSE_FACTOR: u64 = 3;
/// The minimum rate of a body: bodies share a budget of memory.
const BODY_RATE: MinRate = MinRate { grace_millis: 30_000, bytes_per_second: 1 << 10 };
/// The minimum rate at which output must be accepted after `--stall`, in bytes per second. Slow mobile connections (2G) reach
/// it; at this rate a page of 8 MiB takes 17 minutes.
const MIN_OUTPUT_RATE: u64 = 8 << 10;

/// What a connection waits for. Each has a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    /// The first request on a new connection.
    First,
    /// Another request.
    Next,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The broker's own work on a large publish.
    Work,
    /// The rest of a body that is dropped.
    Drop,
    /// Room in the hub for a publish.
    Room,
    /// The store's reply to an insert, an audit or an erasure.
    Store,
    /// The engine's reply to a publish.
    Engine,
    /// What has to be known before a stream is opened.
    Lookup,
    /// The permission to verify a token from the connection's address.
    Verification,
    /// Room in the socket for output.
    Output,
    /// The peer's end, after the broker's.
    Linger,
}

/// How long a connection waits for something.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimit {
    /// Milliseconds. If there is a minimum rate, they restart whenever bytes move.
    pub(super) millis: u64,
    /// The minimum rate of a transfer.
    pub(super) min_rate: Option<MinRate>,
}

impl TimeoutKind {
    /// Returns whether this is the reply of another thread, so that the peer has done its part.
    pub(super) fn is_reply(self) -> bool {
        matches!(self, Self::Store | Self::Engine | Self::Lookup)
    }

    /// Returns how long a connection waits for this.
    pub(super) fn limit(self, settings: &Settings, role: ListenerRole, is_draining: bool) -> TimeLimit {
        let stall = millis(settings.stall);
        let min_rate = match self {
            Self::Body => Some(BODY_RATE),
            Self::Output => Some(MinRate { grace_millis: stall, bytes_per_second: MIN_OUTPUT_RATE }),
            _ => None,
        };
        let millis = match self {
            Self::First | Self::Head | Self::Next if role == ListenerRole::Administration => ADMIN_MILLIS,
            Self::First | Self::Head | Self::Drop | Self::Verification => millis(settings.request_timeout),
            Self::Body => BODY_PAUSE_FACTOR * millis(settings.request_timeout),
            Self::Next => millis(settings.keep_alive),
            Self::Work => WORK_MILLIS,
            Self::Room => ROOM_MILLIS,
            Self::Store => STORE_MILLIS,
            Self::Engine => publish::REPLY_MILLIS,
            Self::Lookup => LOOKUP_MILLIS,
            Self::Output => stall,
            Self::Linger if is_draining => DRAIN_LINGER_MILLIS,
            Self::Linger => LINGER_MILLIS,
        };
        TimeLimit { millis, min_rate }
    }
}

/// The time limit that runs on a connection.
#[derive(Debug)]
pub(super) struct Timer {
    kind: TimeoutKind,
    /// In the worker's milliseconds.
    deadline: u64,
    /// How far ahead of its minimum rate the awaited transfer is.
    meter: RateMeter,
    /// Bytes read since the deadline was last updated.
    read: usize,
    /// Bytes written since then.
    written: usize,
}

impl Timer {
    /// Starts a timer.
    pub(super) fn new(kind: TimeoutKind, deadline: u64) -> Self {
        Self { kind, deadline, meter: RateMeter::default(), read: 0, written: 0 }
    }

    /// Returns what was awaited when the timer was last updated.
    pub(super) fn kind(&self) -> TimeoutKind {
        self.kind
    }

    /// Returns the millisecond in which the time is over.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Moves the deadline forward if it is later than this.
    pub(super) fn shorten(&mut self, deadline: u64) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Counts bytes read.
    pub(super) fn count_read(&mut self, bytes: usize) {
        self.read += bytes;
    }

    /// Counts bytes written.
    pub(super) fn count_written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Restarts the timer if something else is awaited now, or the next of its kind; otherwise moves the deadline of a transfer
    /// by the bytes that moved.
    pub(super) fn update(&mut self, kind: TimeoutKind, is_next: bool, limit: TimeLimit, now: u64) {
        let (read, written) = (std::mem::take(&mut self.read), std::mem::take(&mut self.written));
        let moved = if kind == TimeoutKind::Output { written } else { read };
        if is_next || kind != self.kind {
            self.kind = kind;
            self.meter = limit.min_rate.map_or(self.meter, |rate| RateMeter::begin(rate, now));
        } else {
            let Some(rate) = limit.min_rate.filter(|_| moved > 0) else { return };
            self.meter = self.meter.advance(rate, moved, now);
        }
        let latest = now + limit.millis;
        self.deadline = limit.min_rate.map_or(latest, |_| latest.min(self.meter.deadline()));
    }
}
