//! Where the store's files are: the directory, who holds it, how much room its disk has.
//! Refuses to know what is in the database.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Cause, OpenError};

/// The database's name in the directory; SQLite's own files beside it are called after it.
const DATABASE: &str = "records.db";
/// What SQLite adds to that for its log.
const LOG_SUFFIX: &str = "-wal";
/// The file whose lock is the hold on the directory.
const LOCK: &str = "lock";

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(unpredictable_function_pointer_comparisons, reason = "two disks of a simulation differ by their names already")]
pub enum Place {
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
pub(super) struct Home {
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

impl Home {
    /// Takes hold, and makes the directory if it is missing.
    pub fn take(place: &Place) -> Result<Self, OpenError> {
        match place {
            Place::Memory => Ok(Self::memory()),
            Place::Vfs { name, room } => Ok(Self::vfs(name, *room)),
            Place::Directory(path) => {
                make(path).and_then(|()| Self::directory(path)).map_err(|cause| OpenError { path: path.clone(), cause })
            }
        }
    }

    /// Takes hold of a directory that must have records.
    pub fn take_existing(path: &Path) -> Result<Self, OpenError> {
        require(path).and_then(|_| Self::directory(path)).map_err(|cause| OpenError { path: path.to_owned(), cause })
    }

    fn directory(path: &Path) -> Result<Self, Cause> {
        let lock = lock(&path.join(LOCK))?;
        let database = path.join(DATABASE);
        refuse_log_alone(&database)?;
        Ok(Self { path: path.to_owned(), database: Database::File(database), _lock: Some(lock) })
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
    let database = path.join(DATABASE);
    match database.try_exists() {
        Ok(true) => Ok(Database::File(database)),
        Ok(false) => Err(Cause::Missing),
        Err(error) => Err(Cause::Directory(error)),
    }
}

/// Records are their owner's alone.
fn make(path: &Path) -> Result<(), Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Cause::Directory(io::ErrorKind::NotADirectory.into())),
        Err(_) => (),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Cause::Directory)?;
    // SQLite sees to what is in the directory, nobody to the directory itself.
    match path.canonicalize().map_err(Cause::Directory)?.parent() {
        Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(Cause::Directory),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<Lock, Cause> {
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let mut file = opened.map_err(Cause::Write)?;
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
fn refuse_log_alone(database: &Path) -> Result<(), Cause> {
    let mut log = database.as_os_str().to_owned();
    log.push(LOG_SUFFIX);
    let log = PathBuf::from(log);
    match (length(database)?, length(&log)?) {
        (0, 1..) => Err(Cause::Damaged(format!("{} is there without {}", log.display(), database.display()))),
        _ => Ok(()),
    }
}

fn length(path: &Path) -> Result<u64, Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Cause::Directory(error)),
    }
}
