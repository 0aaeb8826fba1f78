//! Writes records as lines of JSON, oldest first. Beside a running broker, too: it reads one snapshot, and holds nothing but
//! the log back.

use std::io::Write;
use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use super::super::error::{Cause, OpenError};
use super::super::location;
use super::super::schema::{self, Use};
use super::ToolError;

const ALL: &str = "SELECT id, event, data FROM events ORDER BY id";
/// The index may lack the newest, and reading it all is what most dumps do.
const NAMED: &str = "SELECT id, event, data FROM events WHERE event = ?1 ORDER BY id";

/// What is in a line, beside the data.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    event: &'a str,
}

/// Writes all records of a directory, or those of one name, and tells how many.
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
    let database = location::require(directory)?;
    let connection = schema::connect(&database, Use::Read)?;
    if schema::identify(&connection)? { Err(Cause::Missing) } else { Ok(connection) }
}

/// `{"id":"…","event":"…","data":…}`, the data as it is kept.
fn line(row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    let head = Head { id: row.get::<_, i64>(0)?.to_string(), event: row.get_ref(1)?.as_str()? };
    let data = row.get_ref(2)?.as_str()?;
    // Strings can always be written as JSON.
    let head = serde_json::to_string(&head).unwrap_or_default();
    Ok(format!("{},\"data\":{data}}}\n", head.trim_end_matches('}')))
}
