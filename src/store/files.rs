//! The files of a data directory: created for their owner alone whatever the umask, never reached through a symbolic link, and
//! used only if they belong to the user that the process runs as. Independent of what is in them.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::Cause;

/// The mode of files that are created here. SQLite gives its own files beside the database the database's mode.
const FILE_MODE: u32 = 0o600;
/// The mode of a directory that is created here.
const DIRECTORY_MODE: u32 = 0o700;
const ROOT: u32 = 0;

/// Who uses a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    /// A broker. Its files belong to the user that it runs as, and so does the directory, unless root prepared it.
    Broker,
    /// A command that an administrator runs now and then. Root may use any directory; what it creates there gets the
    /// directory's owner, so that the broker can use it.
    Tool,
}

/// A data directory whose owner has been checked.
#[derive(Debug)]
pub(super) struct Directory {
    /// Absolute.
    pub path: PathBuf,
    actor: Actor,
    metadata: Metadata,
}

/// Creates the directory unless it is there, with those above it.
pub(super) fn create_directory(path: &Path) -> Result<(), Cause> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(Cause::Directory(ErrorKind::NotADirectory.into())),
        Err(_) => (),
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(Cause::Directory)?;
    set_mode(path, DIRECTORY_MODE).map_err(Cause::Directory)?;
    // SQLite syncs what is in the directory, but not the directory's own name.
    match path.canonicalize().map_err(Cause::Directory)?.parent() {
        Some(parent) => File::open(parent).and_then(|parent| parent.sync_all()).map_err(Cause::Directory),
        None => Ok(()),
    }
}

impl Directory {
    /// Checks who owns a directory. Its path is made absolute: SQLite takes a relative one that begins with `file:` for a URI.
    pub fn open(path: &Path, actor: Actor) -> Result<Self, Cause> {
        let path = std::path::absolute(path).map_err(Cause::Directory)?;
        let metadata = std::fs::metadata(&path).map_err(Cause::Directory)?;
        if !metadata.is_dir() {
            return Err(Cause::Directory(ErrorKind::NotADirectory.into()));
        }
        // Kubernetes' volumes are root's, and writable by a group.
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

    /// Opens a file for reading and writing; creates it if it is missing.
    pub fn open_file(&self, name: &str) -> Result<File, Cause> {
        let path = self.join(name);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true).mode(FILE_MODE).custom_flags(flags);
        let file = options.open(&path).map_err(|error| self.not_opened(&path, error))?;
        let metadata = file.metadata().map_err(Cause::Directory)?;
        self.check_file(&path, &metadata)?;
        if metadata.len() == 0 {
            self.make_private(&file, &metadata).map_err(Cause::of_write)?;
        }
        Ok(file)
    }

    /// Checks a file that another part will open, if it is there.
    pub fn check(&self, path: &Path) -> Result<bool, Cause> {
        match path.symlink_metadata() {
            Ok(metadata) => self.check_file(path, &metadata).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Cause::Directory(error)),
        }
    }

    fn check_file(&self, path: &Path, metadata: &Metadata) -> Result<(), Cause> {
        if !metadata.is_file() {
            return Err(Cause::NotPlain(path.to_owned()));
        }
        check_owner(path, metadata, self.actor)?;
        if metadata.len() > 0 && metadata.mode() & 0o006 != 0 && self.metadata.mode() & 0o001 != 0 {
            log::warn!("{} is accessible to everybody; run chmod o-rwx on it", path.display());
        }
        Ok(())
    }

    /// Explains why a file can't be opened: most often it is somebody else's.
    fn not_opened(&self, path: &Path, error: io::Error) -> Cause {
        if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            return Cause::NotPlain(path.to_owned());
        }
        if error.kind() != ErrorKind::PermissionDenied {
            return Cause::of_write(error);
        }
        let foreign = path.symlink_metadata().ok().and_then(|file| check_owner(path, &file, self.actor).err());
        let foreign = foreign.or_else(|| check_owner(&self.path, &self.metadata, self.actor).err());
        foreign.unwrap_or(Cause::Write(error))
    }

    /// Gives a new file its mode, and to the owner of the directory what root has created for them.
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
