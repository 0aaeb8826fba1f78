//! Backs up the simulated broker's records between two runs, and restores a backup.

use std::sync::atomic::Ordering;

use super::world::{World, trace};

/// A copy of a stopped broker's files, and what the oracle knew then.
pub struct Backup {
    files: Vec<(String, Vec<u8>)>,
    /// The number of items that had been sent.
    items: usize,
    /// The store had noted all ids up to this.
    covered: u64,
}

impl World {
    /// While no broker runs: makes a backup, or restores the one that there is.
    pub(super) fn back_up_or_restore(&mut self) {
        // After a lying disk or a failed fsync, the contents of the files are unknown.
        if self.broker.is_some() || self.scenario.has_lying_disk || self.oracle.has_failed {
            return;
        }
        match self.backup.take() {
            Some(backup) if self.rng.bool() => self.restore(&backup),
            _ => {
                let (files, items, covered) = (self.storage.files(), self.oracle.items.len(), self.oracle.covered);
                self.backup = Some(Backup { files, items, covered });
            }
        }
    }

    fn restore(&mut self, backup: &Backup) {
        self.totals.restores += 1;
        trace(self.oracle.step, &format!("a backup is restored; items from {} on are lost", backup.items));
        self.storage.restore(&backup.files);
        self.oracle.lose_records_from(backup.items);
        self.oracle.covered = backup.covered;
        self.oracle.forget_ids_after(self.dial.unix_micros.load(Ordering::Relaxed));
    }
}
