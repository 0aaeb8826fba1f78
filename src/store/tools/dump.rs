//! Writes records as lines of JSON, oldest first. This works while a broker is running: it reads a single snapshot, and its
//! only effect on the broker is that the WAL can't restart in the meantime.

use std::io::Write;
use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use super::error::ToolError;
use crate::store::disk::location;
use crate::store::error::{Cause, OpenError};
use crate::store::tables::schema::{self, Purpose};

const ALL: &str = "SELECT id, event, data FROM events ORDER BY id";
/// Scans all records, because the index may be missing the newest.
const NAMED: &str = "SELECT id, event, data FROM events WHERE event = ?1 ORDER BY id";

/// The members of a line before its data.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    event: &'a str,
}

/// Writes all records of a directory, or those of one name, and returns their number.
pub fn dump(directory: &Path, name: Option<&str>, output: &mut dyn Write) -> Result<u64, ToolError> {
    let failed = |cause| OpenError { path: directory.to_owned(), cause };
    let connection = open(directory).map_err(failed)?;
    let sql_failed = |error| ToolError::Open(failed(Cause::from(error)));
    let mut statement = connection.prepare(if name.is_some() { NAMED } else { ALL }).map_err(sql_failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(name)).map_err(sql_failed)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(sql_failed)? {
        let line = line(row).map_err(sql_failed)?;
        output.write_all(line.as_bytes()).map_err(ToolError::Write)?;
        count += 1;
    }
    output.flush().map_err(ToolError::Write)?;
    Ok(count)
}

fn open(directory: &Path) -> Result<Connection, Cause> {
    let database = location::find_database(directory)?;
    let connection = schema::connect(&database, Purpose::ReadHistory)?;
    if schema::identify(&connection)? { Err(Cause::Missing) } else { Ok(connection) }
}

/// Returns the line `{"id":"…","event":"…","data":…}`, with the data as stored.
fn line(row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    let head = Head { id: row.get::<_, i64>(0)?.to_string(), event: row.get_ref(1)?.as_str()? };
    let data = row.get_ref(2)?.as_str()?;
    // Serializing strings can't fail.
    let head = serde_json::to_string(&head).unwrap_or_default();
    Ok(format!("{},\"data\":{data}}}\n", head.trim_end_matches('}')))
}
