//! Checks the consistency of a store: SQLite's own checks, and then the index, the names and the newest records against the
//! records themselves, recomputed naively. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::de::IgnoredAny;

use crate::records::progress::{Amount, Progress, Silent};
use crate::records::report::Report;
use crate::records::{Record, check_name};
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;
use crate::store::error::{Cause, OpenError};
use crate::store::tables::recovery::recover;
use crate::store::tables::schema::{self, ERASED_THROUGH, INDEXED_THROUGH, Purpose};

/// Queries whose count must be zero, with the problem if it is not.
const COUNTS: [(&str, &str); 3] = [
    // While versions are being removed, the oldest of a name may be in the index alone.
    (
        "WITH oldest AS MATERIALIZED (SELECT name, min(id) AS id FROM records GROUP BY name)
         SELECT count(*) FROM versions LEFT JOIN records ON records.id = versions.id
         LEFT JOIN oldest ON oldest.name = versions.name
         WHERE records.name IS NOT versions.name AND NOT coalesce(
             EXISTS (SELECT 1 FROM meta WHERE key = 'pruning') AND records.id IS NULL AND versions.id < oldest.id, 0)",
        "versions in the index without a record",
    ),
    (
        "SELECT count(*) FROM records LEFT JOIN versions ON versions.name = records.name AND versions.id = records.id
         WHERE versions.id IS NULL AND records.id <= (SELECT value FROM meta WHERE key = 'indexed_through')",
        "records missing from the index",
    ),
    ("SELECT count(*) FROM records WHERE id < 1", "records with an invalid id"),
];

/// What is wrong with a copy that has problems.
const COPIED: &str = "the files don't belong together; they were probably copied while a broker was writing to them";

/// Counts the records without a name.
const NAMELESS: &str =
    "SELECT count(*) FROM records LEFT JOIN names ON names.key = records.name WHERE names.key IS NULL";
/// Those of a name that is being erased don't count.
const NOT_ERASED: &str = " AND records.name NOT IN (SELECT name FROM erasures)";

/// Checks the store in a directory, which no broker may have open.
pub fn check(directory: &Path, progress: &dyn Progress) -> Result<Report, OpenError> {
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

/// Requires that a copy has no problems. Changes nothing.
pub(in crate::store) fn require_good(connection: &Connection) -> Result<(), Cause> {
    let mut report = Report::default();
    let examined = examine(connection, &mut report, &Silent);
    let problem = match examined {
        Err(Cause::Damaged(what)) => Some(what),
        examined => examined.map(|()| report.problems.into_iter().next())?,
    };
    problem.map_or(Ok(()), |problem| Err(Cause::Damaged(format!("{COPIED} ({problem})"))))
}

fn examine(connection: &Connection, report: &mut Report, progress: &dyn Progress) -> Result<(), Cause> {
    if schema::identify(connection)? {
        return Err(Cause::Missing);
    }
    progress.begin("checking the pages of the database", Amount::Unknown);
    check_integrity(connection, report)?;
    progress.begin("counting records", Amount::Unknown);
    count_rows(connection, report)?;
    progress.begin("comparing the index with the records", Amount::Unknown);
    let is_erasing = schema::has_table(connection, "erasures")?;
    let nameless = format!("{NAMELESS}{}", if is_erasing { NOT_ERASED } else { "" });
    for (sql, what) in [(nameless.as_str(), "records without a name")].into_iter().chain(COUNTS) {
        match query_number(connection, sql)? {
            0 => (),
            found => report.add(format!("{found} {what}")),
        }
    }
    progress.begin("finding the newest record of each name", Amount::Unknown);
    let expected = newest_of_each_name(connection)?;
    progress.begin("checking records", Amount::Records(Some(report.records)));
    check_texts(connection, report, progress)?;
    progress.begin("comparing the newest records", Amount::Unknown);
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
    // The newest records may be erased; the id of the erasure is larger.
    let erased_through = schema::optional_meta(connection, ERASED_THROUGH)?.map_or(0, schema::from_sql);
    if schema::from_sql(schema::meta(connection, INDEXED_THROUGH)?) > report.newest.max(erased_through) {
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
fn check_texts(connection: &Connection, report: &mut Report, progress: &dyn Progress) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, event, data FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        progress.advance(1);
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
