//! Simulates the broker's wall clock and disk: a small preloaded library (`shim.c`), and the shared page that controls it.
//! Independent of the broker.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Failure;

/// Offsets in the shared page, as in `shim.c`.
const CLOCK: u64 = 0;
const SYNC: u64 = 8;
const FAILS: u64 = 16;
const FULL: u64 = 24;
const SIZE: usize = 32;

/// The library and its control page.
pub struct Shim {
    library: PathBuf,
    path: PathBuf,
    page: File,
    clock_micros: AtomicI64,
    /// How often the clock was set, and when last.
    steps: AtomicU32,
    set_at: Mutex<Option<Instant>>,
    /// When a disk fault last began or ended.
    disk_at: Mutex<Option<Instant>>,
}

impl Shim {
    /// Compiles the library into this folder.
    pub fn build(folder: &Path) -> Result<Self, Failure> {
        let (source, library, path) = (folder.join("shim.c"), folder.join("shim.so"), folder.join("control"));
        std::fs::write(&source, include_str!("shim.c"))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        if !compiler.status()?.success() {
            return Err("the shim can't be compiled: a C compiler is needed".into());
        }
        std::fs::write(&path, [0; SIZE])?;
        let page = File::options().write(true).open(&path)?;
        Ok(Self {
            library,
            path,
            page,
            clock_micros: AtomicI64::new(0),
            steps: AtomicU32::new(0),
            set_at: Mutex::default(),
            disk_at: Mutex::default(),
        })
    }

    /// Returns the environment of a process that preloads the library.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![("LD_PRELOAD", self.library.clone().into()), ("SOAK_CONTROL", self.path.clone().into())]
    }

    /// Sets the offset of the wall clock.
    pub fn set_clock(&self, micros: i64) -> io::Result<()> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        touch(&self.set_at);
        self.clock_micros.store(micros, Ordering::SeqCst);
        self.set(CLOCK, micros)
    }

    /// Delays each fsync.
    pub fn slow_down(&self, by: Duration) -> io::Result<()> {
        self.set(SYNC, i64::try_from(by.as_micros()).map_err(io::Error::other)?)
    }

    /// Makes each fsync fail, or none.
    pub fn fail_syncs(&self, fails: bool) -> io::Result<()> {
        touch(&self.disk_at);
        self.set(FAILS, fails.into())
    }

    /// Makes the disk full, or not.
    pub fn fill_disk(&self, is_full: bool) -> io::Result<()> {
        touch(&self.disk_at);
        self.set(FULL, is_full.into())
    }

    /// Removes all faults and resets the clock.
    pub fn heal(&self) -> io::Result<()> {
        if self.clock_micros.load(Ordering::SeqCst) != 0 {
            self.set_clock(0)?;
        }
        self.heal_disk()
    }

    /// Removes all disk faults.
    pub fn heal_disk(&self) -> io::Result<()> {
        self.page.write_all_at(&[0; SIZE - SYNC as usize], SYNC)
    }

    /// Returns the wall clock as the broker reads it, in seconds.
    pub fn unix_seconds(&self) -> u64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        ((real + self.clock_micros.load(Ordering::SeqCst)) / 1_000_000).unsigned_abs()
    }

    /// Returns whether the clock was set within this time.
    pub fn was_set_within(&self, time: Duration) -> bool {
        is_within(&self.set_at, time)
    }

    /// Returns whether a disk fault began or ended within this time. No fault lasts longer.
    pub fn was_disk_bad_within(&self, time: Duration) -> bool {
        is_within(&self.disk_at, time)
    }

    pub fn steps(&self) -> u32 {
        self.steps.load(Ordering::SeqCst)
    }

    fn set(&self, at: u64, value: i64) -> io::Result<()> {
        self.page.write_all_at(&value.to_ne_bytes(), at)
    }
}

fn touch(moment: &Mutex<Option<Instant>>) {
    *moment.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

fn is_within(moment: &Mutex<Option<Instant>>, time: Duration) -> bool {
    moment.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < time)
}
