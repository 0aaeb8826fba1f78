//! Checks the consistency of a store: SQLite's own checks, and then the index, the names and the newest records against the
//! records themselves, recomputed naively. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::de::IgnoredAny;

use crate::records::report::Report;
use crate::records::{Record, check_name};
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;
use crate::store::error::{Cause, OpenError};
use crate::store::tables::recovery::recover;
use crate::store::tables::schema::{self, INDEXED_THROUGH, Purpose};

/// Queries whose count must be zero, with the problem if it is not.
const COUNTS: [(&str, &str); 4] = [
    (
        "SELECT count(*) FROM records LEFT JOIN names ON names.key = records.name WHERE names.key IS NULL",
        "records without a name",
    ),
    (
        "SELECT count(*) FROM versions LEFT JOIN records USING (id) WHERE records.name IS NOT versions.name",
        "versions in the index without a record",
    ),
    (
        "SELECT count(*) FROM records LEFT JOIN versions ON versions.name = records.name AND versions.id = records.id
         WHERE versions.id IS NULL AND records.id <= (SELECT value FROM meta WHERE key = 'indexed_through')",
        "records missing from the index",
    ),
    ("SELECT count(*) FROM records WHERE id < 1", "records with an invalid id"),
];

/// Checks the store in a directory, which no broker may have open. `progress` is told the number of records that were read.
pub fn check(directory: &Path, progress: &mut dyn FnMut(u64)) -> Result<Report, OpenError> {
    let data_dir = DataDir::acquire_existing(directory, Actor::Tool)?;
    let failed = |cause: Cause| data_dir.error(cause);
    let connection = schema::connect(&data_dir.database, Purpose::ReadHistory).map_err(|error| failed(error.into()))?;
    let mut report = Report::default();
    // Pages that SQLite can't read are a problem found, not a failure of the check.
    match examine(&connection, &mut report, progress) {
        Err(Cause::Damaged(what)) => report.add(what),
        examined => examined.map_err(failed)?,
    }
    Ok(report)
}

fn examine(connection: &Connection, report: &mut Report, progress: &mut dyn FnMut(u64)) -> Result<(), Cause> {
    if schema::identify(connection)? {
        return Err(Cause::Missing);
    }
    check_integrity(connection, report)?;
    count_rows(connection, report)?;
    for (sql, what) in COUNTS {
        match query_number(connection, sql)? {
            0 => (),
            found => report.add(format!("{found} {what}")),
        }
    }
    let expected = newest_of_each_name(connection)?;
    check_texts(connection, report, progress)?;
    compare_latest(&recover(connection)?.latest, &expected, report);
    Ok(())
}

fn check_integrity(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let message: String = row.get(0)?;
        if message != "ok" {
            report.add(message);
        }
    }
    Ok(())
}

fn query_number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(schema::from_sql)
}

fn count_rows(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    report.records = query_number(connection, "SELECT count(*) FROM records")?;
    report.names = query_number(connection, "SELECT count(*) FROM names")?;
    report.newest = query_number(connection, "SELECT coalesce(max(id), 0) FROM records")?;
    if schema::from_sql(schema::meta(connection, INDEXED_THROUGH)?) > report.newest {
        report.add("the index refers to records that do not exist");
    }
    Ok(())
}

/// Returns the newest id of each name, from the records alone.
fn newest_of_each_name(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare("SELECT event, max(id) FROM events GROUP BY event")?;
    statement.query_map([], |row| Ok((row.get(0)?, schema::from_sql(row.get(1)?))))?.collect()
}

/// Checks that names are valid and data is JSON.
fn check_texts(connection: &Connection, report: &mut Report, progress: &mut dyn FnMut(u64)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, event, data FROM events")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        progress(count);
        let id: i64 = row.get(0)?;
        if let Err(error) = check_name(row.get_ref(1)?.as_str()?) {
            report.add(format!("record {id}: {error}"));
        }
        if let Err(error) = serde_json::from_str::<IgnoredAny>(row.get_ref(2)?.as_str()?) {
            report.add(format!("record {id} is not valid JSON: {error}"));
        }
    }
    Ok(())
}

/// Compares the newest record of each name, as a start would read them, with the records.
fn compare_latest(latest: &[Record], expected: &BTreeMap<String, u64>, report: &mut Report) {
    if latest.len() != expected.len() {
        report.add(format!("{} names have a newest record, but {} should", latest.len(), expected.len()));
    }
    for record in latest.iter().filter(|record| expected.get(&*record.name) != Some(&record.id)) {
        report.add(format!("record {} is not the newest of its name", record.id));
    }
}
