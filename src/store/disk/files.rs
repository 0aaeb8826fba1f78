//! The files of a data directory: readable only by their owner, regardless of the umask; never opened through a symbolic link;
//! and used only if they belong to the user that the process runs as.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::store::error::Cause;

/// The mode of created files. SQLite gives its WAL and shared-memory files the database's mode.
pub(super) const FILE_MODE: u32 = 0o600;
/// The mode of a created directory.
const DIRECTORY_MODE: u32 = 0o700;
const ROOT: u32 = 0;

/// Who uses a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Actor {
    /// A broker. Its files must belong to the user that it runs as, and so must the directory, unless it is root's.
    Broker,
    /// A maintenance command. Root may use any directory; files it creates get the directory's owner, so that the broker can
    /// open them.
    Tool,
}

/// A data directory whose owner was checked.
#[derive(Debug)]
pub(in crate::store) struct Directory {
    /// The absolute path.
    pub path: PathBuf,
    actor: Actor,
    metadata: Metadata,
}

/// Creates the directory and its parents, if it is missing.
pub(in crate::store) fn create_directory(path: &Path) -> Result<(), Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Cause::Directory(ErrorKind::NotADirectory.into())),
        Err(_) => (),
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(Cause::Directory)?;
    set_mode(path, DIRECTORY_MODE).map_err(Cause::Directory)?;
    // SQLite syncs the directory's entries, but not the entry of the directory itself.
    match path.canonicalize().map_err(Cause::Directory)?.parent() {
        Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(Cause::Directory),
        None => Ok(()),
    }
}

impl Directory {
    /// Checks the owner of a directory. Makes its path absolute: SQLite would take a relative path that begins with `file:`
    /// for a URI.
    pub fn open(path: &Path, actor: Actor) -> Result<Self, Cause> {
        let path = std::path::absolute(path).map_err(Cause::Directory)?;
        let metadata = std::fs::metadata(&path).map_err(Cause::Directory)?;
        if !metadata.is_dir() {
            return Err(Cause::Directory(ErrorKind::NotADirectory.into()));
        }
        // Kubernetes volumes belong to root and are writable by a group.
        if metadata.uid() != ROOT {
            check_owner(&path, &metadata, actor)?;
        }
        if metadata.mode() & 0o002 != 0 {
            log::warn!("the data directory {} is writable by everybody; run chmod o-w on it", path.display());
        }
        Ok(Self { path, actor, metadata })
    }

    /// Returns the path of a file in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading and writing, and creates it if it is missing.
    pub fn open_file(&self, name: &str) -> Result<File, Cause> {
        let path = self.join(name);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).mode(FILE_MODE).custom_flags(flags);
        let file = options.open(&path).map_err(|error| self.not_opened(&path, error))?;
        let metadata = file.metadata().map_err(Cause::Directory)?;
        self.check_file(&path, &metadata)?;
        if metadata.len() == 0 {
            self.make_private(&file, &metadata).map_err(Cause::from_write)?;
        }
        Ok(file)
    }

    /// Checks a file that SQLite will open. Returns whether it exists.
    pub fn check(&self, path: &Path) -> Result<bool, Cause> {
        match path.symlink_metadata() {
            Ok(metadata) => self.check_file(path, &metadata).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Cause::Directory(error)),
        }
    }

    fn check_file(&self, path: &Path, metadata: &Metadata) -> Result<(), Cause> {
        if !metadata.is_file() {
            return Err(Cause::NotRegularFile(path.to_owned()));
        }
        check_owner(path, metadata, self.actor)?;
        if metadata.len() > 0 && metadata.mode() & 0o006 != 0 && self.metadata.mode() & 0o001 != 0 {
            log::warn!("{} is accessible to everybody; run chmod o-rwx on it", path.display());
        }
        Ok(())
    }

    /// Returns why a file can't be opened; most often it belongs to another user.
    fn not_opened(&self, path: &Path, error: io::Error) -> Cause {
        if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            return Cause::NotRegularFile(path.to_owned());
        }
        if error.kind() != ErrorKind::PermissionDenied {
            return Cause::from_write(error);
        }
        let foreign = path.symlink_metadata().ok().and_then(|file| check_owner(path, &file, self.actor).err());
        let foreign = foreign.or_else(|| check_owner(&self.path, &self.metadata, self.actor).err());
        foreign.unwrap_or(Cause::Write(error))
    }

    /// Sets the mode of a new file. If root created it with a tool, changes its owner to that of the directory.
    fn make_private(&self, file: &File, metadata: &Metadata) -> io::Result<()> {
        let (uid, gid) = (self.metadata.uid(), self.metadata.gid());
        if self.actor == Actor::Tool && geteuid().is_root() && metadata.uid() != uid {
            fchown(file, Some(uid), Some(gid))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn check_owner(path: &Path, metadata: &Metadata, actor: Actor) -> Result<(), Cause> {
    let (owner, user) = (metadata.uid(), geteuid().as_raw());
    if owner == user || (actor == Actor::Tool && user == ROOT) {
        return Ok(());
    }
    Err(Cause::Owner { path: path.to_owned(), owner, user })
}
