//! What can go wrong, as types, and what SQLite's errors mean here. Refuses to know who reports it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};

use super::MAX_NAME;
use super::schema::FORMAT;
use super::shortage::Shortage;

/// Why a record was not stored, or a history not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Too many wait; nothing of it is stored.
    Busy,
    /// Another program holds the database; nothing of it is stored.
    Locked,
    /// There is no room; nothing of it is stored.
    Full(Shortage),
    /// The disk failed. Whether the record is stored shows at the next start.
    Failed,
    /// The store is closed; nothing of it is stored.
    Closed,
}

impl StoreError {
    /// What they are called, by [`StoreError::index`].
    pub(crate) const NAMES: [&str; 5] = ["busy", "locked", "full", "failed", "closed"];

    /// Returns the index of its name.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Busy => 0,
            Self::Locked => 1,
            Self::Full(_) => 2,
            Self::Failed => 3,
            Self::Closed => 4,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the store is overloaded; try again in a moment",
            Self::Locked => {
                "another program, such as a backup or the sqlite3 shell, has locked the database; inserts resume \
                 automatically once it releases the lock"
            }
            Self::Full(shortage) => {
                return write!(f, "{shortage}; free some space, and inserts resume automatically");
            }
            Self::Failed => {
                "the store's disk has failed; see the broker's log, repair the disk, and restart the \
                             broker"
            }
            Self::Closed => "the store is closed; try again after the broker's restart",
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
            Self::Empty => f.write_str("the name is empty; use 1 to 256 bytes"),
            Self::Long(len) => write!(f, "the name has {len} bytes; use at most {MAX_NAME}"),
            Self::Control => f.write_str("the name has a control character; remove it"),
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
    /// A file or the directory belongs to another user than the process's.
    Owner { path: PathBuf, owner: u32, user: u32 },
    /// Instead of a file there is a link, a directory or a device.
    NotPlain(PathBuf),
    /// No room to create the files, or to move the log into the database.
    Full(Shortage),
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
                "the data directory {path} is not writable: {error}; choose another with --data, or use --data \
                 :memory: to store nothing"
            ),
            Cause::Missing => write!(f, "{path} has no records; give the data directory (--data) of a broker"),
            Cause::Held(Some(pid)) => write!(
                f,
                "the data directory {path} is used by another broker (process {pid}); stop it, or choose another \
                 directory with --data"
            ),
            Cause::Held(None) => {
                write!(
                    f,
                    "the data directory {path} is used by another broker; stop it, or choose another \
                           directory with --data"
                )
            }
            Cause::InUse => write!(
                f,
                "another program, such as a backup or the sqlite3 shell, has locked the database in {path}; stop \
                 it, or wait for it"
            ),
            Cause::Foreign => {
                write!(f, "the database in {path} was not created by Esker; choose another directory with --data")
            }
            Cause::Newer(found) => write!(
                f,
                "the records in {path} have format {found}, but this version supports only {FORMAT}; use a newer \
                 version of Esker"
            ),
            Cause::Damaged(what) => write!(
                f,
                "the records in {path} are damaged: {what}; run esker check for details, then restore a backup, or \
                 save what esker dump can still read"
            ),
            Cause::NoLog(mode) => write!(
                f,
                "the file system of {path} has no shared memory for SQLite's log (journal mode {mode}); use a local disk"
            ),
            Cause::Owner { path: file, owner, user } => write!(
                f,
                "{} belongs to user {owner}, but this process runs as user {user}; run it as user {owner}, or \
                 change the owner (chown -R {user} {path})",
                file.display()
            ),
            Cause::NotPlain(file) => write!(
                f,
                "{} is a symbolic link or not a regular file; remove it, or choose another directory with --data",
                file.display()
            ),
            Cause::Full(shortage) => write!(f, "no space left in {path}: {shortage}; free some space and start again"),
            Cause::Sqlite(error) => write!(f, "the records in {path} can't be opened: {error}"),
            Cause::Thread(error) => write!(f, "can't start the store's thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Returns what a failed call of SQLite's says about room. Where it does not report a full disk as such, the system's error
/// decides: this must be called by the thread that made the call, before that makes another.
fn shortage(error: &rusqlite::Error) -> Option<Shortage> {
    let error = error.sqlite_error()?;
    let by_system = || Shortage::of(&io::Error::last_os_error());
    match error.extended_code {
        _ if error.code == ErrorCode::DiskFull => Some(Shortage::Disk),
        SQLITE_IOERR_SHMSIZE => Some(by_system().unwrap_or(Shortage::Disk)),
        // An fsync that fails with the same error is another matter: what it was for may be gone.
        SQLITE_IOERR_WRITE => by_system(),
        _ => None,
    }
}

impl Cause {
    /// Returns why a file can't be created or written.
    pub fn of_write(error: io::Error) -> Self {
        Shortage::of(&error).map_or(Self::Write(error), Self::Full)
    }
}

impl From<rusqlite::Error> for Cause {
    fn from(error: rusqlite::Error) -> Self {
        if let Some(shortage) = shortage(&error) {
            return Self::Full(shortage);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::ReadOnly) => Self::Write(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, error)),
            Some(_) => Self::Sqlite(error),
            // No failure of SQLite's: a value of another type than the schema says, a row that must be there and is not.
            None => Self::Damaged(error.to_string()),
        }
    }
}

/// What a failed transaction means. Whatever it is, the transaction was rolled back or its end is unknown.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another program holds the database for too long; nothing is wrong with it.
    Locked,
    /// No room; nothing of it is kept, and later there may be room.
    Full(Shortage),
    /// Anything else: what is on the disk is unknown.
    Broken(String),
}

impl Fault {
    /// Returns the answer to those who asked for what can't be read, and logs an error that is not just a lock.
    pub fn answer_read(error: rusqlite::Error, what: &str) -> StoreError {
        match Self::from(error) {
            Self::Locked => StoreError::Locked,
            fault => {
                log::error!("{what} can't be read: {fault}");
                StoreError::Failed
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("another program has locked the database"),
            Self::Full(shortage) => shortage.fmt(f),
            Self::Broken(error) => f.write_str(error),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        if let Some(shortage) = shortage(&error) {
            return Self::Full(shortage);
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            _ => Self::Broken(error.to_string()),
        }
    }
}
