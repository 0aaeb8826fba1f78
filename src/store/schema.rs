//! The tables, the version of their format, and connections to them. Refuses to know what is done with them.
//!
//! - `records` only grows at its end, so that a commit touches few pages.
//! - `names` gives each name a small key; `latest` is its newest record's id up to `indexed_through`, or beyond.
//! - `versions` is the way from a name to its records, complete up to `indexed_through`.
//! - `meta` has `ceiling` (see `mark`) and `indexed_through`.
//! - `events` is how a person reads it.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::Cause;
use super::location::Database;

/// The format's version, kept in `user_version`.
pub(super) const FORMAT: i64 = 1;
/// "ESKR", kept in `application_id`.
const APPLICATION: i64 = 0x4553_4B52;
/// So long a connection waits for another's lock. Ours hardly ever meet; another program may read for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// The size of pages, of which the log's frames are made.
pub(super) const PAGE_BYTES: u64 = 4096;

/// The keys in `meta`.
pub(super) const CEILING: &str = "ceiling";
pub(super) const INDEXED_THROUGH: &str = "indexed_through";

const TABLES: &str = "
    CREATE TABLE names (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, latest INTEGER) STRICT;
    CREATE TABLE records (id INTEGER PRIMARY KEY, name INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
    CREATE TABLE versions (name INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE VIEW events AS SELECT records.id, names.name AS event, data FROM records JOIN names ON names.key = records.name;
    INSERT INTO meta VALUES ('ceiling', 0), ('indexed_through', 0);
";

/// What a connection is for, and its share of the 64 MiB of pages that all may keep in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Write,
    /// Moving the log, which needs no pages.
    Keep,
    Read,
    /// Looking up single ids.
    Find,
}

impl Use {
    fn cache_kibibytes(self) -> i64 {
        match self {
            Self::Write => 40 << 10,
            Self::Keep => 64,
            Self::Read => 16 << 10,
            Self::Find => 2 << 10,
        }
    }
}

/// Opens what is there, without a look into it.
pub(super) fn connect(database: &Database, purpose: Use) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, purpose == Use::Write);
    let connection = match database {
        Database::File(path) => Connection::open_with_flags(path, flags)?,
        Database::Memory(uri) | Database::Vfs { uri, .. } => {
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
    };
    connection.busy_timeout(PATIENCE)?;
    // The log is moved when we say so, and after a failure not at all.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -purpose.cache_kibibytes())?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", matches!(purpose, Use::Read | Use::Find))?;
    set_sync(&connection, Sync::Full)?;
    Ok(connection)
}

/// When a transaction's end waits for the disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sync {
    /// Always.
    Full,
    /// It goes to the disk with the next one that waits: the log is one file, and an fsync is for all of it. If power is
    /// lost before, it is as if it had never been.
    Later,
}

pub(super) fn set_sync(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    let mode = match sync {
        Sync::Full => "FULL",
        Sync::Later => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", mode)
}

/// Whose database it is, before anything is written to it. True: nobody's yet.
pub(super) fn identify(connection: &Connection) -> Result<bool, Cause> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (application, format) {
        (0, 0) if tables == 0 => Ok(true),
        (APPLICATION, FORMAT) => Ok(false),
        (APPLICATION, newer) if newer > FORMAT => Err(Cause::Newer(newer)),
        (APPLICATION, other) => Err(Cause::Damaged(format!("their format is {other}"))),
        _ => Err(Cause::Foreign),
    }
}

/// Turns the log on, which stays so.
pub(super) fn use_log(connection: &Connection, database: &Database) -> Result<(), Cause> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    // A longer one is cut when it begins anew.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    match database {
        Database::Memory(_) => Ok(()),
        _ if mode != "wal" => Err(Cause::NoLog(mode)),
        _ => Ok(()),
    }
}

/// Makes the tables, all or none.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// A number in `meta`.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0))
}

pub(super) fn set_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?.execute((key, value)).map(drop)
}

/// An id as SQLite has it. What is too large for that is larger than all that was given.
pub(super) fn to_sql(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// An id as it was given.
pub(super) fn from_sql(id: i64) -> u64 {
    u64::try_from(id).unwrap_or(0)
}
