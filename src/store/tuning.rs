//! The store's limits and intervals, which tests make small.

use std::time::Duration;

use super::disk::location::DataDir;
use super::disk::space::SpaceProbe;
use crate::records::retention::Retention;

/// Limits and intervals of a store.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The index is brought up to date once this many records are missing from it, even if the store is never idle. Indexing
    /// is faster than inserting, so the number hardly ever grows beyond this; while pages are cleared for an erasure, beyond twice
    /// as many.
    pub max_unindexed: usize,
    /// About this many records are indexed at most between two commits while the index is being brought up to date, unless more
    /// were inserted.
    pub index_slice: usize,
    /// Which versions of each name are kept.
    pub retention: Retention,
    /// About this many rows are removed at most between two commits, unless more were inserted.
    pub prune_slice: usize,
    /// After such a slice, inserts have the writer and the disk to themselves for this many times as long as it took.
    pub prune_rest: u64,
    /// This many pages of the database stay free, so that pages are not given back to the file system and taken again in turns.
    pub free_pages: u64,
    /// At most this many versions are removed, or pages cleared, between two commits while an erasure is under way.
    pub erase_slice: usize,
    /// How long an erasure waits for other programs that are reading the database.
    pub erase_patience: Duration,
    /// A checkpoint starts when the WAL has grown by this many bytes.
    pub wal_growth: u64,
    /// When the WAL is larger than this many bytes, commits wait for the checkpoint, unless another program's read transaction
    /// prevents it.
    pub wal_limit: u64,
    /// How often an id is requested, a millisecond apart, before inserts are refused.
    pub reserve_attempts: usize,
    /// The maximum number of rows that are read for one page of a history before other requests have their turn.
    pub page_rows: usize,
    /// How long after an insert found the disk full the next write is tried.
    pub full_disk_retry: Duration,
    /// How often a write that finds the database locked by another program is tried, each time for
    /// [`LOCK_SLICE`](super::tables::schema::LOCK_SLICE), before requests are refused.
    pub lock_attempts: u32,
    /// How often it is tried whether the lock was released.
    pub lock_probe: Duration,
    /// How often it is checked that the files were not removed or replaced.
    pub file_check: Duration,
    /// Measures the free space.
    pub(super) space_probe: SpaceProbe,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            max_unindexed: 1 << 16,
            index_slice: 1 << 10,
            retention: Retention { versions: None, age: None },
            prune_slice: 1 << 13,
            prune_rest: 30,
            free_pages: 1 << 11,
            erase_slice: 1 << 8,
            erase_patience: Duration::from_secs(5),
            wal_growth: 16 << 20,
            wal_limit: 128 << 20,
            reserve_attempts: 5000,
            page_rows: 128,
            full_disk_retry: Duration::from_secs(3),
            lock_attempts: 10,
            lock_probe: Duration::from_secs(1),
            file_check: Duration::from_millis(500),
            space_probe: DataDir::free_bytes,
        }
    }
}
