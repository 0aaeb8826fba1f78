//! What a store reports: its state, and why it refuses a request.

use std::fmt;

use super::Shortage;
use crate::metrics::Buckets;

/// The state of a store, and its counters since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether records can be inserted.
    pub health: Health,
    /// Transactions of inserts, each with one fsync.
    pub commits: u64,
    /// Records inserted.
    pub records: u64,
    /// Names in the store.
    pub names: u64,
    /// Pages of histories that were read.
    pub pages: u64,
    /// Queued inserts.
    pub queued: u64,
    /// Bytes of queued inserts.
    pub queued_bytes: u64,
    /// Records that the index is missing.
    pub unindexed: u64,
    /// Bytes of the WAL in use.
    pub wal_bytes: u64,
    /// How often the WAL has restarted from its beginning.
    pub wal_restarts: u64,
    /// Refused inserts, by [`StoreError`].
    pub refused: [u64; StoreError::NAMES.len()],
    /// The duration of the transactions, including their fsync.
    pub commit_time: Buckets,
}

impl Status {
    /// Returns the status of a store that is ready and empty.
    pub(crate) fn empty() -> Self {
        Self {
            health: Health::Ready,
            commits: 0,
            records: 0,
            names: 0,
            pages: 0,
            queued: 0,
            queued_bytes: 0,
            unindexed: 0,
            wal_bytes: 0,
            wal_restarts: 0,
            refused: [0; StoreError::NAMES.len()],
            commit_time: Buckets::default(),
        }
    }
}

/// Whether records can be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They can.
    Ready,
    /// Not until space is freed.
    Full(Shortage),
    /// Not until the broker is restarted.
    Failed {
        /// What failed, and SQLite's error.
        why: String,
    },
    /// The store is closed.
    Closed,
}

/// Why a record was not stored or a history could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Too many requests are queued. Nothing was stored.
    Busy,
    /// Another program holds a lock on the database. Nothing was stored.
    Locked,
    /// The disk is full. Nothing was stored.
    Full(Shortage),
    /// The disk failed. Whether the record is stored is known only after the next start.
    Failed,
    /// The store is closed. Nothing was stored.
    Closed,
}

impl StoreError {
    /// The errors' names in metrics, by [`StoreError::index`].
    pub(crate) const NAMES: [&str; 5] = ["busy", "locked", "full", "failed", "closed"];

    /// Returns the error's index in [`StoreError::NAMES`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::Busy => 0,
            Self::Locked => 1,
            Self::Full(_) => 2,
            Self::Failed => 3,
            Self::Closed => 4,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the store is overloaded; try again in a moment",
            Self::Locked => {
                "another program, such as a backup or the sqlite3 shell, has locked the database; inserts resume automatically once it releases the lock"
            }
            Self::Full(shortage) => {
                return write!(f, "{shortage}; free some space, and inserts resume automatically");
            }
            Self::Failed => "the store's disk has failed; see the broker's log, repair the disk, and restart the broker",
            Self::Closed => "the store is closed; try again after the broker's restart",
        })
    }
}

impl std::error::Error for StoreError {}
