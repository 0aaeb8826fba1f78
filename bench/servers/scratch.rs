//! A folder that is gone when it is dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// See the module's page.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder under TMPDIR, else under /var/tmp, which unlike /tmp is on a disk.
    pub fn new() -> io::Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
        let path = Path::new(&parent).join(format!("esker-bench.{}.{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed stays in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
