//! An open file: SQLite's calls on it, in safe Rust.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use libsqlite3_sys::{
    SQLITE_IOCAP_POWERSAFE_OVERWRITE, SQLITE_IOCAP_SUBPAGE_READ, SQLITE_IOERR, SQLITE_OPEN_CREATE,
    SQLITE_OPEN_DELETEONCLOSE, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_SUPER_JOURNAL, SQLITE_OPEN_WAL, SQLITE_SHM_LOCK,
    SQLITE_SHM_SHARED,
};

use crate::device::Session;
use crate::directory::FileId;
use crate::locks::HandleId;
use crate::memory::Memory;
use crate::trace::Call;

/// An open file of a session.
#[derive(Debug)]
pub(crate) struct Handle {
    session: Arc<Session>,
    name: Arc<str>,
    file: FileId,
    id: HandleId,
    /// Whether the next fsync must also make the file's name durable, as it may be new.
    is_name_unsynced: bool,
    /// How many failed fsyncs of its file were reported to this handle.
    reported_failures: u64,
    delete_on_close: bool,
    /// Kept until the handle is closed, as SQLite accesses the memory without a call, even after a crash.
    memory: Option<Arc<Memory>>,
}

/// Stands for the name of a temporary file, which has none and is deleted with its handle.
const NAMELESS: &str = "(temporary)";
const JOURNALS: c_int = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;

impl Handle {
    pub fn open(session: &Arc<Session>, name: Option<&str>, flags: c_int) -> Result<Self, c_int> {
        let call = Call { what: "open", name: name.unwrap_or(NAMELESS), offset: 0, len: 0 };
        let creates = match name {
            Some(name) => session.state()?.would_create(name, flags),
            None => false,
        };
        let (file, id) = if creates {
            session.change(call, |state| state.open(name, flags))?
        } else {
            session.call(call, |state| state.open(name, flags))?
        };
        let reported_failures = session.state()?.failures(file);
        Ok(Self {
            reported_failures,
            session: Arc::clone(session),
            name: call.name.into(),
            file,
            id,
            is_name_unsynced: flags & SQLITE_OPEN_CREATE != 0 && flags & JOURNALS != 0,
            delete_on_close: flags & SQLITE_OPEN_DELETEONCLOSE != 0 && name.is_some(),
            memory: None,
        })
    }

    fn call(&self, what: &'static str, offset: usize, len: usize) -> Call<'_> {
        Call { what, name: &self.name, offset: offset as u64, len: len as u64 }
    }

    /// Closes the file, even after a crash.
    pub fn close(self) -> Result<(), c_int> {
        if self.delete_on_close {
            self.session.change(self.call("delete", 0, 0), |state| state.delete(&self.name, false))?;
        }
        self.session.call(self.call("close", 0, 0), |state| {
            state.close(self.file, self.id);
            Ok(())
        })
    }
}

// Contents.
impl Handle {
    /// Reads into the buffer. Bytes beyond the end are zero, even if the call fails.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), c_int> {
        let call = self.call("read", offset, buffer.len());
        self.session.call(call, |state| state.read(self.file, offset, buffer))
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), c_int> {
        let call = self.call("write", offset, bytes.len());
        self.session.change(call, |state| state.write(self.file, offset, bytes))
    }

    pub fn truncate(&self, len: usize) -> Result<(), c_int> {
        self.session.change(self.call("truncate", 0, len), |state| state.truncate(self.file, len))
    }

    pub fn sync(&mut self) -> Result<(), c_int> {
        let bytes = self.session.state()?.unsynced_bytes(self.file);
        self.session.wait_for_sync(bytes);
        let (with_name, file, mut reported) = (self.is_name_unsynced, self.file, self.reported_failures);
        let synced =
            self.session.change(self.call("sync", 0, bytes), |state| state.sync(file, with_name, &mut reported));
        self.reported_failures = reported;
        self.is_name_unsynced &= !synced?;
        Ok(())
    }

    pub fn len(&self) -> Result<usize, c_int> {
        self.session.call(self.call("size", 0, 0), |state| state.len(self.file))
    }

    pub fn sector_bytes(&self) -> c_int {
        self.session.state().map_or(512, |state| c_int::try_from(state.faults.sector_bytes).unwrap_or(512))
    }

    pub fn characteristics(&self) -> c_int {
        let is_safe = self.session.state().is_ok_and(|state| state.faults.powersafe_overwrite);
        SQLITE_IOCAP_SUBPAGE_READ | if is_safe { SQLITE_IOCAP_POWERSAFE_OVERWRITE } else { 0 }
    }
}

// Locks.
impl Handle {
    pub fn lock(&self, level: c_int) -> Result<(), c_int> {
        let call = self.call("lock", level.unsigned_abs() as usize, 0);
        self.session.call(call, |state| state.lock(self.file, self.id, level))
    }

    pub fn unlock(&self, level: c_int) -> Result<(), c_int> {
        let call = self.call("unlock", level.unsigned_abs() as usize, 0);
        self.session.call(call, |state| {
            state.unlock(self.file, self.id, level);
            Ok(())
        })
    }

    pub fn is_reserved(&self) -> Result<bool, c_int> {
        self.session.call(self.call("reserved?", 0, 0), |state| Ok(state.is_reserved(self.file)))
    }

    /// Locks or releases slots of the shared memory, depending on the flags.
    pub fn lock_slots(&self, first: usize, count: usize, flags: c_int) -> Result<(), c_int> {
        let mask = ((1_u32 << (first + count)) - (1_u32 << first)).to_le_bytes()[0];
        let what = match (flags & SQLITE_SHM_LOCK != 0, flags & SQLITE_SHM_SHARED != 0) {
            (true, true) => "share slots",
            (true, false) => "take slots",
            (false, _) => "release slots",
        };
        self.session.call(self.call(what, first, count), |state| {
            state.slots(self.file, |slots| match what {
                "share slots" => slots.lock_shared(self.id, mask),
                "take slots" => slots.lock_exclusive(self.id, mask),
                _ => {
                    slots.release(self.id, mask);
                    Ok(())
                }
            })
        })
    }
}

// Shared memory.
impl Handle {
    /// Returns the address of a region, or null if it does not exist and `is_extended` is false.
    pub fn map(&mut self, region: usize, bytes: usize, is_extended: bool) -> Result<*mut c_void, c_int> {
        let call = self.call("map", region, bytes);
        let regions = region + 1;
        let mapped = self.session.call(call, |state| state.map(self.file, self.id, regions, bytes, is_extended))?;
        let address = mapped.region(region).unwrap_or(ptr::null_mut());
        self.memory = Some(mapped);
        Ok(address)
    }

    pub fn unmap(&mut self) -> Result<(), c_int> {
        let unmapped = self.session.call(self.call("unmap", 0, 0), |state| {
            state.unmap(self.file, self.id);
            Ok(())
        });
        self.memory = None;
        unmapped
    }

    /// Orders memory accesses before and after.
    pub fn barrier(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// Converts a length or offset from SQLite, which is never negative.
pub(crate) fn size(value: impl TryInto<usize>) -> Result<usize, c_int> {
    value.try_into().map_err(|_| SQLITE_IOERR)
}
