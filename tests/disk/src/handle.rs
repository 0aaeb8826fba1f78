//! An open file: each call of SQLite's on it, in safe terms. Refuses to know how SQLite passes them.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;

use libsqlite3_sys::{
    SQLITE_IOCAP_POWERSAFE_OVERWRITE, SQLITE_IOCAP_SUBPAGE_READ, SQLITE_IOERR, SQLITE_OPEN_CREATE,
    SQLITE_OPEN_DELETEONCLOSE, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_SUPER_JOURNAL, SQLITE_OPEN_WAL, SQLITE_SHM_LOCK,
    SQLITE_SHM_SHARED,
};

use crate::device::Life;
use crate::folder::FileId;
use crate::locks::HandleId;
use crate::memory::Memory;
use crate::record::Call;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Handle {
    life: Arc<Life>,
    name: Arc<str>,
    file: FileId,
    id: HandleId,
    /// The next sync is for the file's name, too: it may be new.
    is_name_unsynced: bool,
    /// Of so many failures of fsync on its file it knows.
    told: u64,
    goes_on_close: bool,
    /// Kept until the end: SQLite looks into it without asking, be the life over or not.
    memory: Option<Arc<Memory>>,
}

/// Without a name it is for SQLite alone, and goes with the handle.
const NAMELESS: &str = "(temporary)";
const JOURNALS: c_int = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;

impl Handle {
    pub fn open(life: &Arc<Life>, name: Option<&str>, flags: c_int) -> Result<Self, c_int> {
        let call = Call { what: "open", name: name.unwrap_or(NAMELESS), place: 0, len: 0 };
        let creates = match name {
            Some(name) => life.state()?.would_create(name, flags),
            None => false,
        };
        let (file, id) = if creates {
            life.change(call, |state| state.open(name, flags))?
        } else {
            life.call(call, |state| state.open(name, flags))?
        };
        let told = life.state()?.failures(file);
        Ok(Self {
            told,
            life: Arc::clone(life),
            name: call.name.into(),
            file,
            id,
            is_name_unsynced: flags & SQLITE_OPEN_CREATE != 0 && flags & JOURNALS != 0,
            goes_on_close: flags & SQLITE_OPEN_DELETEONCLOSE != 0 && name.is_some(),
            memory: None,
        })
    }

    fn note(&self, what: &'static str, place: usize, len: usize) -> Call<'_> {
        Call { what, name: &self.name, place: place as u64, len: len as u64 }
    }

    /// Lets go of it, dead or alive.
    pub fn close(self) -> Result<(), c_int> {
        if self.goes_on_close {
            self.life.change(self.note("delete", 0, 0), |state| state.delete(&self.name, false))?;
        }
        self.life.call(self.note("close", 0, 0), |state| {
            state.close(self.file, self.id);
            Ok(())
        })
    }
}

// Contents.
impl Handle {
    /// What is not there is zeros, whatever comes of it.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), c_int> {
        let call = self.note("read", offset, buffer.len());
        self.life.call(call, |state| state.read(self.file, offset, buffer))
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), c_int> {
        let call = self.note("write", offset, bytes.len());
        self.life.change(call, |state| state.write(self.file, offset, bytes))
    }

    pub fn truncate(&self, len: usize) -> Result<(), c_int> {
        self.life.change(self.note("truncate", 0, len), |state| state.truncate(self.file, len))
    }

    pub fn sync(&mut self) -> Result<(), c_int> {
        let bytes = self.life.state()?.unsynced_bytes(self.file);
        self.life.wait_for_sync(bytes);
        let (with_name, file, mut told) = (self.is_name_unsynced, self.file, self.told);
        let synced = self.life.change(self.note("sync", 0, bytes), |state| state.sync(file, with_name, &mut told));
        self.told = told;
        self.is_name_unsynced &= !synced?;
        Ok(())
    }

    pub fn len(&self) -> Result<usize, c_int> {
        self.life.call(self.note("size", 0, 0), |state| state.len(self.file))
    }

    pub fn sector_bytes(&self) -> c_int {
        self.life.state().map_or(512, |state| c_int::try_from(state.faults.sector_bytes).unwrap_or(512))
    }

    pub fn characteristics(&self) -> c_int {
        let is_safe = self.life.state().is_ok_and(|state| state.faults.powersafe_overwrite);
        SQLITE_IOCAP_SUBPAGE_READ | if is_safe { SQLITE_IOCAP_POWERSAFE_OVERWRITE } else { 0 }
    }
}

// Locks.
impl Handle {
    pub fn lock(&self, level: c_int) -> Result<(), c_int> {
        let call = self.note("lock", level.unsigned_abs() as usize, 0);
        self.life.call(call, |state| state.lock(self.file, self.id, level))
    }

    pub fn unlock(&self, level: c_int) -> Result<(), c_int> {
        let call = self.note("unlock", level.unsigned_abs() as usize, 0);
        self.life.call(call, |state| {
            state.unlock(self.file, self.id, level);
            Ok(())
        })
    }

    pub fn is_reserved(&self) -> Result<bool, c_int> {
        self.life.call(self.note("reserved?", 0, 0), |state| Ok(state.is_reserved(self.file)))
    }

    /// Locks slots of the shared memory or lets go of them, as the flags say.
    pub fn lock_slots(&self, first: usize, count: usize, flags: c_int) -> Result<(), c_int> {
        let mask = ((1_u32 << (first + count)) - (1_u32 << first)).to_le_bytes()[0];
        let what = match (flags & SQLITE_SHM_LOCK != 0, flags & SQLITE_SHM_SHARED != 0) {
            (true, true) => "share slots",
            (true, false) => "take slots",
            (false, _) => "release slots",
        };
        self.life.call(self.note(what, first, count), |state| {
            state.slots(self.file, |slots| match what {
                "share slots" => slots.share(self.id, mask),
                "take slots" => slots.take(self.id, mask),
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
    /// Where a region of it is; null: it is not there, and not to be made.
    pub fn map(&mut self, region: usize, bytes: usize, is_extended: bool) -> Result<*mut c_void, c_int> {
        let call = self.note("map", region, bytes);
        let regions = region + 1;
        let mapped = self.life.call(call, |state| state.map(self.file, self.id, regions, bytes, is_extended))?;
        let place = mapped.region(region).unwrap_or(ptr::null_mut());
        self.memory = Some(mapped);
        Ok(place)
    }

    pub fn unmap(&mut self) -> Result<(), c_int> {
        let unmapped = self.life.call(self.note("unmap", 0, 0), |state| {
            state.unmap(self.file, self.id);
            Ok(())
        });
        self.memory = None;
        unmapped
    }

    /// What is written before is seen by whoever comes after.
    pub fn barrier(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// A length or place as SQLite passes it; none is negative.
pub(crate) fn size(value: impl TryInto<usize>) -> Result<usize, c_int> {
    value.try_into().map_err(|_| SQLITE_IOERR)
}
