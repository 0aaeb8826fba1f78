//! The versions of each name, noted behind the commits: sorted, many at once, so that a page of the index is touched once for
//! many records. A pass is made of slices, each a transaction of its own, between which commits go on; whatever the store
//! comes to, a pass can be done again, as all it does is to copy what `records` says.
//! Refuses to know when it is time, but for how many wait.

use rusqlite::{Connection, TransactionBehavior};

use super::commit::Version;
use super::schema::{self, INDEXED_THROUGH, Sync};
use crate::clock::Clock;

/// A slice is enough when it has taken so many milliseconds.
const SLICE_MILLIS: u64 = 8;
/// The time is looked at after so many versions.
const STRIDE: usize = 64;

/// What is not indexed yet.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of ids. Bounded by `Tuning::unindexed`, and a commit or two.
    waiting: Vec<Version>,
    pass: Option<Pass>,
    /// Records committed since the last slice.
    committed: usize,
}

/// What is being indexed.
#[derive(Debug)]
struct Pass {
    /// By name, then by id.
    versions: Vec<Version>,
    /// So many of them are done.
    done: usize,
    /// The index is complete up to here when all are.
    through: i64,
}

impl Index {
    /// With what was found behind `indexed_through`.
    pub fn new(waiting: Vec<Version>) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// Records were committed.
    pub fn add(&mut self, versions: &[Version]) {
        self.committed += versions.len();
        self.waiting.extend_from_slice(versions);
    }

    /// How many records it does not have.
    pub fn behind(&self) -> usize {
        self.waiting.len() + self.pass.as_ref().map_or(0, |pass| pass.versions.len() - pass.done)
    }

    /// How many wait for the next pass.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_in_pass(&self) -> bool {
        self.pass.is_some()
    }

    /// Begins a pass with all that wait, if none is under way.
    pub fn begin(&mut self) {
        if self.pass.is_some() || self.waiting.is_empty() {
            return;
        }
        self.committed = 0;
        let mut versions = std::mem::take(&mut self.waiting);
        let through = versions.last().map_or(0, |version| version.1);
        versions.sort_unstable();
        self.pass = Some(Pass { versions, done: 0, through });
    }

    /// Goes on with the pass: at least half as many again as were committed since the last slice, so that it ends before
    /// enough wait for the next; else `least`, and not much longer than [`SLICE_MILLIS`]. After an error the slice is as undone.
    pub fn slice(&mut self, connection: &mut Connection, least: usize, clock: &Clock) -> rusqlite::Result<()> {
        let Some(pass) = &mut self.pass else { return Ok(()) };
        schema::set_sync(connection, Sync::Later)?;
        let sliced = pass.slice(connection, self.committed + self.committed / 2, least, clock);
        // Whatever came of it: the next commit waits for the disk, or is none.
        schema::set_sync(connection, Sync::Full)?;
        pass.done = sliced?;
        self.committed = 0;
        if pass.done == pass.versions.len() {
            self.pass = None;
        }
        Ok(())
    }

    /// Slices until nothing is left.
    pub fn complete(&mut self, connection: &mut Connection, clock: &Clock) -> rusqlite::Result<()> {
        while self.behind() > 0 {
            self.begin();
            self.slice(connection, usize::MAX, clock)?;
        }
        Ok(())
    }
}

impl Pass {
    /// How many are done after it.
    fn slice(&self, connection: &mut Connection, due: usize, least: usize, clock: &Clock) -> rusqlite::Result<usize> {
        let begin = clock.now().millis;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut done = self.done;
        while done < self.versions.len() {
            let end = self.versions.len().min(done + STRIDE.min(least));
            note(&transaction, &self.versions[done..end])?;
            done = end;
            let is_due = done - self.done >= due;
            let is_enough = done - self.done >= least || clock.now().millis - begin >= SLICE_MILLIS;
            if is_due && is_enough {
                break;
            }
        }
        if done == self.versions.len() {
            schema::set_meta(&transaction, INDEXED_THROUGH, self.through)?;
        }
        transaction.commit()?;
        Ok(done)
    }
}

/// Each name's newest is its last: they are sorted.
fn note(connection: &Connection, versions: &[Version]) -> rusqlite::Result<()> {
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
