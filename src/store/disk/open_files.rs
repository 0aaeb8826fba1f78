//! Notices that the files of a running store were removed, renamed or replaced. The store still has them open, so without this it
//! would go on to write to files that nobody finds again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::holder::identity;
use super::location::{DATABASE, WAL, WAL_INDEX};
use super::lock_file::LOCK;

/// The files of a running store, by path, with the device and inode of each.
#[derive(Debug, Default)]
pub(in crate::store) struct OpenFiles {
    files: Vec<(PathBuf, (u64, u64))>,
}

impl OpenFiles {
    /// Returns the files in a directory that a store has just opened.
    pub fn of(directory: &Path) -> Self {
        let paths = [DATABASE, WAL, WAL_INDEX, LOCK].map(|name| directory.join(name));
        let known = |path: PathBuf| Some((identity(&std::fs::metadata(&path).ok()?), path));
        Self { files: paths.into_iter().filter_map(known).map(|(identity, path)| (path, identity)).collect() }
    }

    /// Returns what happened to the first file that is not the opened one any more. An error other than that there is no file
    /// says nothing about the file.
    pub fn find_change(&self) -> Option<String> {
        self.files.iter().find_map(|(path, opened)| match std::fs::metadata(path) {
            Ok(file) if identity(&file) == *opened => None,
            Ok(_) => Some(format!("{} is another file now", path.display())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Some(format!("{} no longer exists", path.display()))
            }
            Err(_) => None,
        })
    }

    /// Returns the paths in `/proc` at which database and WAL can be copied as long as this process runs, whatever happened to
    /// their names.
    pub fn copies(&self) -> Vec<String> {
        let own = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
        let descriptors = || std::fs::read_dir(&own).into_iter().flatten().flatten().map(|entry| entry.path());
        let find = |opened: (u64, u64)| {
            descriptors().find(|path| std::fs::metadata(path).is_ok_and(|file| identity(&file) == opened))
        };
        let copied = self.files.iter().filter(|(path, _)| path.ends_with(DATABASE) || path.ends_with(WAL));
        let copy = |(path, opened): &(PathBuf, (u64, u64))| {
            Some(format!("{} to {}", find(*opened)?.display(), path.file_name()?.display()))
        };
        copied.filter_map(copy).collect()
    }
}
