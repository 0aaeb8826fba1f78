//! The file in which a broker that stops cleanly saves its history for the next start. It is complete or does not exist: it
//! is written under another name, synced, and then renamed. A start removes it before it reads it, so that it is used once
//! even if that start crashes. Independent of its content.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::files::FILE_MODE;

/// The file's name.
const FILE: &str = "history.snapshot";
/// Its name while it is being written.
const PARTIAL: &str = "history.snapshot.tmp";

/// Removes the file from its directory and returns it, open for reading, with its length. `None` if there is none. Also removes
/// what a stop that ended too early has left.
pub(in crate::store) fn take(directory: &Path) -> io::Result<Option<(File, u64)>> {
    let is_partial = remove(&directory.join(PARTIAL))?;
    let path = directory.join(FILE);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(&path);
    let is_found = remove(&path)?;
    if is_partial || is_found {
        sync(directory)?;
    }
    if !is_found {
        return Ok(None);
    }
    let file = opened?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it is not a regular file of the user that the broker runs as"));
    }
    Ok(Some((file, metadata.len())))
}

/// Creates the file with what `write` writes. Returns its length. If it fails, or `is_late` says so at the end, there is no
/// file.
pub(in crate::store) fn save(
    directory: &Path,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    is_late: &dyn Fn() -> bool,
) -> io::Result<u64> {
    let partial = directory.join(PARTIAL);
    let saved = write_partial(&partial, write).and_then(|len| {
        if is_late() {
            return Err(ErrorKind::TimedOut.into());
        }
        std::fs::rename(&partial, directory.join(FILE))?;
        sync(directory)?;
        Ok(len)
    });
    if saved.is_err() {
        // The next start tries again.
        let _ = remove(&partial);
    }
    saved
}

fn write_partial(path: &Path, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<u64> {
    remove(path)?;
    let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    write(&mut file)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Removes a file. Returns whether there was one.
fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes changes of a directory's entries durable.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
