//! Backups of the simulated broker's records, and putting one in the place of what is there.

use std::sync::atomic::Ordering;

use super::world::{World, tell};

/// A copy of the files of a broker that does not run, and what was true then.
pub struct Backup {
    files: Vec<(String, Vec<u8>)>,
    /// The number of items that had been sent.
    items: usize,
    /// Ids up to this were noted in it.
    covered: u64,
}

impl World {
    /// Between two brokers: a backup is made, or the one that there is restored.
    pub(super) fn back_up_or_restore(&mut self) {
        // What a disk that lies or a failed fsync has left in the files is not known.
        if self.broker.is_some() || self.traits.has_lying_disk || self.truth.has_failed {
            return;
        }
        match self.backup.take() {
            Some(backup) if self.rng.bool() => self.restore(&backup),
            _ => {
                let (files, items, covered) = (self.storage.files(), self.truth.items.len(), self.truth.covered);
                self.backup = Some(Backup { files, items, covered });
            }
        }
    }

    fn restore(&mut self, backup: &Backup) {
        self.tally.restores += 1;
        tell(self.truth.step, &format!("a backup is restored; items from {} on are lost", backup.items));
        self.storage.restore(&backup.files);
        self.truth.lose_records_from(backup.items);
        self.truth.covered = backup.covered;
        self.truth.forget_ids_after(self.dial.unix_micros.load(Ordering::Relaxed));
    }
}
