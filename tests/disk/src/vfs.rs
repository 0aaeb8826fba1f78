//! SQLite's calls on the file system as a whole, from C: names, time, chance. Refuses to decide anything.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;
use std::time::Duration;
use std::{ptr, slice};

use libsqlite3_sys::{
    SQLITE_ACCESS_EXISTS, SQLITE_CANTOPEN, SQLITE_IOERR, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_vfs,
};

use crate::device::{Life, code};
use crate::handle::{Handle, size};
use crate::io::{self, Opened};
use crate::record::Call;
use crate::registry::Slot;

/// The longest name of a file.
const MAX_NAME: usize = 512;
/// SQLite counts milliseconds from noon of 24 November 4714 BC; 1970 began so many later.
const UNIX_EPOCH: i64 = 210_866_760_000_000;

/// What SQLite is to know of a slot. The second version: with a clock in milliseconds.
pub(crate) fn of(slot: &'static Slot) -> sqlite3_vfs {
    sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<Opened>()).unwrap_or(c_int::MAX),
        mxPathname: c_int::try_from(MAX_NAME).unwrap_or(c_int::MAX),
        pNext: ptr::null_mut(),
        zName: slot.c_name().as_ptr(),
        pAppData: ptr::from_ref(slot).cast_mut().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: None,
        xGetLastError: None,
        xCurrentTimeInt64: Some(current_time),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// The life behind it; none: nobody is.
///
/// # Safety
/// `vfs` was made by [`of`].
unsafe fn life(vfs: *mut sqlite3_vfs) -> Option<Arc<Life>> {
    // SAFETY: the structure lives for good, and nobody changes this field.
    let slot: *const Slot = unsafe { (*vfs).pAppData }.cast();
    // SAFETY: the slot lives for good, and is only ever shared.
    let slot: &'static Slot = unsafe { &*slot };
    slot.life()
}

/// A name that SQLite passes. None: it is null, or no text.
///
/// # Safety
/// It ends in a zero and outlives `'a`.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: it ends in a zero, says the caller.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes what was registered.
    let life = unsafe { life(vfs) };
    // SAFETY: SQLite's names end in a zero and live as long as the file.
    let name = unsafe { text(name) };
    let opened = life.ok_or(SQLITE_CANTOPEN).and_then(|life| Handle::open(&life, name, flags));
    let code = code(&opened);
    // SAFETY: SQLite has made as much room as it was told.
    unsafe { io::fill_in(file, opened.ok()) };
    if !out_flags.is_null() {
        // SAFETY: where it is not null, SQLite has a place for it.
        unsafe { out_flags.write(flags) };
    }
    code
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, is_synced: c_int) -> c_int {
    // SAFETY: SQLite passes what was registered.
    let life = unsafe { life(vfs) };
    // SAFETY: SQLite's names end in a zero.
    let (Some(life), Some(name)) = (life, unsafe { text(name) }) else { return SQLITE_IOERR };
    let call = Call { what: "delete", name, place: 0, len: is_synced.unsigned_abs().into() };
    code(&life.change(call, |state| state.delete(name, is_synced != 0)))
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, flags: c_int, result: *mut c_int) -> c_int {
    // SAFETY: SQLite passes what was registered.
    let life = unsafe { life(vfs) };
    // SAFETY: SQLite's names end in a zero.
    let (Some(life), Some(name)) = (life, unsafe { text(name) }) else { return SQLITE_IOERR };
    let call = Call { what: "access", name, place: 0, len: flags.unsigned_abs().into() };
    let len = life.call(call, |state| Ok(state.len_of(name)));
    // An empty journal is as good as none.
    let is_there = len.is_ok_and(|len| len.is_some_and(|len| len > 0 || flags != SQLITE_ACCESS_EXISTS));
    // SAFETY: SQLite has a place for the answer.
    unsafe { result.write(c_int::from(is_there)) };
    code(&len)
}

/// Names are as they are: there is one folder.
unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    result: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's names end in a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if size(room).is_ok_and(|room| name.len() > room) {
        return SQLITE_CANTOPEN;
    }
    // SAFETY: there is room for so many bytes, and it is SQLite's own.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), result, name.len()) };
    SQLITE_OK
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, count: c_int, result: *mut c_char) -> c_int {
    let Ok(len) = size(count) else { return 0 };
    // SAFETY: SQLite has room for so many bytes; zeros first, so that a slice of it may be made.
    unsafe { result.write_bytes(0, len) };
    // SAFETY: as before.
    let bytes = unsafe { slice::from_raw_parts_mut(result.cast::<u8>(), len) };
    // SAFETY: SQLite passes what was registered.
    if let Some(life) = unsafe { life(vfs) } {
        life.state().into_iter().for_each(|mut state| state.randomness.fill(bytes));
    }
    count
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, micros: c_int) -> c_int {
    // SAFETY: SQLite passes what was registered.
    if let Some(life) = unsafe { life(vfs) } {
        life.sleep(Duration::from_micros(micros.unsigned_abs().into()));
    }
    micros
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, result: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes what was registered.
    let life = unsafe { life(vfs) };
    let now = life.and_then(|life| life.state().ok().map(|state| state.unix_millis)).unwrap_or(0);
    // SAFETY: SQLite has a place for the answer.
    unsafe { result.write(UNIX_EPOCH + now) };
    SQLITE_OK
}
