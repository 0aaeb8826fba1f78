//! What a broker reports of its engine: its state, and its counters.

use std::sync::Arc;

use super::log::{About, Peer};
use crate::metrics::Buckets;

/// Whether the broker can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ready,
    /// It has not caught up with the log since its start.
    Starting,
    /// The engine can't be reached, or refuses. Says why.
    Lost(Arc<str>),
    /// The log has entries that don't reach this broker.
    StandsStill,
    /// The log has an entry that this version can't read. Says which and why.
    Unreadable(Arc<str>),
    /// It is shutting down.
    Closed,
}

/// The state of the engine, and its counters since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Whether the broker can do its work.
    pub health: Health,
    /// What is known of the server, once there was a connection.
    pub about: Option<About>,
    /// How often the log has lost entries, ever.
    pub era: u64,
    /// The newest id of the log that the broker knows of.
    pub last: u64,
    /// The id up to which the broker has applied everything.
    pub applied: u64,
    /// How long, in milliseconds, the broker has known of an entry that it has not applied.
    pub behind_millis: u64,
    /// Publishes that wait to be appended, and their bytes.
    pub queued: (usize, usize),
    /// Acknowledgements and subscriptions that wait for the tail.
    pub waiting: usize,
    /// Events that this broker has appended.
    pub events_appended: u64,
    /// The duration of appends that succeeded. Their number is that of the entries.
    pub append_time: Buckets,
    /// Records that this broker has appended.
    pub records_appended: u64,
    /// Events that the broker has applied, its own included.
    pub events_followed: u64,
    /// Records that the broker has applied since it caught up, its own included.
    pub records_followed: u64,
    /// Newest records that the broker has read at its start, and after losses.
    pub records_loaded: u64,
    /// The bytes of memory that all records take in the engine, about.
    pub record_bytes: u64,
    /// All brokers that use the log, this one included.
    pub peers: Arc<[Peer]>,
    /// Connections that were made again.
    pub reconnects: u64,
    /// Appends that the log has refused because their session had ended.
    pub fenced: u64,
    /// Entries of the log that say that it has lost others.
    pub losses: u64,
    /// How often entries were trimmed before the broker had read them.
    pub trimmed: u64,
    /// Appends without an answer that turned out to be in the log.
    pub unknown_kept: u64,
    /// Appends without an answer that turned out not to be in the log.
    pub unknown_gone: u64,
    /// How long, in milliseconds, the broker took to catch up with the log at its start.
    pub warm_up_millis: u64,
    /// Pages of histories that were read.
    pub pages: u64,
    /// Ids of records that were looked up.
    pub lookups: u64,
}
