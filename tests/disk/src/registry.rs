//! The names by which SQLite finds disks. Each is registered with a structure that is never freed, for SQLite may hold it for as
//! long as a connection lives; there are only as many of them as lives at once, for they are used again.
//! Refuses to know what is done on a disk.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use libsqlite3_sys::{sqlite3_vfs, sqlite3_vfs_register, sqlite3_vfs_unregister};

use crate::device::{Life, lock};
use crate::vfs;

static SLOTS: Mutex<Vec<&Slot>> = Mutex::new(Vec::new());

/// A name and who is behind it.
#[derive(Debug)]
pub(crate) struct Slot {
    name: CString,
    text: String,
    life: Mutex<Weak<Life>>,
    is_taken: AtomicBool,
    registered: Mutex<Option<Registered>>,
}

/// What SQLite was given, once and for good.
#[derive(Debug)]
struct Registered(*mut sqlite3_vfs);

// SAFETY: the structure is SQLite's to change, under its own mutex; here the pointer is only handed to SQLite.
unsafe impl Send for Registered {}

impl Slot {
    /// One that nobody has.
    pub fn take() -> &'static Self {
        let mut slots = lock(&SLOTS);
        if let Some(slot) = slots.iter().find(|slot| !slot.is_taken.swap(true, Ordering::AcqRel)) {
            return slot;
        }
        let text = format!("esker-disk-{}", slots.len());
        let slot: &'static Self = Box::leak(Box::new(Self {
            name: CString::new(text.as_str()).unwrap_or_default(),
            text,
            life: Mutex::default(),
            is_taken: AtomicBool::new(true),
            registered: Mutex::default(),
        }));
        slots.push(slot);
        slot
    }

    pub fn name(&self) -> &str {
        &self.text
    }

    /// Its name, as SQLite wants it.
    pub fn c_name(&self) -> &CStr {
        &self.name
    }

    /// Who is behind it, if anybody is.
    pub fn life(&self) -> Option<Arc<Life>> {
        lock(&self.life).upgrade()
    }

    /// From now on SQLite finds this life by the name.
    pub fn serve(&'static self, life: &Arc<Life>) {
        *lock(&self.life) = Arc::downgrade(life);
        let mut registered = lock(&self.registered);
        let Registered(vfs) = registered.get_or_insert_with(|| Registered(Box::into_raw(Box::new(vfs::of(self)))));
        // SAFETY: the structure was made for this and is never freed.
        let code = unsafe { sqlite3_vfs_register(*vfs, 0) };
        assert_eq!(code, 0, "SQLite takes no more file systems");
    }

    /// The name stands for nobody, until it is given to another.
    pub fn give_back(&self) {
        if let Some(Registered(vfs)) = &*lock(&self.registered) {
            // SAFETY: it was registered by `serve`, and stays where it is.
            unsafe { sqlite3_vfs_unregister(*vfs) };
        }
        self.is_taken.store(false, Ordering::Release);
    }
}

/// Who is behind a name.
pub(crate) fn find(name: &str) -> Option<Arc<Life>> {
    let slots = lock(&SLOTS).clone();
    slots.into_iter().find(|slot| slot.text == name)?.life()
}

/// How many names there are.
#[cfg(test)]
pub(crate) fn count() -> usize {
    lock(&SLOTS).len()
}
