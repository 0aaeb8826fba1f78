//! The tables, through the one connection that writes them.

pub(super) mod commit;
pub(super) mod erasure;
pub(super) mod idempotency;
pub(super) mod index;
pub(super) mod pruning;
pub(super) mod recovery;
pub(super) mod revocations;
pub(super) mod schema;
pub(super) mod scrub;
pub(super) mod slice;
pub(super) mod vacuum;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use self::commit::{NameKey, Names, Version};
use self::erasure::{Erasure, NameErasure};
use self::idempotency::{Keys, MAX_KEYS, NewKey};
use self::index::Index;
use self::pruning::Pruner;
use self::schema::CEILING;
use self::scrub::Scrub;
use self::slice::Slice;
use self::vacuum::Vacuum;
use crate::clock::Clock;
use crate::records::Record;
use crate::records::retention::Retention;

/// A slice of removing versions takes at most this many microseconds while records are inserted, apart from its commit.
const TIDY_MICROS: u64 = 100;

/// The writing connection, with the state in memory that mirrors the tables: the key of every name, the records that the index
/// is missing, and the idempotency keys.
pub(super) struct Tables {
    connection: Connection,
    names: Names,
    index: Index,
    keys: Keys,
    pruner: Pruner,
    vacuum: Vacuum,
    /// Records removed because of the retention.
    pruned: u64,
    /// Records committed since the last slice of pruning.
    committed: usize,
    scrub: Scrub,
    clock: Clock,
}

impl Tables {
    /// `unindexed` are the records after `indexed_through`.
    pub fn new(connection: Connection, names: Names, unindexed: Vec<Version>, clock: Clock) -> Self {
        let (index, keys) = (Index::new(unindexed), Keys::new(MAX_KEYS));
        let (pruner, vacuum) = (Pruner::default(), Vacuum::default());
        let (pruned, committed, scrub) = (0, 0, Scrub::default());
        Self { connection, names, index, keys, pruner, vacuum, pruned, committed, scrub, clock }
    }

    /// Sets the idempotency keys that the tables contain.
    #[must_use]
    pub fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Removes versions that exceed the retention from now on, slice by slice, and leaves this many pages of the database free.
    pub fn retain(&mut self, retention: Retention, free_pages: u64) -> rusqlite::Result<()> {
        self.index.limit(retention.versions);
        self.pruner = Pruner::new(&self.connection, retention)?;
        self.vacuum = Vacuum::new(&self.connection, free_pages)?;
        Ok(())
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the number of names.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Stores records, their idempotency keys, and the ceiling if there is one, in a durable transaction. After an error nothing
    /// is stored, or the outcome is unknown.
    pub fn commit(&mut self, records: &mut [Record], keys: &[NewKey], ceiling: Option<u64>) -> rusqlite::Result<()> {
        let names = self.names.len();
        let versions = commit::commit(&mut self.connection, &mut self.names, records, (&self.keys, keys), ceiling)?;
        if self.names.len() > names {
            self.scrub.note_move();
        }
        debug_assert!(self.is_durable(), "the transaction ended with an fsync");
        debug_assert!(
            records.iter().map(|record| schema::to_sql(record.id)).eq(versions.iter().map(|version| version.1))
        );
        self.index.add(&versions);
        self.committed += versions.len();
        self.keys.add(keys);
        Ok(())
    }

    /// Returns the idempotency keys that are remembered.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Forgets some idempotency keys that must be forgotten: see [`Keys::forget_slice`].
    pub fn forget_keys(&mut self, now: u64) -> rusqlite::Result<()> {
        self.keys.forget_slice(&mut self.connection, now)
    }

    /// Stores the ceiling of all ids in a durable transaction.
    pub fn set_ceiling(&self, ceiling: u64) -> rusqlite::Result<()> {
        schema::set_meta(&self.connection, CEILING, schema::to_sql(ceiling))
    }

    /// Stores revocations of tokens in a durable transaction.
    pub fn revoke(&mut self, new: &[(String, u64)], max: usize) -> rusqlite::Result<()> {
        revocations::add(&mut self.connection, new, max)?;
        debug_assert!(self.is_durable(), "the transaction ended with an fsync");
        Ok(())
    }

    /// Tries whether the database can be written to, and writes nothing.
    pub fn probe_lock(&mut self) -> rusqlite::Result<()> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?.rollback()
    }

    /// Returns whether no transaction is open and each one's end waits for an fsync.
    fn is_durable(&self) -> bool {
        self.connection.is_autocommit() && schema::is_fully_synchronous(&self.connection)
    }
}

// Erasures.
impl Tables {
    /// Returns the key of a name, and the id of its newest version. `None` if it has none.
    pub fn newest_version(&self, name: &str) -> rusqlite::Result<Option<(NameKey, i64)>> {
        let Some(key) = self.names.key(name) else { return Ok(None) };
        let mut indexed = self.connection.prepare_cached("SELECT latest FROM names WHERE key = ?1")?;
        let indexed: Option<i64> = indexed.query_row([key], |row| row.get(0)).optional()?.flatten();
        Ok(indexed.max(self.index.newest_of(key)).map(|newest| (key, newest)))
    }

    /// Begins to erase the versions of a name with smaller ids than `before`, in a durable transaction. With the `id` of the
    /// erasure, those are all, and the name is removed. Also stores the ceiling if there is one.
    pub fn begin_erasure(
        &mut self,
        (name, key): (&str, NameKey),
        before: u64,
        id: Option<u64>,
        ceiling: Option<u64>,
    ) -> rusqlite::Result<Erasure> {
        let whole = id.map(|id| NameErasure { id, last_key: self.names.last() });
        self.scrub.note_move();
        let erasure = erasure::begin(&mut self.connection, key, before, whole, ceiling)?;
        debug_assert!(self.is_durable(), "the transaction ended with an fsync");
        if whole.is_some() {
            self.names.remove(name);
        }
        Ok(erasure)
    }

    /// Removes the next versions of an erasure, at most `max`, and returns their number. The index must have all of them. If none
    /// is left, ends the erasure and returns `None`.
    pub fn remove_slice(&mut self, erasure: Erasure, max: usize) -> rusqlite::Result<Option<u64>> {
        debug_assert!(!self.is_scrubbing(), "no rows are removed while pages are cleared");
        let removed = erasure::remove_slice(&mut self.connection, erasure, max, &self.clock)?;
        if removed.is_none() {
            erasure::end(&self.connection, erasure)?;
        }
        Ok(removed)
    }

    /// Clears pages from `first`, at most `max`, or rewrites the database if that is not possible. Returns the next page; `None`
    /// if no page contains text of versions that were removed before the first call. In between, pages that were cleared may have
    /// to be cleared again: see [`Scrub`].
    pub fn scrub_slice(&mut self, first: u32, max: usize) -> rusqlite::Result<Option<u32>> {
        match scrub::is_possible(&self.connection)? {
            true => self.scrub.run_slice(&mut self.connection, first, max, &self.clock),
            false => scrub::rewrite(&self.connection).map(|()| None),
        }
    }

    /// Returns whether some pages are cleared and others are not.
    pub fn is_scrubbing(&self) -> bool {
        self.scrub.is_under_way()
    }

    /// Stores that the files contain no text of erased versions.
    pub fn end_purge(&mut self) -> rusqlite::Result<()> {
        schema::end_purge(&mut self.connection)
    }

    /// Returns the newest id that the index is missing; a smaller one if it is missing none.
    pub fn newest_unindexed(&self) -> i64 {
        self.index.newest()
    }

    /// Returns whether the index has all records up to this id. While a pass is under way, it may have them already.
    pub fn is_indexed_through(&self, id: i64) -> bool {
        self.index.is_complete_through(id)
    }
}

// The index.
impl Tables {
    /// Returns the number of records that the index is missing.
    pub fn unindexed(&self) -> usize {
        self.index.unindexed()
    }

    /// Returns how many of them are waiting for the next pass.
    pub fn pending(&self) -> usize {
        self.index.pending()
    }

    /// Returns whether a pass of the index is under way.
    pub fn is_indexing(&self) -> bool {
        self.index.is_in_pass()
    }

    /// Begins a pass of the index, unless one is under way.
    pub fn begin_indexing(&mut self) {
        self.index.begin_pass();
    }

    /// Indexes the next slice of a pass that is under way: see [`Index::run_slice`].
    pub fn index_slice(&mut self, max_versions: usize, is_awaited: &dyn Fn() -> bool) -> rusqlite::Result<()> {
        if self.is_indexing() {
            // It removes records, and makes rows of names longer.
            self.scrub.note_move();
        }
        let (removed, names) = self.index.run_slice(&mut self.connection, max_versions, &self.clock, is_awaited)?;
        self.pruned += removed as u64;
        self.pruner.add(&names);
        Ok(())
    }

    /// Completes the index.
    pub fn index_all(&mut self) -> rusqlite::Result<()> {
        self.index.complete(&mut self.connection, &self.clock)
    }
}

// Retention.
impl Tables {
    /// Returns the number of records removed because of the retention.
    pub fn pruned(&self) -> u64 {
        self.pruned
    }

    /// Returns the number of records committed since the last slice of removing versions.
    pub fn untidied(&self) -> usize {
        self.committed
    }

    /// Returns the number of pages of the database, and of free ones.
    pub fn pages(&self) -> (u64, u64) {
        self.vacuum.pages()
    }

    /// Returns whether free pages can be given back to the file system.
    pub fn can_shrink(&self) -> bool {
        self.vacuum.is_possible()
    }

    /// Returns whether versions must be removed, or pages given back. Not while pages are cleared: both move pages.
    pub fn must_tidy(&self) -> bool {
        let millis = self.clock.now().millis;
        !self.is_scrubbing() && (self.pruner.has_work(millis) || self.vacuum.has_work(millis))
    }

    /// Removes versions, or gives pages back, for the time of a slice. `is_awaited` returns whether inserts are waiting. At least
    /// 1.5 times as many versions are removed as were committed since the last slice, so that removing keeps up.
    pub fn tidy(&mut self, max_rows: usize, is_awaited: &dyn Fn() -> bool) -> rusqlite::Result<()> {
        let min_rows = self.committed + self.committed / 2;
        let slice = Slice::begin(&self.clock, is_awaited, min_rows, max_rows);
        // On a core that this thread shares with the workers, what arrives during a slice is not queued before it has ended.
        let mut slice = if self.committed > 0 { slice.at_most(TIDY_MICROS) } else { slice };
        if self.pruner.has_work(slice.millis()) {
            self.pruned += self.pruner.run_slice(&mut self.connection, &mut slice)? as u64;
            self.vacuum.count(&self.connection)?;
        } else {
            self.vacuum.run_slice(&mut self.connection, &mut slice)?;
        }
        self.committed = 0;
        Ok(())
    }
}
