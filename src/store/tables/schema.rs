//! The schema, its version, and connections to the database.
//!
//! - `records` is only appended to, so that a commit writes few pages.
//! - `names` maps each name to a small key; `latest` is the id of its newest record up to `indexed_through`, or a newer one.
//! - `versions` is the index from a name to its records, complete up to `indexed_through`.
//! - `meta` contains `ceiling`, the high-water mark of all ids, and `indexed_through`; `pruning` while versions are removed;
//!   `purge_due` while erased text may be in the files; and since the first erasure of a name `erased_through` and
//!   `names_through`.
//! - `erasures` is created with the first erasure, and contains those whose versions are being removed.
//! - `revocations` is created with the first revocation of tokens, `idempotency` with the first record that has a key, as is
//!   `key_seed` in `meta`.
//! - `user_version` is the version of the format; a higher one while an erasure is incomplete.
//! - `events` is a view for people and for `esker dump`.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use crate::store::disk::location::Database;
use crate::store::error::Cause;

/// The version of the format, stored as `user_version`.
const FORMAT: i64 = 1;
/// The version while an erasure is incomplete. Versions of Esker that can't complete it do not open the database then: they would
/// find records without a name, or give the key of an erased name to another one while rows with it are left. Once it is
/// complete, no row refers to the key, and an older version may use it again.
const FORMAT_ERASING: i64 = 2;
/// "ESKR", stored as `application_id`.
const APPLICATION: i64 = 0x4553_4B52;
/// How long a tool's connection waits for another program's lock.
pub(in crate::store) const TOOL_WAIT: Duration = Duration::from_secs(5);
/// How long a broker's reading connection waits for another program's lock.
pub(in crate::store) const READ_WAIT: Duration = Duration::from_secs(1);
/// How long each attempt of a broker's writing connection waits for another program's lock.
pub(in crate::store) const LOCK_SLICE: Duration = Duration::from_millis(100);
/// The size of a database page, and of a WAL frame without its header.
pub(in crate::store) const PAGE_BYTES: u64 = 4096;

/// The keys in `meta`.
pub(in crate::store) const CEILING: &str = "ceiling";
pub(in crate::store) const INDEXED_THROUGH: &str = "indexed_through";
/// Only there while `versions` may have entries whose record was removed.
pub(in crate::store) const PRUNING: &str = "pruning";

/// Removes a record by its id.
pub(in crate::store) const REMOVE_RECORD: &str = "DELETE FROM records WHERE id = ?1";
/// Exists while the files may contain the text of erased versions.
pub(in crate::store) const PURGE_DUE: &str = "purge_due";
/// The id of the last erasure of a name.
pub(in crate::store) const ERASED_THROUGH: &str = "erased_through";
/// No key of a name up to this one is assigned again, though the name may be erased.
pub(in crate::store) const NAMES_THROUGH: &str = "names_through";

/// The seed of the hashes of idempotency keys.
pub(in crate::store) const KEY_SEED: &str = "key_seed";

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

/// Opens a connection for a tool.
pub(in crate::store) fn connect(database: &Database, purpose: Purpose) -> rusqlite::Result<Connection> {
    connect_within(database, purpose, TOOL_WAIT)
}

/// Opens a connection that waits for locks of other programs for `wait`.
pub(in crate::store) fn connect_within(
    database: &Database,
    purpose: Purpose,
    wait: Duration,
) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, purpose == Purpose::Write);
    let connection = match database {
        Database::File(path) => Connection::open_with_flags(path, flags)?,
        Database::Memory(uri) | Database::Vfs { uri, .. } => {
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
    };
    connection.busy_timeout(wait)?;
    // Only the checkpointer runs checkpoints, and after a failure not even the checkpointer.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -purpose.cache_kibibytes())?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", matches!(purpose, Purpose::ReadHistory | Purpose::Lookup))?;
    if purpose == Purpose::Write {
        // What is removed must not stay in the file.
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    }
    set_sync(&connection, Sync::Full)?;
    Ok(connection)
}

/// Whether a commit waits for an fsync: SQLite's `synchronous`.
#[derive(Clone, Copy, Debug)]
enum Sync {
    /// Every commit does.
    Full,
    /// The next fsync of the WAL makes this commit durable as well. A loss of power before that rolls it back.
    Normal,
}

/// Sets whether the connection's commits wait for an fsync.
fn set_sync(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    let mode = match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", mode)
}

/// Does work whose commits don't wait for an fsync.
pub(in crate::store) fn without_fsync<T>(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    set_sync(connection, Sync::Normal)?;
    let done = work(connection);
    // Restored whatever the outcome, because the next commit must be durable.
    set_sync(connection, Sync::Full)?;
    done
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
        (APPLICATION, FORMAT | FORMAT_ERASING) => Ok(false),
        (APPLICATION, newer) if newer > FORMAT_ERASING => Err(Cause::Newer { found: newer, supported: FORMAT_ERASING }),
        (APPLICATION, other) => Err(Cause::Damaged(format!("their format is {other}"))),
        _ => Err(Cause::Foreign),
    }
}

/// Makes it possible to give free pages of a new database back to the file system, page by page. Called before anything is
/// written: an existing database would have to be rewritten.
pub(in crate::store) fn enable_vacuum(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
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

/// Stores, in an open transaction, that an erasure is incomplete: files may contain the text of erased versions.
pub(in crate::store) fn begin_purge(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    put_meta(transaction, PURGE_DUE, 1)?;
    transaction.pragma_update(None, "user_version", FORMAT_ERASING)
}

/// Stores that all erasures are complete.
pub(in crate::store) fn end_purge(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    remove_meta(&transaction, PURGE_DUE)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Returns whether a table exists, of those that are created with their first row.
pub(in crate::store) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let count = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(count, [name], |row| row.get::<_, i64>(0)).map(|count| count > 0)
}

/// Reads a value of `meta`.
pub(in crate::store) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0))
}

/// Returns whether `meta` has a value.
pub(in crate::store) fn has_meta(connection: &Connection, key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM meta WHERE key = ?1")?.exists([key])
}

/// Reads a value of `meta` that only some databases have.
pub(in crate::store) fn optional_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Adds a value to `meta` unless it has one.
pub(in crate::store) fn add_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, value))
        .map(drop)
}

/// Adds a value to `meta`, or updates it.
pub(in crate::store) fn put_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, value))
        .map(drop)
}

/// Removes a value from `meta`.
pub(in crate::store) fn remove_meta(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(drop)
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
