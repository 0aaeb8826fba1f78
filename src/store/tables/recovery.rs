//! Reads what a store needs in memory when it is opened: all names, the newest record of each, and what the index is missing.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::commit::{NameKey, Names, Version};
use super::revocations;
use super::schema::{self, CEILING, INDEXED_THROUGH};
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
    pub mark: HighWaterMark,
    /// The revocations of tokens, and their seconds.
    pub revocations: Vec<(String, u64)>,
}

/// A name and the id of its newest record.
type Newest = (Arc<str>, i64);

/// Reads the tables.
pub(in crate::store) fn recover(connection: &Connection) -> Result<Recovered, Cause> {
    let through = schema::meta(connection, INDEXED_THROUGH)?;
    let ceiling = schema::from_sql(schema::meta(connection, CEILING)?);
    let unindexed = read_unindexed(connection, through)?;
    let (names, newest) = read_names(connection, &unindexed)?;
    let mut latest =
        newest.into_iter().map(|(name, id)| read_record(connection, name, id)).collect::<Result<Vec<_>, _>>()?;
    latest.sort_unstable_by_key(|record| record.id);
    let newest_record = latest.last().map_or(0, |record| record.id);
    let revocations = revocations::all(connection)?;
    Ok(Recovered { names, latest, unindexed, mark: HighWaterMark::new(ceiling, newest_record), revocations })
}

fn read_unindexed(connection: &Connection, through: i64) -> rusqlite::Result<Vec<Version>> {
    let mut statement = connection.prepare("SELECT name, id FROM records WHERE id > ?1 ORDER BY id")?;
    statement.query_map([through], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns all names, and the id of each one's newest record.
fn read_names(connection: &Connection, unindexed: &[Version]) -> Result<(Names, Vec<Newest>), Cause> {
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
    match beyond_index.keys().next() {
        Some(key) => Err(Cause::Damaged(format!("there are records with name {key}, which does not exist"))),
        None => Ok((names, newest)),
    }
}

fn read_record(connection: &Connection, name: Arc<str>, id: i64) -> Result<Record, Cause> {
    let mut statement = connection.prepare_cached("SELECT data FROM records WHERE id = ?1")?;
    match statement.query_row([id], |row| row.get(0)) {
        Ok(data) => Ok(Record { id: schema::from_sql(id), name, data }),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(Cause::Damaged(format!("record {id} does not exist"))),
        Err(error) => Err(error.into()),
    }
}
