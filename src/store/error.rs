//! The store's errors, and what SQLite's errors mean for a store.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};

use super::disk::shortage::Shortage;
use super::report::HeldBy;
pub use super::report::{LockHolder, StoreError, Unerased};

/// Why a store can't be opened.
#[derive(Debug)]
pub struct OpenError {
    pub(super) path: PathBuf,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
    /// The directory can't be created or entered.
    Directory(io::Error),
    /// The directory can't be written to.
    Write(io::Error),
    /// There is no store, and the caller does not want one to be created.
    Missing,
    /// Another broker, with this process id, has locked the directory.
    LockedBy(Option<u32>),
    /// The check of a copy was interrupted.
    Interrupted,
    /// Another program, if it is known which, is using the database.
    InUse(Option<LockHolder>),
    /// The database is another program's.
    Foreign,
    /// A newer version has written the database.
    Newer { found: i64, supported: i64 },
    /// The database is inconsistent or unreadable.
    Damaged(String),
    /// The file system lacks the shared memory that the WAL needs. The journal mode that SQLite uses instead.
    NoWal(String),
    /// A file or the directory belongs to another user than the one that the process runs as.
    Owner { path: PathBuf, owner: u32, user: u32 },
    /// A link, a directory or a device is where a regular file must be.
    NotRegularFile(PathBuf),
    /// The disk is too full to create the files or to checkpoint the WAL.
    Full(Shortage),
    /// Any other error of SQLite's.
    Sqlite(rusqlite::Error),
    /// A thread can't be started.
    Thread(io::Error),
}

impl OpenError {
    /// Returns whether the caller has interrupted the check of a copy.
    pub(crate) fn is_interruption(&self) -> bool {
        matches!(self.cause, Cause::Interrupted)
    }

    /// Returns whether another program, which is not a broker, holds the database.
    pub(crate) fn is_lock(&self) -> bool {
        matches!(self.cause, Cause::InUse(_))
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.cause {
            Cause::Directory(error) => write!(f, "the data directory {path} can't be used: {error}"),
            Cause::Write(error) => write!(
                f,
                "the data directory {path} is not writable: {error}; choose another with `data`, or use `in_memory` to store nothing"
            ),
            Cause::Missing => write!(f, "{path} has no records; give the data directory (`data`) of a broker"),
            Cause::LockedBy(Some(pid)) => write!(
                f,
                "the data directory {path} is used by another broker (process {pid}); stop it, or choose another directory with `data`"
            ),
            Cause::LockedBy(None) => {
                write!(
                    f,
                    "the data directory {path} is used by another broker; stop it, or choose another directory with `data`"
                )
            }
            Cause::InUse(holder) => write!(
                f,
                "can't open the records in {path}: {}; stop that program, or wait until it is done",
                HeldBy(*holder)
            ),
            Cause::Interrupted => write!(f, "the check of the records in {path} was interrupted"),
            Cause::Foreign => {
                write!(f, "the database in {path} was not created by Esker; choose another directory with `data`")
            }
            Cause::Newer { found, supported } => write!(
                f,
                "the records in {path} have format {found}, but this version supports only {supported}; use a newer version of Esker"
            ),
            Cause::Damaged(what) => write!(
                f,
                "the records in {path} are damaged: {what}; run esker check for details, then restore a backup, or save what esker dump can still read"
            ),
            Cause::NoWal(mode) => write!(
                f,
                "the file system of {path} has no shared memory for SQLite's log (journal mode {mode}); use a local disk"
            ),
            Cause::Owner { path: file, owner, user } => write!(
                f,
                "{} belongs to user {owner}, but this process runs as user {user}; run it as user {owner}, or change the owner (chown -R {user} {path})",
                file.display()
            ),
            Cause::NotRegularFile(file) => write!(
                f,
                "{} is a symbolic link or not a regular file; remove it, or choose another directory with `data`",
                file.display()
            ),
            Cause::Full(shortage) => write!(f, "no space left in {path}: {shortage}; free some space and start again"),
            Cause::Sqlite(error) => write!(f, "the records in {path} can't be opened: {error}"),
            Cause::Thread(error) => write!(f, "can't start the store's thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Directory(error) | Cause::Write(error) | Cause::Thread(error) => Some(error),
            Cause::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}

/// Returns the shortage that made a call of SQLite's fail, if one did. Where SQLite does not report a full disk as such, errno
/// decides, so the calling thread must not have made another system call since.
fn shortage(error: &rusqlite::Error) -> Option<Shortage> {
    let error = error.sqlite_error()?;
    let by_errno = || Shortage::from_io(&io::Error::last_os_error());
    match error.extended_code {
        _ if error.code == ErrorCode::DiskFull => Some(Shortage::Disk),
        SQLITE_IOERR_SHMSIZE => Some(by_errno().unwrap_or(Shortage::Disk)),
        // A failed fsync is different, whatever its errno: what it should have written may be lost.
        SQLITE_IOERR_WRITE => by_errno(),
        _ => None,
    }
}

/// Returns whether an error means that another program holds a lock. SQLite reports a locking protocol failure after it has
/// tried for seconds to get a lock that is usually held for microseconds.
fn is_locked(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
}

impl Cause {
    /// Returns why a file can't be created or written.
    pub fn from_write(error: io::Error) -> Self {
        Shortage::from_io(&error).map_or(Self::Write(error), Self::Full)
    }
}

impl From<rusqlite::Error> for Cause {
    fn from(error: rusqlite::Error) -> Self {
        if let Some(shortage) = shortage(&error) {
            return Self::Full(shortage);
        }
        match error.sqlite_error_code() {
            Some(code) if is_locked(code) => Self::InUse(None),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            Some(ErrorCode::ReadOnly) => Self::Write(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, error)),
            Some(_) => Self::Sqlite(error),
            // Not an error of SQLite's: a value is of another type than the schema says, or a required row is missing.
            None => Self::Damaged(error.to_string()),
        }
    }
}

/// What a failed transaction means for the store. The transaction was rolled back, or its outcome is unknown.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another program holds a lock on the database for too long. The database is fine.
    Locked,
    /// The disk is full. The transaction was rolled back and can be tried again.
    Full(Shortage),
    /// Anything else: the state of the disk is unknown.
    Broken(String),
}

impl Fault {
    /// Turns a failed read into its reply, and logs it unless the database was merely locked.
    pub fn into_read_error(error: rusqlite::Error, what: &str) -> StoreError {
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
            Self::Locked => f.write_str("another program holds the database"),
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
            Some(code) if is_locked(code) => Self::Locked,
            _ => Self::Broken(error.to_string()),
        }
    }
}
