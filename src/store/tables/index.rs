//! The index `versions`, which leads from a name to its records. It is filled after the commits: sorted and in bulk, so that
//! a page of the index is written once for many records. A pass over the missing records consists of slices, each a
//! transaction of its own, between which commits go on. A pass that was interrupted can be repeated at any time, as all it
//! does is copy what `records` says.

use rusqlite::{Connection, TransactionBehavior};

use super::commit::Version;
use super::schema::{self, INDEXED_THROUGH, Sync};
use crate::clock::Clock;

/// A slice ends after this many milliseconds.
const SLICE_MILLIS: u64 = 8;
/// The clock is read after this many versions.
const STRIDE: usize = 64;

/// The records that the index is missing.
#[derive(Debug, Default)]
pub(in crate::store) struct Index {
    /// Versions for the next pass, by ascending id. At most `Tuning::max_unindexed` and a few commits.
    pending: Vec<Version>,
    pass: Option<Pass>,
    /// Records committed since the last slice.
    committed: usize,
}

/// The versions that are being indexed.
#[derive(Debug)]
struct Pass {
    /// Sorted by name, then by id.
    versions: Vec<Version>,
    /// How many of them are indexed.
    done: usize,
    /// The index is complete up to this id once all of them are.
    through: i64,
}

impl Index {
    /// `pending` are the records after `indexed_through`, by ascending id.
    pub fn new(pending: Vec<Version>) -> Self {
        Self { pending, ..Self::default() }
    }

    /// Adds committed records.
    pub fn add(&mut self, versions: &[Version]) {
        debug_assert!(
            versions.is_sorted_by(|one, next| one.1 < next.1),
            "records are committed in the order of their ids"
        );
        debug_assert!(versions.first().is_none_or(|first| first.1 > self.newest()), "ids grow from commit to commit");
        self.committed += versions.len();
        self.pending.extend_from_slice(versions);
    }

    /// Returns the newest id that awaits indexing.
    fn newest(&self) -> i64 {
        let in_pass = self.pass.as_ref().map_or(0, |pass| pass.through);
        self.pending.last().map_or(in_pass, |version| version.1)
    }

    /// Returns the number of records that the index is missing.
    pub fn unindexed(&self) -> usize {
        self.pending.len() + self.pass.as_ref().map_or(0, |pass| pass.versions.len() - pass.done)
    }

    /// Returns how many of them are waiting for the next pass.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    pub fn is_in_pass(&self) -> bool {
        self.pass.is_some()
    }

    /// Begins a pass over all pending records, unless one is under way.
    pub fn begin_pass(&mut self) {
        if self.pass.is_some() || self.pending.is_empty() {
            return;
        }
        self.committed = 0;
        let mut versions = std::mem::take(&mut self.pending);
        let through = versions.last().map_or(0, |version| version.1);
        versions.sort_unstable();
        self.pass = Some(Pass { versions, done: 0, through });
    }

    /// Indexes the next slice of the pass. It has at least 1.5 times as many versions as were committed since the last
    /// slice, so that the pass ends before enough are pending for the next one. Beyond that it ends after `min_versions` or
    /// [`SLICE_MILLIS`], whichever comes first. After an error the slice is rolled back.
    pub fn run_slice(
        &mut self,
        connection: &mut Connection,
        min_versions: usize,
        clock: &Clock,
    ) -> rusqlite::Result<()> {
        let Some(pass) = &mut self.pass else { return Ok(()) };
        schema::set_sync(connection, Sync::Normal)?;
        let sliced = pass.run_slice(connection, self.committed + self.committed / 2, min_versions, clock);
        // Restored whatever the outcome, because the next commit must be durable.
        schema::set_sync(connection, Sync::Full)?;
        pass.done = sliced?;
        self.committed = 0;
        if pass.done == pass.versions.len() {
            self.pass = None;
        }
        Ok(())
    }

    /// Indexes everything.
    pub fn complete(&mut self, connection: &mut Connection, clock: &Clock) -> rusqlite::Result<()> {
        while self.unindexed() > 0 {
            self.begin_pass();
            self.run_slice(connection, usize::MAX, clock)?;
        }
        Ok(())
    }
}

impl Pass {
    /// Returns how many versions are indexed afterwards.
    fn run_slice(
        &self,
        connection: &mut Connection,
        due: usize,
        min_versions: usize,
        clock: &Clock,
    ) -> rusqlite::Result<usize> {
        let begin = clock.now().millis;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut done = self.done;
        while done < self.versions.len() {
            let end = self.versions.len().min(done + STRIDE.min(min_versions));
            index_versions(&transaction, &self.versions[done..end])?;
            done = end;
            let is_due = done - self.done >= due;
            let is_enough = done - self.done >= min_versions || clock.now().millis - begin >= SLICE_MILLIS;
            if is_due && is_enough {
                break;
            }
        }
        if done == self.versions.len() {
            debug_assert!(
                self.versions.iter().all(|version| version.1 <= self.through),
                "it claims what was committed"
            );
            schema::set_meta(&transaction, INDEXED_THROUGH, self.through)?;
        }
        transaction.commit()?;
        Ok(done)
    }
}

/// Adds versions to the index and updates the newest record of each name. They are sorted, so the last of a name is its
/// newest.
fn index_versions(connection: &Connection, versions: &[Version]) -> rusqlite::Result<()> {
    debug_assert!(versions.is_sorted());
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO versions (name, id) VALUES (?1, ?2)")?;
    let mut update =
        connection.prepare_cached("UPDATE names SET latest = ?2 WHERE key = ?1 AND (latest IS NULL OR latest < ?2)")?;
    for version in versions {
        insert.execute(*version)?;
    }
    for of_one_name in versions.chunk_by(|one, next| one.0 == next.0) {
        if let Some(newest) = of_one_name.last() {
            update.execute(*newest)?;
        }
    }
    Ok(())
}
