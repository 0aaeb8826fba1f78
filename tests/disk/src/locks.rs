//! Locks on files and on the slots of shared memory, with SQLite's semantics.

use std::collections::BTreeMap;
use std::ffi::c_int;

use libsqlite3_sys::{
    SQLITE_BUSY, SQLITE_LOCK_EXCLUSIVE, SQLITE_LOCK_NONE, SQLITE_LOCK_PENDING, SQLITE_LOCK_RESERVED, SQLITE_LOCK_SHARED,
};

pub(crate) type HandleId = u64;

/// The locks on a file, by handle.
#[derive(Debug, Default)]
pub(crate) struct FileLocks(BTreeMap<HandleId, c_int>);

impl FileLocks {
    fn level(&self, handle: HandleId) -> c_int {
        self.0.get(&handle).copied().unwrap_or(SQLITE_LOCK_NONE)
    }

    fn highest_of_others(&self, handle: HandleId) -> c_int {
        let others = self.0.iter().filter(|(other, _)| **other != handle);
        others.map(|(_, level)| *level).max().unwrap_or(SQLITE_LOCK_NONE)
    }

    /// Raises a handle's lock. A pending writer keeps new readers out while it waits for the existing ones.
    pub fn lock(&mut self, handle: HandleId, level: c_int) -> Result<(), c_int> {
        if self.level(handle) >= level {
            return Ok(());
        }
        let others = self.highest_of_others(handle);
        let conflict = if level == SQLITE_LOCK_SHARED { SQLITE_LOCK_PENDING } else { SQLITE_LOCK_RESERVED };
        if others >= conflict {
            return Err(SQLITE_BUSY);
        }
        if level == SQLITE_LOCK_EXCLUSIVE && others >= SQLITE_LOCK_SHARED {
            self.0.insert(handle, SQLITE_LOCK_PENDING);
            return Err(SQLITE_BUSY);
        }
        self.0.insert(handle, level);
        Ok(())
    }

    pub fn unlock(&mut self, handle: HandleId, level: c_int) {
        match level.min(self.level(handle)) {
            SQLITE_LOCK_NONE => self.0.remove(&handle),
            level => self.0.insert(handle, level),
        };
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_reserved(&self) -> bool {
        self.0.values().any(|level| *level >= SQLITE_LOCK_RESERVED)
    }
}

/// The locks on the slots of shared memory, by handle.
#[derive(Debug, Default)]
pub(crate) struct SlotLocks(BTreeMap<HandleId, Held>);

/// Locked slots, as bits.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    shared: u8,
    exclusive: u8,
}

impl SlotLocks {
    fn held_by_others(&self, handle: HandleId) -> Held {
        let others = self.0.iter().filter(|(other, _)| **other != handle);
        others.fold(Held::default(), |all, (_, held)| Held {
            shared: all.shared | held.shared,
            exclusive: all.exclusive | held.exclusive,
        })
    }

    /// Locks slots together with other readers.
    pub fn lock_shared(&mut self, handle: HandleId, slots: u8) -> Result<(), c_int> {
        if self.held_by_others(handle).exclusive & slots != 0 {
            return Err(SQLITE_BUSY);
        }
        self.0.entry(handle).or_default().shared |= slots;
        Ok(())
    }

    /// Locks slots exclusively.
    pub fn lock_exclusive(&mut self, handle: HandleId, slots: u8) -> Result<(), c_int> {
        let held = self.held_by_others(handle);
        if (held.shared | held.exclusive) & slots != 0 {
            return Err(SQLITE_BUSY);
        }
        self.0.entry(handle).or_default().exclusive |= slots;
        Ok(())
    }

    pub fn release(&mut self, handle: HandleId, slots: u8) {
        let held = self.0.entry(handle).or_default();
        held.shared &= !slots;
        held.exclusive &= !slots;
    }

    /// Releases all slots of a handle.
    pub fn release_all(&mut self, handle: HandleId) {
        self.0.remove(&handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_a_file_and_one_handle_writes() {
        let mut locks = FileLocks::default();
        assert_eq!(locks.lock(1, SQLITE_LOCK_SHARED), Ok(()));
        assert_eq!(locks.lock(2, SQLITE_LOCK_SHARED), Ok(()));
        assert_eq!(locks.lock(1, SQLITE_LOCK_RESERVED), Ok(()));
        assert_eq!(locks.lock(2, SQLITE_LOCK_RESERVED), Err(SQLITE_BUSY));
        assert_eq!(locks.lock(3, SQLITE_LOCK_SHARED), Ok(()));
        assert!(locks.is_reserved());
        assert_eq!(locks.lock(1, SQLITE_LOCK_EXCLUSIVE), Err(SQLITE_BUSY));
        assert_eq!(locks.lock(4, SQLITE_LOCK_SHARED), Err(SQLITE_BUSY), "a pending writer keeps new readers out");
        locks.unlock(2, SQLITE_LOCK_NONE);
        locks.unlock(3, SQLITE_LOCK_NONE);
        assert_eq!(locks.lock(1, SQLITE_LOCK_EXCLUSIVE), Ok(()));
        locks.unlock(1, SQLITE_LOCK_SHARED);
        assert!(!locks.is_reserved());
        assert_eq!(locks.lock(4, SQLITE_LOCK_SHARED), Ok(()));
    }

    #[test]
    fn a_slot_is_locked_shared_or_exclusive() {
        let mut locks = SlotLocks::default();
        assert_eq!(locks.lock_shared(1, 0b0001), Ok(()));
        assert_eq!(locks.lock_shared(2, 0b0001), Ok(()));
        assert_eq!(locks.lock_exclusive(1, 0b0011), Err(SQLITE_BUSY));
        locks.release(2, 0b0001);
        assert_eq!(locks.lock_exclusive(1, 0b0011), Ok(()));
        assert_eq!(locks.lock_shared(2, 0b0010), Err(SQLITE_BUSY));
        assert_eq!(locks.lock_exclusive(2, 0b0100), Ok(()));
        locks.release_all(1);
        assert_eq!(locks.lock_shared(2, 0b0010), Ok(()));
    }
}
