//! The C interface of a VFS: SQLite's calls on the file system as a whole. Converts arguments and results, and decides
//! nothing.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Arc;
use std::time::Duration;
use std::{ptr, slice};

use libsqlite3_sys::{
    SQLITE_ACCESS_EXISTS, SQLITE_CANTOPEN, SQLITE_IOERR, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_vfs,
};

use crate::device::{Session, code};
use crate::handle::{Handle, size};
use crate::io::{self, Opened};
use crate::registry::Slot;
use crate::trace::Call;

/// The maximum bytes of a file name, including the terminating zero.
const MAX_NAME: usize = 512;
/// The start of 1970 in milliseconds since noon of 24 November 4714 BC, from which SQLite counts.
const UNIX_EPOCH: i64 = 210_866_760_000_000;

/// Returns the VFS structure of a slot. Version 2 has a clock in milliseconds.
pub(crate) fn structure(slot: &'static Slot) -> sqlite3_vfs {
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

/// Returns the session of a VFS, if it has one.
///
/// # Safety
/// `vfs` was returned by [`structure`].
unsafe fn session(vfs: *mut sqlite3_vfs) -> Option<Arc<Session>> {
    // SAFETY: the structure is never freed, and this field never changes.
    let slot: *const Slot = unsafe { (*vfs).pAppData }.cast();
    // SAFETY: the slot is never freed, and only shared references to it exist.
    let slot: &'static Slot = unsafe { &*slot };
    slot.session()
}

/// Returns a name as text, or `None` if it is null or not UTF-8.
///
/// # Safety
/// `name` is null, or ends with a zero and outlives `'a`.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller guarantees the terminating zero and the lifetime.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the registered structure.
    let session = unsafe { session(vfs) };
    // SAFETY: SQLite's names end with a zero and outlive the open file.
    let name = unsafe { text(name) };
    let opened = session.ok_or(SQLITE_CANTOPEN).and_then(|session| Handle::open(&session, name, flags));
    let code = code(&opened);
    // SAFETY: SQLite has allocated `szOsFile` bytes.
    unsafe { io::fill_in(file, opened.ok()) };
    if !out_flags.is_null() {
        // SAFETY: if it is not null, it points to SQLite's variable.
        unsafe { out_flags.write(flags) };
    }
    code
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, is_synced: c_int) -> c_int {
    // SAFETY: SQLite passes the registered structure.
    let session = unsafe { session(vfs) };
    // SAFETY: SQLite's names end with a zero.
    let (Some(session), Some(name)) = (session, unsafe { text(name) }) else { return SQLITE_IOERR };
    let call = Call { what: "delete", name, offset: 0, len: is_synced.unsigned_abs().into() };
    code(&session.change(call, |state| state.delete(name, is_synced != 0)))
}

unsafe extern "C" fn access(vfs: *mut sqlite3_vfs, name: *const c_char, flags: c_int, result: *mut c_int) -> c_int {
    // SAFETY: SQLite passes the registered structure.
    let session = unsafe { session(vfs) };
    // SAFETY: SQLite's names end with a zero.
    let (Some(session), Some(name)) = (session, unsafe { text(name) }) else { return SQLITE_IOERR };
    let call = Call { what: "access", name, offset: 0, len: flags.unsigned_abs().into() };
    let len = session.call(call, |state| Ok(state.len_of(name)));
    // For SQLite an empty journal does not exist.
    let is_there = len.is_ok_and(|len| len.is_some_and(|len| len > 0 || flags != SQLITE_ACCESS_EXISTS));
    // SAFETY: it points to SQLite's variable.
    unsafe { result.write(c_int::from(is_there)) };
    code(&len)
}

/// Returns the name unchanged, as there is a single directory.
unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    result: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's names end with a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if size(room).is_ok_and(|room| name.len() > room) {
        return SQLITE_CANTOPEN;
    }
    // SAFETY: the buffer is large enough, as checked above, and SQLite's own.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), result, name.len()) };
    SQLITE_OK
}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, count: c_int, result: *mut c_char) -> c_int {
    let Ok(len) = size(count) else { return 0 };
    // SAFETY: SQLite's buffer has this many bytes. They are zeroed first, so that a slice of initialized bytes can be made.
    unsafe { result.write_bytes(0, len) };
    // SAFETY: as above.
    let bytes = unsafe { slice::from_raw_parts_mut(result.cast::<u8>(), len) };
    // SAFETY: SQLite passes the registered structure.
    if let Some(session) = unsafe { session(vfs) } {
        session.state().into_iter().for_each(|mut state| state.sqlite_rng.fill(bytes));
    }
    count
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, micros: c_int) -> c_int {
    // SAFETY: SQLite passes the registered structure.
    if let Some(session) = unsafe { session(vfs) } {
        session.sleep(Duration::from_micros(micros.unsigned_abs().into()));
    }
    micros
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, result: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes the registered structure.
    let session = unsafe { session(vfs) };
    let now = session.and_then(|session| session.state().ok().map(|state| state.unix_millis)).unwrap_or(0);
    // SAFETY: it points to SQLite's variable.
    unsafe { result.write(UNIX_EPOCH + now) };
    SQLITE_OK
}
