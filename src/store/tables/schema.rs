//! The schema, its version, and connections to the database.
//!
//! - `records` is only appended to, so that a commit writes few pages.
//! - `names` maps each name to a small key; `latest` is the id of its newest record up to `indexed_through`, or a newer one.
//! - `versions` is the index from a name to its records, complete up to `indexed_through`.
//! - `meta` contains `ceiling`, the high-water mark of all ids, and `indexed_through`.
//! - `revocations` is created with the first revocation of tokens.
//! - `events` is a view for people and for `esker dump`.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::store::disk::location::Database;
use crate::store::error::Cause;

/// The version of the format, stored as `user_version`.
const FORMAT: i64 = 1;
/// "ESKR", stored as `application_id`.
const APPLICATION: i64 = 0x4553_4B52;
/// How long a connection waits for a lock. The store's own connections rarely contend, but another program may read for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The size of a database page, and of a WAL frame without its header.
pub(in crate::store) const PAGE_BYTES: u64 = 4096;

/// The keys in `meta`.
pub(in crate::store) const CEILING: &str = "ceiling";
pub(in crate::store) const INDEXED_THROUGH: &str = "indexed_through";

const TABLES: &str = "
    CREATE TABLE names (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, latest INTEGER) STRICT;
    CREATE TABLE records (id INTEGER PRIMARY KEY, name INTEGER NOT NULL, data TEXT NOT NULL) STRICT;
    CREATE TABLE versions (name INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE VIEW events AS SELECT records.id, names.name AS event, data FROM records JOIN names ON names.key = records.name;
    INSERT INTO meta VALUES ('ceiling', 0), ('indexed_through', 0);
";

/// What a connection is for. It determines its share of the 64 MiB of page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    Write,
    /// Checkpoints, which need no page cache.
    Checkpoint,
    ReadHistory,
    /// Looking up single ids.
    Lookup,
}

impl Purpose {
    fn cache_kibibytes(self) -> i64 {
        match self {
            Self::Write => 40 << 10,
            Self::Checkpoint => 64,
            Self::ReadHistory => 16 << 10,
            Self::Lookup => 2 << 10,
        }
    }
}

/// Opens a connection without reading the database.
pub(in crate::store) fn connect(database: &Database, purpose: Purpose) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, purpose == Purpose::Write);
    let connection = match database {
        Database::File(path) => Connection::open_with_flags(path, flags)?,
        Database::Memory(uri) | Database::Vfs { uri, .. } => {
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Only the checkpointer runs checkpoints, and after a failure not even the checkpointer.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -purpose.cache_kibibytes())?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", matches!(purpose, Purpose::ReadHistory | Purpose::Lookup))?;
    set_sync(&connection, Sync::Full)?;
    Ok(connection)
}

/// Whether a commit waits for an fsync: SQLite's `synchronous`.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Sync {
    /// Every commit does.
    Full,
    /// The next fsync of the WAL makes this commit durable as well. A loss of power before that rolls it back.
    Normal,
}

/// Sets whether the connection's commits wait for an fsync.
pub(in crate::store) fn set_sync(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    let mode = match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", mode)
}

/// Returns whether commits wait for an fsync, or true if that is unknown. For assertions.
pub(in crate::store) fn is_fully_synchronous(connection: &Connection) -> bool {
    connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).map_or(true, |mode| mode == 2)
}

/// Returns whether the database is new and empty. Fails, before anything is written, if it is not a store's.
pub(in crate::store) fn identify(connection: &Connection) -> Result<bool, Cause> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match (application, format) {
        (0, 0) if tables == 0 => Ok(true),
        (APPLICATION, FORMAT) => Ok(false),
        (APPLICATION, newer) if newer > FORMAT => Err(Cause::Newer { found: newer, supported: FORMAT }),
        (APPLICATION, other) => Err(Cause::Damaged(format!("their format is {other}"))),
        _ => Err(Cause::Foreign),
    }
}

/// Switches the database to WAL mode, which is persistent.
pub(in crate::store) fn enable_wal(connection: &Connection, database: &Database) -> Result<(), Cause> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    // A larger WAL file is truncated when the WAL restarts.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    match database {
        Database::Memory(_) => Ok(()),
        _ if mode != "wal" => Err(Cause::NoWal(mode)),
        _ => Ok(()),
    }
}

/// Creates the tables, in one transaction.
pub(in crate::store) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Reads a value of `meta`.
pub(in crate::store) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0))
}

/// Updates a value of `meta`.
pub(in crate::store) fn set_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?.execute((key, value)).map(drop)
}

/// Converts an id to SQLite's integer. An id that does not fit is larger than all assigned ids, and becomes the largest.
pub(in crate::store) fn to_sql(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Converts an id back from SQLite's integer.
pub(in crate::store) fn from_sql(id: i64) -> u64 {
    u64::try_from(id).unwrap_or(0)
}
