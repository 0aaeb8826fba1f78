//! Erasures: which versions are to be removed, and their removal in slices. An erasure is a row of `erasures` until all its
//! versions are removed, so that a start after a crash completes it. The row has no text, only the key of the name.
//!
//! The first transaction of an erasure that includes the newest version removes the name, so its versions are gone at once for
//! everyone who asks for the name; what the slices remove are rows that nothing leads to. The key is not assigned again.

use rusqlite::{Connection, TransactionBehavior};

use super::commit::NameKey;
use super::schema::{self, CEILING, ERASED_THROUGH, NAMES_THROUGH, REMOVE_RECORD, to_sql};
use crate::clock::Clock;

/// A slice ends after this many microseconds.
const SLICE_MICROS: u64 = 2_000;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS erasures (number INTEGER PRIMARY KEY, name INTEGER NOT NULL, before INTEGER NOT NULL) STRICT
";

/// Versions that are being removed: those of a name with a smaller id than `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Erasure {
    number: i64,
    pub key: NameKey,
    before: i64,
}

/// What an erasure of the newest version also writes.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct NameErasure {
    /// The id of the erasure.
    pub id: u64,
    /// The largest key of a name that was ever assigned.
    pub last_key: NameKey,
}

/// Begins an erasure, in a durable transaction. With a `name`, it removes the name. Also stores the ceiling if there is one.
pub(in crate::store) fn begin(
    connection: &mut Connection,
    key: NameKey,
    before: u64,
    name: Option<NameErasure>,
    ceiling: Option<u64>,
) -> rusqlite::Result<Erasure> {
    let before = to_sql(before);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    transaction.prepare_cached("INSERT INTO erasures (name, before) VALUES (?1, ?2)")?.execute((key, before))?;
    let number = transaction.last_insert_rowid();
    schema::begin_purge(&transaction)?;
    if let Some(NameErasure { id, last_key }) = name {
        transaction.prepare_cached("DELETE FROM names WHERE key = ?1")?.execute([key])?;
        schema::put_meta(&transaction, ERASED_THROUGH, to_sql(id))?;
        schema::put_meta(&transaction, NAMES_THROUGH, last_key)?;
    }
    if let Some(ceiling) = ceiling {
        schema::set_meta(&transaction, CEILING, to_sql(ceiling))?;
    }
    transaction.commit()?;
    Ok(Erasure { number, key, before })
}

/// Returns the erasures whose versions are not all removed, oldest first.
pub(in crate::store) fn all(connection: &Connection) -> rusqlite::Result<Vec<Erasure>> {
    if !schema::has_table(connection, "erasures")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT number, name, before FROM erasures ORDER BY number")?;
    let erasure = |row: &rusqlite::Row<'_>| Ok(Erasure { number: row.get(0)?, key: row.get(1)?, before: row.get(2)? });
    statement.query_map([], erasure)?.collect()
}

/// Removes the next versions that the index leads to, at most `max`. Returns the number of their records, some of which may have
/// been pruned before; `None` if no version is left.
pub(in crate::store) fn remove_slice(
    connection: &mut Connection,
    erasure: Erasure,
    max: usize,
    clock: &Clock,
) -> rusqlite::Result<Option<u64>> {
    schema::without_fsync(connection, |connection| remove(connection, erasure, max, clock))
}

fn remove(connection: &mut Connection, erasure: Erasure, max: usize, clock: &Clock) -> rusqlite::Result<Option<u64>> {
    let (begin, mut removed) = (clock.elapsed_micros(), None);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let sql = "SELECT id FROM versions WHERE name = ?1 AND id < ?2 ORDER BY id LIMIT ?3";
        let mut find = transaction.prepare_cached(sql)?;
        let found = find.query_map((erasure.key, erasure.before, to_sql(max as u64)), |row| row.get(0))?;
        let ids = found.collect::<rusqlite::Result<Vec<i64>>>()?;
        let mut remove_version = transaction.prepare_cached("DELETE FROM versions WHERE name = ?1 AND id = ?2")?;
        let mut remove_record = transaction.prepare_cached(REMOVE_RECORD)?;
        for id in ids {
            remove_version.execute((erasure.key, id))?;
            let records = remove_record.execute([id])? as u64;
            removed = Some(removed.unwrap_or(0) + records);
            if clock.elapsed_micros().saturating_sub(begin) >= SLICE_MICROS {
                break;
            }
        }
    }
    transaction.commit()?;
    Ok(removed)
}

/// Ends an erasure whose versions are removed.
pub(in crate::store) fn end(connection: &Connection, erasure: Erasure) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM erasures WHERE number = ?1")?.execute([erasure.number]).map(drop)
}
