//! Writes records as lines of JSON, oldest first. This works while a broker is running: it reads a single snapshot, and its
//! only effect on the broker is that the WAL can't restart in the meantime.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use crate::records::progress::{Amount, Progress};
use crate::records::transfer::{ToolError, write_line};
use crate::store::disk::location;
use crate::store::error::{Cause, OpenError};
use crate::store::tables::schema::{self, Purpose};

const ALL: &str = "SELECT id, event, data FROM events ORDER BY id";
/// Scans all records, because the index may be missing the newest.
const NAMED: &str = "SELECT id, event, data FROM events WHERE event = ?1 ORDER BY id";

/// Counts all records, in the index as far as it goes, which is smaller than the records.
const COUNT_ALL: &str = "SELECT (SELECT count(*) FROM versions) + count(*) FROM records
    WHERE id > (SELECT value FROM meta WHERE key = 'indexed_through')";
/// Counts the records with a name in the same way.
const COUNT_NAMED: &str = "SELECT (SELECT count(*) FROM versions WHERE name = key) +
    (SELECT count(*) FROM records WHERE records.name = key AND id > (SELECT value FROM meta WHERE key = 'indexed_through'))
    FROM names WHERE names.name = ?1";

/// Writes all records of a directory, or those of one name, and returns their number.
pub fn dump(
    directory: &Path,
    name: Option<&str>,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let failed = |cause| OpenError { path: directory.to_owned(), cause };
    let connection = open(directory).map_err(failed)?;
    let sql_failed = |error| ToolError::from(failed(Cause::from(error)));
    if progress.is_visible() {
        progress.begin("counting records", Amount::Unknown);
        let count = count(&connection, name).map_err(sql_failed)?;
        progress.begin("exporting records", Amount::Records(Some(count)));
    }
    let mut statement = connection.prepare(if name.is_some() { NAMED } else { ALL }).map_err(sql_failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(name)).map_err(sql_failed)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(sql_failed)? {
        let (id, name, data) = columns(row).map_err(sql_failed)?;
        write_line(id, name, data, output)?;
        count += 1;
        progress.advance(1);
    }
    output.flush().map_err(ToolError::Write)?;
    Ok(count)
}

/// Returns how many records there are, or how many have this name.
fn count(connection: &Connection, name: Option<&str>) -> rusqlite::Result<u64> {
    let count = connection.query_row(
        if name.is_some() { COUNT_NAMED } else { COUNT_ALL },
        rusqlite::params_from_iter(name),
        |row| row.get(0),
    );
    count.optional().map(|count| schema::from_sql(count.unwrap_or(0)))
}

fn open(directory: &Path) -> Result<Connection, Cause> {
    let database = location::find_database(directory)?;
    let connection = schema::connect(&database, Purpose::ReadHistory)?;
    if schema::identify(&connection)? { Err(Cause::Missing) } else { Ok(connection) }
}

/// Returns the id, the name and the data of a record.
fn columns<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<(i64, &'a str, &'a str)> {
    Ok((row.get(0)?, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?))
}
