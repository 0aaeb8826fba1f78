//! The index `versions`, which leads from a name to its records. It is filled after the commits: sorted and in bulk, so that
//! a page of the index is written once for many records. A pass over the missing records consists of slices, each a
//! transaction of its own, between which commits go on. A pass that was interrupted can be repeated at any time, as all it
//! does is copy what `records` says.
//!
//! If the number of versions per name is limited, a pass first removes the records that its own newer ones exceed the limit
//! with, so that they never enter the index: under load most versions are superseded that soon. The first pass after a start
//! removes none, because a pass that was interrupted may have entered them already, and an entry must not outlive its record.

use std::num::NonZeroU64;

use rusqlite::{Connection, TransactionBehavior};

use super::commit::{NameKey, Version};
use super::schema::{self, INDEXED_THROUGH};
use super::slice::Slice;
use crate::clock::Clock;

/// The clock is read after this many versions.
const STRIDE: usize = 64;

/// The records that the index is missing.
#[derive(Debug, Default)]
pub(in crate::store) struct Index {
    /// Versions for the next pass, by ascending id. At most `Tuning::max_unindexed` and a few commits.
    pending: Vec<Version>,
    pass: Option<Pass>,
    /// How many versions of each name are kept; `None` for all.
    limit: Option<NonZeroU64>,
    /// Whether the index may have some of the pending records: a pass over them was perhaps interrupted.
    may_be_entered: bool,
    /// Records committed since the last slice.
    committed: usize,
}

/// The versions that are being indexed.
#[derive(Debug)]
struct Pass {
    /// The ids of versions that exceed the limit, ascending. Their records are removed before anything is indexed.
    surplus: Vec<i64>,
    /// The others, sorted by name, then by id.
    versions: Vec<Version>,
    /// How many of both are removed or indexed.
    done: usize,
    /// The index is complete up to this id once all of them are.
    through: i64,
}

impl Index {
    /// `pending` are the records after `indexed_through`, by ascending id.
    pub fn new(pending: Vec<Version>) -> Self {
        Self { may_be_entered: !pending.is_empty(), pending, ..Self::default() }
    }

    /// Sets how many versions of each name are kept.
    pub fn limit(&mut self, versions: Option<NonZeroU64>) {
        self.limit = versions;
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

    /// Returns whether the index has all records up to this id. While a pass is under way, it may have them already.
    pub fn is_complete_through(&self, id: i64) -> bool {
        self.pass.is_none() && self.pending.first().is_none_or(|version| version.1 > id)
    }

    /// Returns the newest version with this name that awaits indexing.
    pub fn newest_of(&self, key: NameKey) -> Option<i64> {
        let in_pass = self.pass.iter().flat_map(|pass| &pass.versions);
        in_pass.chain(&self.pending).filter(|version| version.0 == key).map(|version| version.1).max()
    }

    /// Returns the newest id that awaits indexing; 0 or an older one if none does.
    pub fn newest(&self) -> i64 {
        let in_pass = self.pass.as_ref().map_or(0, |pass| pass.through);
        self.pending.last().map_or(in_pass, |version| version.1)
    }

    /// Returns the number of records that the index is missing.
    pub fn unindexed(&self) -> usize {
        self.pending.len() + self.pass.as_ref().map_or(0, |pass| pass.len() - pass.done)
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
        let limit = if std::mem::take(&mut self.may_be_entered) { None } else { self.limit };
        let (surplus, versions) = split(versions, limit);
        self.pass = Some(Pass { surplus, versions, done: 0, through });
    }

    /// Indexes the next slice of the pass. Returns how many versions it removed, and the names of the pass if that has
    /// ended.
    ///
    /// A slice has at least 1.5 times as many versions as were committed since the last one, so that the pass ends
    /// before enough are pending for the next one. Beyond that it ends after `max_versions`, or when its time is over:
    /// see [`Slice`]. After an error the slice is rolled back.
    pub fn run_slice(
        &mut self,
        connection: &mut Connection,
        max_versions: usize,
        clock: &Clock,
        is_awaited: &dyn Fn() -> bool,
    ) -> rusqlite::Result<(usize, Vec<NameKey>)> {
        let Some(pass) = &mut self.pass else { return Ok((0, Vec::new())) };
        let mut slice = Slice::begin(clock, is_awaited, self.committed + self.committed / 2, max_versions);
        let done = schema::without_fsync(connection, |connection| {
            pass.run_slice(connection, STRIDE.min(max_versions), &mut slice)
        })?;
        let before = std::mem::replace(&mut pass.done, done);
        self.committed = 0;
        let removed = pass.done.min(pass.surplus.len()) - before.min(pass.surplus.len());
        let ended = self.pass.take_if(|pass| pass.done == pass.len());
        Ok((removed, ended.map_or_else(Vec::new, |pass| pass.names())))
    }

    /// Indexes everything.
    pub fn complete(&mut self, connection: &mut Connection, clock: &Clock) -> rusqlite::Result<()> {
        while self.unindexed() > 0 {
            self.begin_pass();
            self.run_slice(connection, usize::MAX, clock, &|| false)?;
        }
        Ok(())
    }
}

impl Pass {
    /// Returns the number of versions.
    fn len(&self) -> usize {
        self.surplus.len() + self.versions.len()
    }

    /// Returns the names of the versions, ascending.
    fn names(&self) -> Vec<NameKey> {
        let by_name = self.versions.chunk_by(|one, next| one.0 == next.0);
        by_name.filter_map(<[_]>::first).map(|version| version.0).collect()
    }

    /// Returns how many versions are removed or indexed afterwards.
    fn run_slice(&self, connection: &mut Connection, stride: usize, slice: &mut Slice<'_>) -> rusqlite::Result<usize> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut done = self.done;
        while done < self.len() {
            let begin = done;
            done = match done.checked_sub(self.surplus.len()) {
                None => remove_some(&transaction, &self.surplus, done, stride)?,
                Some(indexed) => self.surplus.len() + index_some(&transaction, &self.versions, indexed, stride)?,
            };
            if slice.is_over(done - begin) {
                break;
            }
        }
        if done == self.len() {
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

/// Returns the ids of the versions that exceed the limit, ascending, and the others. The versions are sorted.
fn split(versions: Vec<Version>, limit: Option<NonZeroU64>) -> (Vec<i64>, Vec<Version>) {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit.get()).ok()) else { return (Vec::new(), versions) };
    let (mut surplus, mut kept) = (Vec::new(), Vec::new());
    for of_one_name in versions.chunk_by(|one, next| one.0 == next.0) {
        let (older, newest) = of_one_name.split_at(of_one_name.len().saturating_sub(limit));
        surplus.extend(older.iter().map(|version| version.1));
        kept.extend_from_slice(newest);
    }
    surplus.sort_unstable();
    (surplus, kept)
}

/// Removes the records of a stride of ids. Returns where the next one begins.
fn remove_some(connection: &Connection, ids: &[i64], begin: usize, stride: usize) -> rusqlite::Result<usize> {
    let end = ids.len().min(begin + stride);
    let mut remove = connection.prepare_cached(schema::REMOVE_RECORD)?;
    for id in &ids[begin..end] {
        remove.execute([id])?;
    }
    Ok(end)
}

/// Indexes a stride of versions. Returns where the next one begins.
fn index_some(connection: &Connection, versions: &[Version], begin: usize, stride: usize) -> rusqlite::Result<usize> {
    let end = versions.len().min(begin + stride);
    index_versions(connection, &versions[begin..end])?;
    Ok(end)
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
