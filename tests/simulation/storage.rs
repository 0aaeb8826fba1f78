//! The disk under the simulated broker's store, and its faults: it fails, fills up, is slow, lies about fsync and loses power.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::internals::sim::ManualClock;
use esker::internals::store::Location;
use esker_disk::{Disk, Faults};
use fastrand::Rng;

/// A simulated disk.
pub struct Storage {
    disk: Disk,
    seed: u64,
    dial: Arc<ManualClock>,
    /// How long an fsync takes.
    sync_micros: Arc<AtomicU64>,
    /// An fsync may report success and do nothing.
    is_lying: bool,
}

impl Storage {
    pub fn new(seed: u64, dial: &Arc<ManualClock>, is_lying: bool) -> Self {
        let sync_micros = Arc::default();
        let disk = make(seed, dial, &sync_micros);
        let mut storage = Self { disk, seed, dial: Arc::clone(dial), sync_micros, is_lying };
        storage.heal();
        storage
    }

    pub fn place(&self) -> Location {
        // Not every system reports its free space; then the store runs until the disk is full.
        let free_bytes = if self.seed.is_multiple_of(2) { esker_disk::free_bytes } else { |_: &str| None };
        Location::Vfs { name: self.disk.vfs(), free_bytes }
    }

    /// Returns whether a start may fail: a lying disk may have lost what the store needs.
    pub fn may_refuse(&self) -> bool {
        self.is_lying
    }

    /// Replaces the disk by an empty one.
    pub fn replace(&mut self) {
        self.seed += 1;
        self.disk = make(self.seed, &self.dial, &self.sync_micros);
        self.heal();
    }

    /// Removes all faults except lying.
    pub fn heal(&mut self) {
        let syncs_lie = if self.is_lying { 0.5 } else { 0.0 };
        self.disk.faults(|faults| *faults = Faults { syncs_lie, ..Faults::default() });
        self.sync_micros.store(0, Ordering::Relaxed);
    }

    /// Adds a fault. Returns its description.
    pub fn inject_fault(&mut self, rng: &mut Rng) -> String {
        // A full disk and a failed fsync are more likely: the store recovers from the first by itself, and records may survive
        // the second.
        let kind = [0, 1, 1, 1, 2, 3, 3, 3, 4, 5][rng.usize(0..10)];
        let (rate, used) = (rng.f64(), self.disk.used());
        self.disk.faults(|faults| match kind {
            0 => faults.writes_fail = rate,
            1 => faults.syncs_fail = rate,
            2 => faults.reads_fail = rate / 10.0,
            3 => faults.capacity = Some(used + (rate * 30_000.0) as u64),
            4 => faults.truncates_fail = rate,
            _ => {}
        });
        if kind == 1 && rng.bool() {
            self.cut_power_after(rng.u64(10..100));
        }
        if kind == 5 {
            self.sync_micros.store((rate * 3_000_000.0) as u64, Ordering::Relaxed);
        }
        let what =
            ["failing writes", "failing fsync", "failing reads", "little room", "failing truncation", "slow fsync"];
        format!("the disk has {}: {rate}", what[kind])
    }

    pub fn kill(&mut self) {
        self.disk.kill();
    }

    pub fn cut_power(&mut self) {
        self.disk.cut_power();
    }

    /// Schedules a loss of power after this number of changes, in the middle of one.
    pub fn cut_power_after(&mut self, changes: u64) {
        self.disk.cut_power_after(changes);
    }

    /// Returns all files, as programs see them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.disk.files()
    }

    pub fn restore(&mut self, files: &[(String, Vec<u8>)]) {
        self.disk.restore(files);
    }

    /// Returns how often power was lost or the process was killed.
    pub fn crashes(&self) -> u64 {
        self.disk.crashes()
    }
}

fn make(seed: u64, dial: &Arc<ManualClock>, sync_micros: &Arc<AtomicU64>) -> Disk {
    let disk = Disk::new(seed);
    let (for_sync, for_sleep, micros) = (Arc::clone(dial), Arc::clone(dial), Arc::clone(sync_micros));
    disk.on_sync(move |_| for_sync.advance(micros.load(Ordering::Relaxed)));
    disk.on_sleep(move |duration| for_sleep.advance(duration.as_micros() as u64));
    disk
}
