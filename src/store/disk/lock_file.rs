//! The file whose lock keeps other brokers out of a data directory. It contains the process that has locked it, and which file the
//! database was when a broker last opened it, by which a copy of the directory is recognized.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::files::Directory;
use crate::store::error::Cause;

/// The file's name.
pub(super) const LOCK: &str = "lock";
/// The maximum length that is read.
const MAX_BYTES: u64 = 256;
/// Stands for the database in a file that a tool has created.
const UNKNOWN: &str = "unknown";

/// A locked file. Dropping it releases the lock.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    /// Which file the database was when a broker last opened it. `None` if a version of Esker was the last that did not note it.
    database: Option<String>,
}

impl Drop for LockFile {
    /// Unlocks explicitly: a child process between fork and exec still holds the file open, and the lock with it.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl LockFile {
    /// Locks the file of a directory, which is created if it is missing.
    pub fn acquire(directory: &Directory) -> Result<Self, Cause> {
        let file = directory.open_file(LOCK)?;
        let text = read(&file);
        let mut lines = text.lines();
        let pid = lines.next();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Cause::LockedBy(pid.and_then(|pid| pid.trim().parse().ok())));
            }
            Err(TryLockError::Error(error)) => return Err(Cause::Write(error)),
        }
        let unknown = || pid.is_none().then_some(UNKNOWN);
        let lock = Self { database: lines.next().or_else(unknown).map(str::to_owned), file };
        lock.write();
        Ok(lock)
    }

    /// Returns whether the database is not, or not certainly, the file that a broker last opened, but a copy of it.
    pub fn is_of_copy(&self, database: &Path) -> bool {
        self.database.as_ref().is_some_and(|noted| identity(database).as_ref() != Some(noted))
    }

    /// Notes which file the database is.
    pub fn note(&mut self, database: &Path) {
        self.database = identity(database);
        self.write();
    }

    /// Writes the file. A failure has no consequence but a worse error message of another broker, or a needless check.
    fn write(&self) {
        let database = self.database.as_deref().map(|database| format!("\n{database}")).unwrap_or_default();
        let text = format!("{}{database}", std::process::id());
        let _ = self
            .file
            .set_len(0)
            .and_then(|()| (&self.file).rewind())
            .and_then(|()| (&self.file).write_all(text.as_bytes()));
    }
}

fn read(file: &File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns which file this is: its inode, and when it was created. Both are the same after a restart of the machine and in a
/// snapshot of the file system, and differ in a copy.
fn identity(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let created = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Some(format!("{} {}", metadata.ino(), created.unwrap_or_default().as_nanos()))
}
