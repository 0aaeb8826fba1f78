//! The store's limits and intervals, which tests make small.

use std::time::Duration;

use super::disk::location::DataDir;
use super::disk::space::SpaceProbe;

/// Limits and intervals of a store.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The index is brought up to date once this many records are missing from it, even if the store is never idle. Indexing
    /// is faster than inserting, so the number hardly ever grows beyond this.
    pub max_unindexed: usize,
    /// At least this many records are indexed between two commits while the index is being brought up to date.
    pub index_slice: usize,
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
    /// Measures the free space.
    pub(super) space_probe: SpaceProbe,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            max_unindexed: 1 << 16,
            index_slice: 1 << 10,
            wal_growth: 16 << 20,
            wal_limit: 128 << 20,
            reserve_attempts: 5000,
            page_rows: 128,
            full_disk_retry: Duration::from_secs(3),
            space_probe: DataDir::free_bytes,
        }
    }
}
