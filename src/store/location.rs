//! Where the store's files are: the directory, who holds it, how much room its disk has.
//! Refuses to know what is in the database.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Cause, OpenError};
use super::files::{self, Actor, Directory};

/// The database's name in the directory; SQLite's own files beside it are called after it.
const DATABASE: &str = "records.db";
/// SQLite's log.
const LOG: &str = "records.db-wal";
/// The log's index, which the connections share.
const LOG_INDEX: &str = "records.db-shm";
const JOURNAL: &str = "records.db-journal";
/// The file whose lock is the hold on the directory.
const LOCK: &str = "lock";

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(unpredictable_function_pointer_comparisons, reason = "two disks of a simulation differ by their names already")]
pub enum Location {
    /// In files in a directory, which is made if it is missing.
    Directory(PathBuf),
    /// In memory, until the store is closed.
    Memory,
    /// On a disk of a simulation, which SQLite finds by this name (a VFS) and one store uses at a time; `room` is asked, with
    /// the name, for the bytes that it has left.
    #[doc(hidden)]
    Vfs { name: String, room: fn(&str) -> Option<u64> },
}

/// What SQLite opens.
#[derive(Clone, Debug)]
pub(super) enum Database {
    File(PathBuf),
    /// A name for SQLite's file system in memory. It is one process's, shared by connections without sharing their caches
    /// (which is deprecated), and needs neither a temporary directory nor code of its own here.
    Memory(String),
    /// A file on another disk than the system's.
    Vfs {
        uri: String,
        name: String,
        room: fn(&str) -> Option<u64>,
    },
}

/// The hold on a place, for as long as it lives.
#[derive(Debug)]
pub(super) struct DataDir {
    /// What errors speak of.
    pub path: PathBuf,
    pub database: Database,
    /// SQLite's own locks don't keep a second broker out: several connections are the rule.
    _lock: Option<Lock>,
}

#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing it would do but for a process that is being spawned: until that has begun it has all our files.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl DataDir {
    /// Takes hold for a broker, and makes the directory if it is missing.
    pub fn take(place: &Location) -> Result<Self, OpenError> {
        match place {
            Location::Memory => Ok(Self::memory()),
            Location::Vfs { name, room } => Ok(Self::vfs(name, *room)),
            Location::Directory(path) => Self::create(path, Actor::Broker),
        }
    }

    /// Takes hold of a directory, which is made if it is missing.
    pub fn create(path: &Path, actor: Actor) -> Result<Self, OpenError> {
        let created = files::create_directory(path).and_then(|()| Self::directory(path, actor));
        created.map_err(|cause| OpenError { path: path.to_owned(), cause })
    }

    /// Takes hold of a directory that must have records.
    pub fn take_existing(path: &Path, actor: Actor) -> Result<Self, OpenError> {
        let taken = require(path).and_then(|_| Self::directory(path, actor));
        taken.map_err(|cause| OpenError { path: path.to_owned(), cause })
    }

    fn directory(path: &Path, actor: Actor) -> Result<Self, Cause> {
        let directory = Directory::open(path, actor)?;
        let lock = lock(directory.open_file(LOCK)?)?;
        directory.check(&directory.join(LOG))?;
        directory.check(&directory.join(LOG_INDEX))?;
        // SQLite would play one back that somebody else has put there.
        directory.check(&directory.join(JOURNAL))?;
        refuse_log_alone(&directory)?;
        // Closing a file of a database would release SQLite's locks on it, so only a missing one is opened here.
        let database = directory.join(DATABASE);
        if !directory.check(&database)? {
            directory.open_file(DATABASE)?;
        }
        Ok(Self { path: directory.path, database: Database::File(database), _lock: Some(lock) })
    }

    fn memory() -> Self {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:/esker-{number}?vfs=memdb");
        Self { path: PathBuf::from(":memory:"), database: Database::Memory(uri), _lock: None }
    }

    fn vfs(name: &str, room: fn(&str) -> Option<u64>) -> Self {
        let database = Database::Vfs { uri: format!("file:/{DATABASE}?vfs={name}"), name: name.to_owned(), room };
        Self { path: PathBuf::from(name), database, _lock: None }
    }

    pub fn error(&self, cause: impl Into<Cause>) -> OpenError {
        OpenError { path: self.path.clone(), cause: cause.into() }
    }

    /// The bytes that the disk has left for us; None: it does not say, or there is none.
    pub fn room(database: &Database) -> Option<u64> {
        match database {
            Database::File(path) => {
                let disk = rustix::fs::statvfs(path).ok()?;
                Some(disk.f_bavail.saturating_mul(disk.f_frsize))
            }
            Database::Memory(_) => None,
            Database::Vfs { name, room, .. } => room(name),
        }
    }
}

/// The database of a directory, if there is one.
pub(super) fn require(path: &Path) -> Result<Database, Cause> {
    // Absolute, because SQLite takes a relative path that begins with `file:` for a URI.
    let database = std::path::absolute(path.join(DATABASE)).map_err(Cause::Directory)?;
    match database.try_exists() {
        Ok(true) => Ok(Database::File(database)),
        Ok(false) => Err(Cause::Missing),
        Err(error) => Err(Cause::Directory(error)),
    }
}

fn lock(mut file: File) -> Result<Lock, Cause> {
    match file.try_lock() {
        Ok(()) => {
            // Only for the other broker's message; it does without.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(Lock(file))
        }
        Err(TryLockError::WouldBlock) => Err(Cause::Held(holder(&file))),
        Err(TryLockError::Error(error)) => Err(Cause::Write(error)),
    }
}

fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// SQLite would throw away a log without its database; whoever lost the one may still have it elsewhere.
fn refuse_log_alone(directory: &Directory) -> Result<(), Cause> {
    let (database, log) = (directory.join(DATABASE), directory.join(LOG));
    match (length(&database)?, length(&log)?) {
        (0, 1..) => Err(Cause::Damaged(format!("{} exists without {}", log.display(), database.display()))),
        _ => Ok(()),
    }
}

fn length(path: &Path) -> Result<u64, Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Cause::Directory(error)),
    }
}
