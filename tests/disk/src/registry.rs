//! Registers disks with SQLite under the names of VFSs. Each name has a structure that is never freed, because SQLite may
//! hold it as long as a connection exists. Names are reused, so there are only as many as sessions at the same time.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use libsqlite3_sys::{sqlite3_vfs, sqlite3_vfs_register, sqlite3_vfs_unregister};

use crate::device::{Session, lock};
use crate::vfs;

static SLOTS: Mutex<Vec<&Slot>> = Mutex::new(Vec::new());

/// A VFS name, and the session that it stands for.
#[derive(Debug)]
pub(crate) struct Slot {
    name: CString,
    text: String,
    session: Mutex<Weak<Session>>,
    is_taken: AtomicBool,
    registered: Mutex<Option<Registered>>,
}

/// The structure that SQLite was given; never freed.
#[derive(Debug)]
struct Registered(*mut sqlite3_vfs);

// SAFETY: only SQLite changes the structure, under its own mutex. Here the pointer is only passed to SQLite.
unsafe impl Send for Registered {}

impl Slot {
    /// Returns a free slot, or a new one.
    pub fn acquire() -> &'static Self {
        let mut slots = lock(&SLOTS);
        if let Some(slot) = slots.iter().find(|slot| !slot.is_taken.swap(true, Ordering::AcqRel)) {
            return slot;
        }
        let text = format!("esker-disk-{}", slots.len());
        let slot: &'static Self = Box::leak(Box::new(Self {
            name: CString::new(text.as_str()).unwrap_or_default(),
            text,
            session: Mutex::default(),
            is_taken: AtomicBool::new(true),
            registered: Mutex::default(),
        }));
        slots.push(slot);
        slot
    }

    pub fn name(&self) -> &str {
        &self.text
    }

    /// Returns the name as a C string.
    pub fn c_name(&self) -> &CStr {
        &self.name
    }

    /// Returns the session that the name stands for.
    pub fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).upgrade()
    }

    /// Makes SQLite find this session by the name.
    pub fn register(&'static self, session: &Arc<Session>) {
        *lock(&self.session) = Arc::downgrade(session);
        let mut registered = lock(&self.registered);
        let Registered(vfs) =
            registered.get_or_insert_with(|| Registered(Box::into_raw(Box::new(vfs::structure(self)))));
        // SAFETY: the structure is a valid VFS and is never freed.
        let code = unsafe { sqlite3_vfs_register(*vfs, 0) };
        assert_eq!(code, 0, "SQLite refuses another VFS");
    }

    /// Frees the slot for another session.
    pub fn release(&self) {
        if let Some(Registered(vfs)) = &*lock(&self.registered) {
            // SAFETY: it was registered by `register`, and is never freed.
            unsafe { sqlite3_vfs_unregister(*vfs) };
        }
        self.is_taken.store(false, Ordering::Release);
    }
}

/// Returns the session that a name stands for.
pub(crate) fn find(name: &str) -> Option<Arc<Session>> {
    let slots = lock(&SLOTS).clone();
    slots.into_iter().find(|slot| slot.text == name)?.session()
}

/// Returns the number of names.
#[cfg(test)]
pub(crate) fn count() -> usize {
    lock(&SLOTS).len()
}
