//! What other programs do to the database: they hold a lock on it, or remove or replace its files.

use super::Writer;

impl Writer {
    /// Checks from time to time that the files are still there.
    pub(super) fn check_files(&mut self) {
        let now = self.now_millis();
        if now - self.files_checked_at >= self.tuning.file_check.as_millis() as u64 {
            self.files_checked_at = now;
            self.find_changed_file();
        }
    }

    /// Stops all writes if one of the files was removed or replaced.
    pub(super) fn find_changed_file(&self) {
        if !self.shared.has_failed()
            && let Some(what) = self.files.find_change()
        {
            self.shared.lose(what, &self.files.copies());
        }
    }

    /// While requests are refused because of another program's lock, tries from time to time whether it was released.
    pub(super) fn probe_lock(&mut self) {
        let now = self.now_millis();
        let is_early = now - self.lock_probed_at < self.tuning.lock_probe.as_millis() as u64;
        if !self.shared.is_locked() || is_early {
            return;
        }
        self.lock_probed_at = now;
        let probed = self.tables.probe_lock();
        if self.check("trying whether the database can be written to", probed) {
            self.shared.clear_locked();
            self.is_locked = false;
        }
    }
}
