//! A temporary directory that is removed when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The directory.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a directory in TMPDIR, or else in /var/tmp, which unlike /tmp is on a disk.
    pub fn new() -> io::Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
        let path = Path::new(&parent).join(format!("esker-bench.{}.{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed stays in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}
