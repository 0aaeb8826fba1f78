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
    /// Versions removed because of the retention.
    pub pruned: u64,
    /// Bytes of the database, without the WAL.
    pub database_bytes: u64,
    /// How many of them are free.
    pub free_bytes: u64,
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
            pruned: 0,
            database_bytes: 0,
            free_bytes: 0,
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
    /// Not until another program releases its lock on the database.
    Locked {
        /// The program, if it is known.
        holder: Option<LockHolder>,
        /// How long it has been known, in milliseconds.
        millis: u64,
    },
    /// Not until space is freed.
    Full(Shortage),
    /// Not until the broker is restarted.
    Failed {
        /// What failed, and SQLite's error.
        why: String,
    },
    /// Not until the broker is restarted: a file of the store was removed or replaced.
    Removed {
        /// What happened to which file.
        why: String,
    },
    /// The store is closed.
    Closed,
}

/// What a refused client is told about a lock.
pub(crate) const UNLOCK: &str = "try again once it releases its lock";

/// A program that holds a lock on the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockHolder {
    pub(super) pid: u32,
    /// The beginning of its name, in printable ASCII and padded with zeros; all zeros if it is unknown.
    pub(super) name: [u8; NAME_BYTES],
}

/// The bytes of a process's name on Linux, without the terminating zero.
pub(super) const NAME_BYTES: usize = 15;

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        match String::from_utf8_lossy(&self.name).trim_end_matches('\0') {
            "" => Ok(()),
            name => write!(f, " ({name})"),
        }
    }
}

/// Says that another program holds the database, and which one, as far as that is known.
pub(crate) struct HeldBy(pub Option<LockHolder>);

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => write!(f, "another program holds the database: {holder}"),
            None => f.write_str("another program holds the database, such as a backup or the sqlite3 shell"),
        }
    }
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
    /// The data directory was removed, renamed or replaced while the broker was running. Nothing was stored.
    Removed,
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
            Self::Failed | Self::Removed => 3,
            Self::Closed => 4,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the store is overloaded; try again in a moment",
            Self::Locked => return write!(f, "{}; {UNLOCK}", HeldBy(None)),
            Self::Full(shortage) => {
                return write!(f, "{shortage}; free some space, and inserts resume automatically");
            }
            Self::Failed => "the store's disk has failed; see the broker's log, repair the disk, and restart the broker",
            Self::Removed => {
                "the data directory was removed, renamed or replaced while the broker was running; see the broker's log for how to save the records before you stop it"
            }
            Self::Closed => "the store is closed; try again after the broker's restart",
        })
    }
}

impl std::error::Error for StoreError {}

/// What a start waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartWait {
    /// Another program to release the database.
    Lock,
    /// The check of a database that is a copy.
    Check,
}

/// Why versions are not erased, or not from the files yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unerased {
    /// The store can't erase them now.
    Store(StoreError),
    /// Another program is using the database: it reads, or holds a lock. The versions are gone from it, but its log keeps their
    /// text until that program ends its transaction.
    Reading,
}

impl From<StoreError> for Unerased {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
