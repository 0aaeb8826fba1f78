//! The location of the store: its data directory or in-memory database, the lock on it, and the free bytes on its disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{self, Actor, Directory};
use super::holder;
use super::lock_file::LockFile;
use crate::store::error::{Cause, OpenError};

/// The database's file name. SQLite derives the names of its other files from it.
pub(super) const DATABASE: &str = "records.db";
/// SQLite's write-ahead log.
pub(super) const WAL: &str = "records.db-wal";
/// The WAL index, which the connections share in memory.
pub(super) const WAL_INDEX: &str = "records.db-shm";
/// The rollback journal, which SQLite uses until the database is in WAL mode.
const JOURNAL: &str = "records.db-journal";

/// Where the records are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(unpredictable_function_pointer_comparisons, reason = "simulated disks already differ by name")]
pub enum Location {
    /// In a directory, which is created if it is missing.
    Directory(PathBuf),
    /// In memory, until the store is closed.
    Memory,
    /// On a simulated disk, registered with SQLite as a VFS of this name and used by one store at a time; `free_bytes` is
    /// called with the name and returns its free space.
    #[cfg_attr(not(feature = "internals"), allow(dead_code, reason = "only a simulation creates it"))]
    Vfs {
        /// The name of the VFS.
        name: String,
        /// Returns the free bytes of the disk with this name.
        free_bytes: fn(&str) -> Option<u64>,
    },
}

impl Location {
    /// Returns the directory; `None` if records are in memory.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Memory | Self::Vfs { .. } => None,
        }
    }

    /// Returns the directory if it has records.
    pub fn directory_with_records(&self) -> Option<&Path> {
        self.directory().filter(|path| path.join(DATABASE).exists())
    }
}

impl Default for Location {
    fn default() -> Self {
        Self::Directory("esker-data".into())
    }
}

/// A database that SQLite can open.
#[derive(Clone, Debug)]
pub(in crate::store) enum Database {
    File(PathBuf),
    /// A URI of SQLite's `memdb` VFS. The connections of this process share the database without a shared cache, which is
    /// deprecated.
    Memory(String),
    /// A file on a simulated disk.
    Vfs {
        uri: String,
        name: String,
        free_bytes: fn(&str) -> Option<u64>,
    },
}

/// A location that this process has acquired. Dropping it releases the lock.
#[derive(Debug)]
pub(in crate::store) struct DataDir {
    /// The path that errors name.
    pub path: PathBuf,
    pub database: Database,
    /// SQLite's own locks don't keep a second broker out, as it is made for several connections.
    lock: Option<LockFile>,
    /// Whether the database is a copy of one that was in use, as far as that is known.
    is_copy: bool,
}

impl DataDir {
    /// Acquires a location for a broker. Creates the directory if it is missing.
    pub fn acquire(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Memory => Ok(Self::memory()),
            Location::Vfs { name, free_bytes } => Ok(Self::vfs(name, *free_bytes)),
            Location::Directory(path) => Self::create(path, Actor::Broker),
        }
    }

    /// Acquires a directory, which is created if it is missing.
    pub fn create(path: &Path, actor: Actor) -> Result<Self, OpenError> {
        let created = files::create_directory(path).and_then(|()| Self::directory(path, actor));
        created.map_err(|cause| OpenError { path: path.to_owned(), cause })
    }

    /// Acquires a directory that must already have a database.
    pub fn acquire_existing(path: &Path, actor: Actor) -> Result<Self, OpenError> {
        let acquired = find_database(path).and_then(|_| Self::directory(path, actor));
        acquired.map_err(|cause| OpenError { path: path.to_owned(), cause })
    }

    fn directory(path: &Path, actor: Actor) -> Result<Self, Cause> {
        let directory = Directory::open(path, actor)?;
        let lock = LockFile::acquire(&directory)?;
        directory.check(&directory.join(WAL))?;
        directory.check(&directory.join(WAL_INDEX))?;
        // SQLite would roll back a hot journal, even one created by another user.
        directory.check(&directory.join(JOURNAL))?;
        refuse_orphaned_wal(&directory)?;
        // Closing any descriptor of the database would release SQLite's POSIX locks on it, so only a missing file is created
        // here.
        let database = directory.join(DATABASE);
        if !directory.check(&database)? {
            directory.open_file(DATABASE)?;
        }
        let is_copy = file_len(&directory.join(WAL))? > 0 && lock.is_of_copy(&database);
        Ok(Self { path: directory.path, database: Database::File(database), lock: Some(lock), is_copy })
    }

    fn memory() -> Self {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:/esker-{number}?vfs=memdb");
        Self { path: PathBuf::from(":memory:"), database: Database::Memory(uri), lock: None, is_copy: false }
    }

    fn vfs(name: &str, free_bytes: fn(&str) -> Option<u64>) -> Self {
        let database = Database::Vfs { uri: format!("file:/{DATABASE}?vfs={name}"), name: name.to_owned(), free_bytes };
        Self { path: PathBuf::from(name), database, lock: None, is_copy: false }
    }

    /// Returns whether the files may not belong together: the database is a copy, and has a WAL, so it was copied while a broker
    /// was using it, or after a crash.
    pub fn must_be_checked(&self) -> bool {
        self.is_copy
    }

    /// Notes that a broker has opened the database, whose WAL is empty now.
    pub fn note_opened(&mut self) {
        if let (Some(lock), Database::File(database)) = (&mut self.lock, &self.database) {
            lock.note(database);
        }
    }

    /// Returns the directory; `None` for a store that has none.
    pub fn directory_path(&self) -> Option<&Path> {
        match self.database {
            Database::File(_) => Some(&self.path),
            Database::Memory(_) | Database::Vfs { .. } => None,
        }
    }

    /// Adds the path to a cause, and the program that holds the database if one does.
    pub fn error(&self, cause: impl Into<Cause>) -> OpenError {
        let cause = match cause.into() {
            Cause::InUse(None) => Cause::InUse(holder::find(&self.path)),
            cause => cause,
        };
        OpenError { path: self.path.clone(), cause }
    }

    /// Returns the bytes on the disk that are free for this process; `None` if they are unlimited or unknown.
    pub fn free_bytes(database: &Database) -> Option<u64> {
        match database {
            Database::File(path) => {
                let disk = rustix::fs::statvfs(path).ok()?;
                Some(disk.f_bavail.saturating_mul(disk.f_frsize))
            }
            Database::Memory(_) => None,
            Database::Vfs { name, free_bytes, .. } => free_bytes(name),
        }
    }
}

/// Returns the database of a directory, or [`Cause::Missing`].
pub(in crate::store) fn find_database(path: &Path) -> Result<Database, Cause> {
    // Absolute, because SQLite takes a relative path that begins with `file:` for a URI.
    let database = std::path::absolute(path.join(DATABASE)).map_err(Cause::Directory)?;
    match database.try_exists() {
        Ok(true) => Ok(Database::File(database)),
        Ok(false) => Err(Cause::Missing),
        Err(error) => Err(Cause::Directory(error)),
    }
}

/// Refuses a WAL without its database. SQLite would delete the WAL, although the database may still exist elsewhere.
fn refuse_orphaned_wal(directory: &Directory) -> Result<(), Cause> {
    let (database, wal) = (directory.join(DATABASE), directory.join(WAL));
    match (file_len(&database)?, file_len(&wal)?) {
        (0, 1..) => Err(Cause::Damaged(format!("{} exists without {}", wal.display(), database.display()))),
        _ => Ok(()),
    }
}

fn file_len(path: &Path) -> Result<u64, Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Cause::Directory(error)),
    }
}
