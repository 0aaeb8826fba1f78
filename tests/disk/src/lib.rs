//! A disk in memory under SQLite, for tests: it fails, lies, runs full and loses power, all out of a seed.
//!
//! ```text
//! lib       the disk as tests have it
//! registry  the names by which SQLite finds disks
//! vfs, io   SQLite's calls from C, on names and on open files
//! handle    an open file, in safe terms
//! device    what all connections share; lives, each of which ends with a crash
//! state     each call on the disk: faults, counts, the loss of power
//! folder    names: as programs see them, as the disk has them
//! file      contents: as programs see them, as the disk has them
//! locks     on files and on slots of shared memory
//! memory    shared memory
//! faults    what goes wrong, and how often
//! record    what was done
//! chance    numbers out of a seed
//! ```
//!
//! Calls go down only. Nothing here sleeps, reads a clock or touches a file; on one thread the same calls on the same seed have
//! the same answers and leave the same bytes, but for what SQLite makes of its own random numbers: see [`seed_sqlite`].

mod chance;
mod device;
mod faults;
mod file;
mod folder;
mod handle;
mod io;
mod locks;
mod memory;
mod record;
mod registry;
mod state;
mod vfs;

use std::ffi::c_int;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use faults::{Faults, NoRoom};
pub use record::Stats;

use device::{Device, Life, lock};
use libsqlite3_sys::{SQLITE_TESTCTRL_PRNG_SEED, sqlite3, sqlite3_test_control};
use state::Crash;

/// A disk. Clones are the same one; it is gone with the last of them and of the connections to it.
#[derive(Clone, Debug)]
pub struct Disk {
    device: Arc<Device>,
    life: Arc<Mutex<Arc<Life>>>,
}

impl Disk {
    /// An empty one without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let device = Arc::new(Device::new(seed));
        let life = Life::begin(&device);
        Self { device, life: Arc::new(Mutex::new(life)) }
    }

    /// The name of SQLite's VFS. After a crash it is another one: what has the old name belongs to those who are dead, and
    /// they can't open anything, either.
    #[must_use]
    pub fn vfs(&self) -> String {
        let mut life = lock(&self.life);
        if life.is_over() {
            *life = Life::begin(&self.device);
        }
        life.name().to_owned()
    }

    /// Sets what goes wrong, from now on.
    pub fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.device.state().faults);
    }

    /// Power is lost and comes back: whoever has something open is dead. Of each file there is what was synced, and of what was
    /// not a part that chance chooses.
    pub fn cut_power(&self) {
        self.device.state().crash(Crash::Power);
    }

    /// The process is killed: whoever has something open is dead. What was written is there, synced or not.
    pub fn kill(&self) {
        self.device.state().crash(Crash::Kill);
    }

    /// The process is killed, and these files, as [`Disk::files`] gave them, take the place of all that are there.
    pub fn restore(&self, files: &[(String, Vec<u8>)]) {
        self.device.state().restore(files);
    }

    /// Power is lost in the midst of a change (a write, truncation, fsync, deletion or creation), once so many more have been
    /// made.
    pub fn cut_power_after(&self, changes: u64) {
        self.device.state().plan(changes, Crash::Power);
    }

    /// The process is killed in the midst of a change, once so many more have been made.
    pub fn kill_after(&self, changes: u64) {
        self.device.state().plan(changes, Crash::Kill);
    }

    /// How often the disk has crashed. Whoever planned a crash sees by it that it has happened.
    #[must_use]
    pub fn crashes(&self) -> u64 {
        self.device.state().life
    }

    /// Is called with the bytes to be written at the beginning of each fsync, for as long as that is to take. It may use the
    /// disk, but not SQLite on it.
    pub fn on_sync(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        *lock(&self.device.on_sync) = Some(Arc::new(hook));
    }

    /// Is called when SQLite wants to wait, for a lock. Without it no time passes, and whoever waits gives up at once.
    pub fn on_sleep(&self, hook: impl Fn(Duration) + Send + Sync + 'static) {
        *lock(&self.device.on_sleep) = Some(Arc::new(hook));
    }

    /// What SQLite takes for now, in milliseconds since 1970; it stands still in between.
    pub fn set_time(&self, unix_millis: i64) {
        self.device.state().unix_millis = unix_millis;
    }

    /// The bytes of all files and their shared memory, as the capacity counts them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.device.state().used()
    }

    /// The bytes that there is room for. None: no bound.
    #[must_use]
    pub fn free_bytes(&self) -> Option<u64> {
        self.device.state().free_bytes()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.device.state().record.stats
    }

    /// All files as programs see them, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.device.state().folder().contents().map(|(name, content)| (name.to_owned(), content.to_owned())).collect()
    }

    /// From now on calls are written down.
    pub fn record_calls(&self) {
        self.device.state().record.lines.get_or_insert_default();
    }

    /// The calls that were written down, and now no longer are there.
    #[must_use]
    pub fn take_calls(&self) -> Vec<String> {
        self.device.state().record.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// The room on the disk that has a name, as [`Disk::free_bytes`] says; none if nobody has it.
#[must_use]
pub fn free_bytes(vfs: &str) -> Option<u64> {
    registry::find(vfs).and_then(|life| life.state().ok()?.free_bytes())
}

/// Sets SQLite's own random numbers, from which it takes the salts of logs: the same bytes are on a disk only if this was
/// called before. They are the whole process's: other threads that use SQLite meanwhile draw from them, too.
pub fn seed_sqlite(seed: u32) {
    // SQLite takes 0 for none.
    let seed = c_int::from_ne_bytes(seed.max(1).to_ne_bytes());
    // SAFETY: the operation takes a number and a connection, which may be null.
    unsafe { sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, seed, ptr::null_mut::<sqlite3>()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_restored_outlives_a_loss_of_power() {
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
