//! Whether what is in a store fits together: SQLite's own checks, and then index, names and newest records against the
//! records themselves, each a second time and naively. Changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use serde::de::IgnoredAny;

use super::super::error::{Cause, OpenError};
use super::super::files::Actor;
use super::super::location::DataDir;
use super::super::opening;
use super::super::schema::{self, INDEXED_THROUGH, Use};
use super::super::{Record, check_name};

/// So many problems are told, and so many more of SQLite's.
const MAX_PROBLEMS: usize = 100;

/// Counts that must be zero, with what it means if they are not.
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

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records there are.
    pub records: u64,
    /// Names there are.
    pub names: u64,
    /// The newest record's id.
    pub newest: u64,
    /// What does not fit together, in words; at most some hundred.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether all is well.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.into());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, names, newest, problems } = self;
        writeln!(f, "records: {records}, names: {names}, newest id: {newest}")?;
        problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))?;
        f.write_str(if problems.is_empty() {
            "no problems found"
        } else {
            "the store is damaged; restore it from a backup"
        })
    }
}

/// Checks the store in a directory, which nobody may be using.
pub fn check(directory: &Path) -> Result<Report, OpenError> {
    let home = DataDir::take_existing(directory, Actor::Tool)?;
    let failed = |cause: Cause| home.error(cause);
    let connection = schema::connect(&home.database, Use::Read).map_err(|error| failed(error.into()))?;
    let mut report = Report::default();
    // What SQLite can't even read is a problem found, not a check that failed.
    match examine(&connection, &mut report) {
        Err(Cause::Damaged(what)) => report.add(what),
        examined => examined.map_err(failed)?,
    }
    Ok(report)
}

fn examine(connection: &Connection, report: &mut Report) -> Result<(), Cause> {
    if schema::identify(connection)? {
        return Err(Cause::Missing);
    }
    integrity(connection, report)?;
    count(connection, report)?;
    for (sql, what) in COUNTS {
        match number(connection, sql)? {
            0 => (),
            found => report.add(format!("{found} {what}")),
        }
    }
    let expected = newest(connection)?;
    texts(connection, report)?;
    compare(&opening::find(connection)?.latest, &expected, report);
    Ok(())
}

fn integrity(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            report.add(said);
        }
    }
    Ok(())
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(schema::from_sql)
}

fn count(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    report.records = number(connection, "SELECT count(*) FROM records")?;
    report.names = number(connection, "SELECT count(*) FROM names")?;
    report.newest = number(connection, "SELECT coalesce(max(id), 0) FROM records")?;
    if schema::from_sql(schema::meta(connection, INDEXED_THROUGH)?) > report.newest {
        report.add("the index refers to records that do not exist");
    }
    Ok(())
}

/// Each name's newest id, out of the records alone.
fn newest(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = connection.prepare("SELECT event, max(id) FROM events GROUP BY event")?;
    statement.query_map([], |row| Ok((row.get(0)?, schema::from_sql(row.get(1)?))))?.collect()
}

/// Names must be good ones, and data JSON.
fn texts(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, event, data FROM events")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
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

/// What a start would show of each name, against what the records say.
fn compare(latest: &[Record], expected: &BTreeMap<String, u64>, report: &mut Report) {
    if latest.len() != expected.len() {
        report.add(format!("{} names have a newest record, but {} should", latest.len(), expected.len()));
    }
    for record in latest.iter().filter(|record| expected.get(&*record.name) != Some(&record.id)) {
        report.add(format!("record {} is not the newest of its name", record.id));
    }
}
