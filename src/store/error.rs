//! What can go wrong, as types, and what SQLite's errors mean here. Refuses to know who reports it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

use super::MAX_NAME;
use super::schema::FORMAT;

/// Why a record was not stored, or a history not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Too many wait; nothing of it is stored.
    Busy,
    /// The disk is full; nothing of it is stored.
    Full,
    /// The disk failed. Whether the record is stored shows at the next start.
    Failed,
    /// The store is closed; nothing of it is stored.
    Closed,
}

impl StoreError {
    /// What they are called, in their order.
    pub(crate) const NAMES: [&str; 4] = ["busy", "full", "failed", "closed"];
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the store has too much to do; try again in a moment",
            Self::Full => "the disk is full; make room on it, and inserts go on by themselves",
            Self::Failed => "the store's disk has failed; see the broker's log, and restart it once the disk is well",
            Self::Closed => "the store is closed; try again when the broker runs",
        })
    }
}

impl std::error::Error for StoreError {}

/// Why a record can't have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// None at all.
    Empty,
    /// So many bytes.
    Long(usize),
    /// A control character in it.
    Control,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty; give 1 to 256 bytes"),
            Self::Long(len) => write!(f, "the name has {len} bytes; give at most {MAX_NAME}"),
            Self::Control => f.write_str("the name has a control character; give one without"),
        }
    }
}

impl std::error::Error for BadName {}

/// Why a store could not be opened.
#[derive(Debug)]
pub struct OpenError {
    pub(super) path: PathBuf,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// The directory can't be made or entered.
    Directory(io::Error),
    /// Nothing can be written in it.
    Write(io::Error),
    /// There is no store, and none is to be made.
    Missing,
    /// Another process (its id) has it.
    Held(Option<u32>),
    /// Another program reads or writes the database.
    InUse,
    /// Some other program's database.
    Foreign,
    /// Written by a newer version.
    Newer(i64),
    /// What is there does not fit together.
    Damaged(String),
    /// The file system does without what a log that several threads use needs.
    NoLog(String),
    /// No room to move the log into the database.
    Full,
    /// Whatever else SQLite has to say.
    Sqlite(rusqlite::Error),
    /// No thread to be had.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.cause {
            Cause::Directory(error) => write!(f, "the data directory {path} can't be used: {error}"),
            Cause::Write(error) => write!(
                f,
                "the data directory {path} can't be written to: {error}; give another by --data, or :memory: to keep nothing"
            ),
            Cause::Missing => write!(f, "{path} has no records; give the directory that --data names"),
            Cause::Held(Some(pid)) => write!(
                f,
                "the data directory {path} is used by another broker (process {pid}); stop that, or give another by --data"
            ),
            Cause::Held(None) => {
                write!(f, "the data directory {path} is used by another broker; stop that, or give another by --data")
            }
            Cause::InUse => write!(f, "another program is using the records in {path}; wait for it to end"),
            Cause::Foreign => {
                write!(f, "the database in {path} is not Esker's; give another directory by --data")
            }
            Cause::Newer(found) => write!(
                f,
                "the records in {path} have format {found}, and this version knows {FORMAT}; use a newer version of Esker"
            ),
            Cause::Damaged(what) => write!(
                f,
                "the records in {path} are damaged: {what}; see what esker check says, and restore them from a backup or \
                 save what esker dump still reads"
            ),
            Cause::NoLog(mode) => write!(
                f,
                "the file system of {path} has no shared memory for SQLite's log (journal mode {mode}); use a local disk"
            ),
            Cause::Full => write!(f, "the disk of {path} is full; make room on it and start again"),
            Cause::Sqlite(error) => write!(f, "the records in {path} can't be opened: {error}"),
            Cause::Thread(error) => write!(f, "no thread for the store: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// SQLite tells of a full disk apart, but for the index of its log.
fn has_no_room_for_index(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE)
}

impl From<rusqlite::Error> for Cause {
    fn from(error: rusqlite::Error) -> Self {
        if has_no_room_for_index(&error) {
            return Self::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::ReadOnly) => Self::Write(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, error)),
            Some(_) => Self::Sqlite(error),
            // No failure of SQLite's: a value of another type than the schema says, a row that must be there and is not.
            None => Self::Damaged(error.to_string()),
        }
    }
}

/// What a failed transaction means for the store. Whatever it is, the transaction was rolled back or its end is unknown.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another program has the database for too long; nothing is wrong with it.
    Busy,
    /// No room; nothing of it is kept, and later there may be room.
    Full,
    /// Anything else: what is on the disk is unknown.
    Broken(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ if has_no_room_for_index(&error) => Self::Full,
            _ => Self::Broken(error.to_string()),
        }
    }
}
