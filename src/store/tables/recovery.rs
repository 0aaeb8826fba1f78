//! Reads what a store needs in memory when it is opened: all names, the newest record of each, and what the index is missing.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::commit::{NameKey, Names, Version};
use super::erasure::{self, Erasure};
use super::idempotency::Keys;
use super::revocations;
use super::schema::{self, CEILING, ERASED_THROUGH, INDEXED_THROUGH, NAMES_THROUGH, PURGE_DUE};
use crate::ids::HighWaterMark;
use crate::records::Record;
use crate::store::error::Cause;

/// No name has a larger key, as keys are counted from 1. A larger one means damage, and the next key could overflow.
const MAX_KEY: NameKey = NameKey::MAX / 2;

/// What the tables contain when the store is opened.
pub(in crate::store) struct Recovered {
    pub names: Names,
    /// The newest record of each name, by ascending id.
    pub latest: Vec<Record>,
    /// The records that the index is missing, by ascending id.
    pub unindexed: Vec<Version>,
    /// The index has all records up to this id, which may be that of a record that was removed.
    pub indexed_through: u64,
    pub mark: HighWaterMark,
    /// The idempotency keys.
    pub keys: Keys,
    /// The revocations of tokens, and their seconds.
    pub revocations: Vec<(String, u64)>,
    /// The id of the last erasure of a name; 0 if there was none.
    pub erased_through: u64,
    pub purge: DuePurge,
}

impl Recovered {
    /// Returns the newest id that the tables know of: of a record, even if it was removed, or of an erasure. The index would never
    /// get a record with a smaller one.
    pub fn newest(&self) -> u64 {
        let record = self.latest.last().map_or(0, |record| record.id);
        record.max(self.erased_through).max(self.indexed_through)
    }
}

/// What an earlier run has left to be done for erasures.
#[derive(Debug, Default)]
pub(in crate::store) struct DuePurge {
    /// The erasures whose versions are not all removed, oldest first.
    pub erasures: Vec<Erasure>,
    /// Whether the files may contain the text of erased versions.
    pub is_due: bool,
}

/// A name and the id of its newest record.
type Newest = (Arc<str>, i64);

/// Reads the tables.
pub(in crate::store) fn recover(connection: &Connection) -> Result<Recovered, Cause> {
    // Outside of it, each statement would lock the database anew.
    let transaction = connection.unchecked_transaction()?;
    let through = schema::meta(connection, INDEXED_THROUGH)?;
    let ceiling = schema::from_sql(schema::meta(connection, CEILING)?);
    let unindexed = read_unindexed(connection, through)?;
    let erasures = erasure::all(connection)?;
    let (names, newest) = read_names(connection, &unindexed, &erasures)?;
    let latest = read_records(connection, newest)?;
    let newest_record = latest.last().map_or(0, |record| record.id);
    let (keys, revocations) = (Keys::load(connection)?, revocations::all(connection)?);
    let mark = HighWaterMark::new(ceiling, newest_record);
    let erased_through = schema::optional_meta(connection, ERASED_THROUGH)?.map_or(0, schema::from_sql);
    let purge = DuePurge { erasures, is_due: schema::has_meta(connection, PURGE_DUE)? };
    transaction.commit()?;
    // The page cache is full of what is in memory now.
    connection.execute_batch("PRAGMA shrink_memory")?;
    let indexed_through = schema::from_sql(through);
    Ok(Recovered { names, latest, unindexed, indexed_through, mark, keys, revocations, erased_through, purge })
}

fn read_unindexed(connection: &Connection, through: i64) -> rusqlite::Result<Vec<Version>> {
    let mut statement = connection.prepare("SELECT name, id FROM records WHERE id > ?1 ORDER BY id")?;
    statement.query_map([through], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns all names, and the id of each one's newest record.
fn read_names(
    connection: &Connection,
    unindexed: &[Version],
    erasures: &[Erasure],
) -> Result<(Names, Vec<Newest>), Cause> {
    // Ids ascend, so the newest of each name remains.
    let mut beyond_index: HashMap<NameKey, i64> = unindexed.iter().copied().collect();
    let (mut names, mut newest) = (Names::default(), Vec::new());
    let mut statement = connection.prepare("SELECT key, name, latest FROM names")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, name): (NameKey, Arc<str>) = (row.get(0)?, row.get(1)?);
        if !(1..=MAX_KEY).contains(&key) {
            return Err(Cause::Damaged(format!("name {key} has a key that was never assigned")));
        }
        let latest = beyond_index.remove(&key).max(row.get(2)?);
        let latest = latest.ok_or_else(|| Cause::Damaged(format!("name {key} has no record")))?;
        newest.push((Arc::clone(&name), latest));
        names.put(name, key);
    }
    let through = schema::optional_meta(connection, NAMES_THROUGH)?.unwrap_or(0);
    if !(0..=MAX_KEY).contains(&through) {
        return Err(Cause::Damaged(format!("the last key of a name is {through}")));
    }
    names.skip_through(through);
    // The versions of an erased name remain until they are removed.
    let is_erased = |key: NameKey| erasures.iter().any(|erasure| erasure.key == key);
    match beyond_index.keys().find(|key| !is_erased(**key)) {
        Some(key) => Err(Cause::Damaged(format!("there are records with name {key}, which does not exist"))),
        None => Ok((names, newest)),
    }
}

/// Returns the records with these names and ids, by ascending id. Read in the order of the table, each page is read once.
fn read_records(connection: &Connection, mut newest: Vec<Newest>) -> Result<Vec<Record>, Cause> {
    newest.sort_unstable_by_key(|(_, id)| *id);
    let mut statement = connection.prepare("SELECT id, data FROM records WHERE id >= ?1 ORDER BY id")?;
    let mut records = Vec::with_capacity(newest.len());
    let mut newest = newest.into_iter().peekable();
    while let Some(&(_, first)) = newest.peek() {
        // Stepping to the next row is much faster than searching it, but there may be many older versions in between.
        let (mut rows, found) = (statement.query([first])?, records.len());
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let Some((name, _)) = newest.next_if(|newest| newest.1 == id) else { break };
            records.push(Record { id: schema::from_sql(id), name, data: row.get(1)? });
        }
        if records.len() == found {
            return Err(Cause::Damaged(format!("record {first} does not exist")));
        }
    }
    Ok(records)
}
