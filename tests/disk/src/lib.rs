//! A simulated disk in memory, as a VFS of SQLite, for tests. Its failing calls, false fsyncs, full disks and power cuts are
//! all determined by a seed.
//!
//! ```text
//! lib        the public API
//! registry   the VFS names by which SQLite finds disks
//! vfs, io    SQLite's C interfaces: calls on names and on open files
//! handle     an open file, in safe Rust
//! device     what all connections share; sessions, each of which ends with a crash
//! state      each call on the disk: faults, counts, crashes
//! directory  names: as programs see them, as the disk has them
//! file       contents: as programs see them, as the disk has them
//! locks      on files and on slots of shared memory
//! memory     shared memory
//! faults     what goes wrong, and how often
//! trace      what was done
//! rng        seeded random numbers
//! ```
//!
//! Calls go down only. Nothing here sleeps, reads a clock or accesses a file. On a single thread, the same calls on the same
//! seed return the same results and leave the same bytes, except for SQLite's own random numbers: see [`seed_sqlite`].

mod device;
mod directory;
mod faults;
mod file;
mod handle;
mod io;
mod locks;
mod memory;
mod registry;
mod rng;
mod state;
mod trace;
mod vfs;

use std::ffi::c_int;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use faults::{Faults, SpaceError};
pub use trace::Stats;

use device::{Device, Session, lock};
use libsqlite3_sys::{SQLITE_TESTCTRL_PRNG_SEED, sqlite3, sqlite3_test_control};
use trace::Crash;

/// A simulated disk. Clones share it; it exists as long as a clone or a connection does.
#[derive(Clone, Debug)]
pub struct Disk {
    device: Arc<Device>,
    session: Arc<Mutex<Arc<Session>>>,
}

impl Disk {
    /// Returns an empty disk without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let device = Arc::new(Device::new(seed));
        let session = Session::begin(&device);
        Self { device, session: Arc::new(Mutex::new(session)) }
    }

    /// Returns the name of the VFS. It changes with each crash: the old name belongs to processes that no longer exist, and
    /// opens nothing.
    #[must_use]
    pub fn vfs(&self) -> String {
        let mut session = lock(&self.session);
        if session.is_over() {
            *session = Session::begin(&self.device);
        }
        session.name().to_owned()
    }

    /// Changes the faults.
    pub fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.device.state().faults);
    }

    /// Cuts the power. Everything that was open is unusable. Each file keeps what was synced, and a random part of the rest.
    pub fn cut_power(&self) {
        self.device.state().crash(Crash::Power);
    }

    /// Kills the process. Everything that was open is unusable. All that was written is kept, synced or not.
    pub fn kill(&self) {
        self.device.state().crash(Crash::Kill);
    }

    /// Kills the process, and replaces all files with these, as [`Disk::files`] returned them.
    pub fn restore(&self, files: &[(String, Vec<u8>)]) {
        self.device.state().restore(files);
    }

    /// Cuts the power during a change (a write, truncation, fsync, deletion or creation), after this many more changes.
    pub fn cut_power_after(&self, changes: u64) {
        self.device.state().plan_crash(changes, Crash::Power);
    }

    /// Kills the process during a change, after this many more changes.
    pub fn kill_after(&self, changes: u64) {
        self.device.state().plan_crash(changes, Crash::Kill);
    }

    /// Returns the number of crashes, which shows whether a planned crash has happened.
    #[must_use]
    pub fn crashes(&self) -> u64 {
        self.device.state().session
    }

    /// Sets a hook that is called at the beginning of each fsync with the bytes to be written, and takes as long as the
    /// fsync should. It may use the disk, but not SQLite on it.
    pub fn on_sync(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        *lock(&self.device.on_sync) = Some(Arc::new(hook));
    }

    /// Sets a hook that is called when SQLite waits for a lock. Without it no time passes, and the wait ends immediately.
    pub fn on_sleep(&self, hook: impl Fn(Duration) + Send + Sync + 'static) {
        *lock(&self.device.on_sleep) = Some(Arc::new(hook));
    }

    /// Sets the time that SQLite reads, in milliseconds since 1970. It changes only here.
    pub fn set_time(&self, unix_millis: i64) {
        self.device.state().unix_millis = unix_millis;
    }

    /// Returns the bytes of all files and their shared memory, which the capacity limits.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.device.state().used()
    }

    /// Returns the free bytes; `None` if they are unlimited.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.device.state().free_bytes()
    }

    /// Returns what the disk has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.device.state().trace.stats
    }

    /// Returns all files as programs see them, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.device
            .state()
            .directory()
            .contents()
            .map(|(name, content)| (name.to_owned(), content.to_owned()))
            .collect()
    }

    /// Starts to record all calls.
    pub fn record_calls(&self) {
        self.device.state().trace.lines.get_or_insert_default();
    }

    /// Removes and returns the recorded calls.
    #[must_use]
    pub fn take_calls(&self) -> Vec<String> {
        self.device.state().trace.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Returns [`Disk::free_bytes`] of the disk with this VFS name; `None` if there is none.
#[must_use]
pub fn free_bytes(vfs: &str) -> Option<u64> {
    registry::find(vfs).and_then(|session| session.state().ok()?.free_bytes())
}

/// Seeds SQLite's own random number generator, from which it draws the salts of WALs: only after this call are the bytes on
/// a disk reproducible. The generator belongs to the process: other threads that use SQLite draw from it as well.
pub fn seed_sqlite(seed: u32) {
    // For SQLite, 0 means no seed.
    let seed = c_int::from_ne_bytes(seed.max(1).to_ne_bytes());
    // SAFETY: the operation expects an integer and a connection, which may be null.
    unsafe { sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, seed, ptr::null_mut::<sqlite3>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restored_files_survive_a_power_cut() {
        let disk = Disk::new(1);
        let (old, new) = ([("a".to_owned(), b"1".to_vec())], [("b".to_owned(), b"23".to_vec())]);
        disk.restore(&old);
        let crashes = disk.crashes();
        disk.restore(&new);
        assert_eq!((disk.files(), disk.crashes()), (new.to_vec(), crashes + 1));
        disk.cut_power();
        assert_eq!(disk.files(), new);
    }

    #[test]
    fn thousands_of_disks_share_a_few_names() {
        for seed in 0..5_000 {
            let disk = Disk::new(seed);
            let name = disk.vfs();
            disk.kill();
            assert_ne!(disk.vfs(), name);
        }
        assert!(registry::count() < 50, "{}", registry::count());
    }
}
