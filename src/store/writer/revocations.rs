//! Stores revocations of tokens, in transactions of their own.

use super::Writer;
use crate::auth::MAX_REVOCATIONS;
use crate::store::error::StoreError;
use crate::store::queue::Revoke;

impl Writer {
    /// Stores the revocations that are queued. On a full disk as well: they fit into the space that inserts leave free.
    pub(super) fn store_revocations(&mut self) {
        loop {
            let revokes = self.queue.take_revokes();
            if revokes.is_empty() {
                return;
            }
            let new: Vec<_> = revokes.iter().map(|Revoke { text, second, .. }| (text.clone(), *second)).collect();
            let stored = self.write_revocations(&new);
            revokes.into_iter().for_each(|revoke| revoke.completion.send(stored));
        }
    }

    fn write_revocations(&mut self, new: &[(String, u64)]) -> Result<(), StoreError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        loop {
            if self.shared.is_locked() {
                return Err(StoreError::Locked);
            }
            self.is_locked = false;
            let written = self.tables.revoke(new, MAX_REVOCATIONS);
            if self.check("storing a revocation", written) {
                self.shared.clear_locked();
                return Ok(());
            }
            if !self.is_locked {
                return Err(self.write_error());
            }
        }
    }
}
