//! The C interface of open files: pointers become a handle, slices and numbers, and results become codes. Decides nothing.

use std::ffi::{c_int, c_void};
use std::slice;

use libsqlite3_sys::{SQLITE_IOERR, SQLITE_NOTFOUND, SQLITE_OK, sqlite3_file, sqlite3_int64, sqlite3_io_methods};

use crate::device::code;
use crate::handle::{Handle, size};

/// SQLite's structure for an open file. SQLite allocates it; [`fill_in`] initializes it.
#[repr(C)]
pub(crate) struct Opened {
    file: sqlite3_file,
    /// From a `Box`; null once the file is closed.
    handle: *mut Handle,
}

/// Version 2 has shared memory, but no memory-mapped files.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Initializes SQLite's structure. Without a handle, the file could not be opened, and SQLite must not close it.
///
/// # Safety
/// `file` points to memory for an [`Opened`].
pub(crate) unsafe fn fill_in(file: *mut sqlite3_file, handle: Option<Handle>) {
    let opened = match handle {
        Some(handle) => {
            Opened { file: sqlite3_file { pMethods: &raw const METHODS }, handle: Box::into_raw(Box::new(handle)) }
        }
        None => Opened { file: sqlite3_file { pMethods: std::ptr::null() }, handle: std::ptr::null_mut() },
    };
    // SAFETY: the caller guarantees the memory; its previous contents need no drop.
    unsafe { file.cast::<Opened>().write(opened) };
}

/// Returns the handle of an open file.
///
/// # Safety
/// `file` was filled in with a handle and is not closed, and no other reference to the handle exists: SQLite makes one call
/// at a time on a file.
unsafe fn handle<'a>(file: *mut sqlite3_file) -> &'a mut Handle {
    // SAFETY: the caller guarantees that it was filled in.
    let handle = unsafe { (*file.cast::<Opened>()).handle };
    // SAFETY: the handle exists until the file is closed, and the caller guarantees exclusive access.
    unsafe { &mut *handle }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { (*file.cast::<Opened>()).handle };
    // SAFETY: it came from a `Box`, and SQLite closes a file once.
    let handle = unsafe { Box::from_raw(handle) };
    // SAFETY: the memory is still SQLite's structure.
    unsafe { fill_in(file, None) };
    code(&handle.close())
}

unsafe extern "C" fn read(file: *mut sqlite3_file, buffer: *mut c_void, count: c_int, offset: sqlite3_int64) -> c_int {
    let (Ok(count), Ok(offset)) = (size(count), size(offset)) else { return SQLITE_IOERR };
    // SAFETY: SQLite's buffer has this many bytes during this call. They are zeroed first, so that a slice can be made.
    unsafe { buffer.cast::<u8>().write_bytes(0, count) };
    // SAFETY: as above.
    let buffer = unsafe { slice::from_raw_parts_mut(buffer.cast::<u8>(), count) };
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.read(offset, buffer))
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    offset: sqlite3_int64,
) -> c_int {
    let (Ok(count), Ok(offset)) = (size(count), size(offset)) else { return SQLITE_IOERR };
    // SAFETY: this many bytes are valid and unchanged during this call.
    let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), count) };
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.write(offset, bytes))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    let Ok(len) = size(len) else { return SQLITE_IOERR };
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.truncate(len))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.sync())
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, result: *mut sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let len = unsafe { handle(file) }.len();
    let value = len.map_or(0, |len| sqlite3_int64::try_from(len).unwrap_or(sqlite3_int64::MAX));
    // SAFETY: it points to SQLite's variable.
    unsafe { result.write(value) };
    code(&len)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.lock(level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.unlock(level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: the file is open.
    let is_reserved = unsafe { handle(file) }.is_reserved();
    // SAFETY: it points to SQLite's variable.
    unsafe { result.write(c_int::from(is_reserved == Ok(true))) };
    code(&is_reserved)
}

/// Supports no operation, which SQLite accepts.
unsafe extern "C" fn file_control(_file: *mut sqlite3_file, _operation: c_int, _argument: *mut c_void) -> c_int {
    SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.sector_bytes()
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.characteristics()
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    bytes: c_int,
    is_extended: c_int,
    result: *mut *mut c_void,
) -> c_int {
    let (Ok(region), Ok(bytes)) = (size(region), size(bytes)) else { return SQLITE_IOERR };
    // SAFETY: the file is open.
    let mapped = unsafe { handle(file) }.map(region, bytes, is_extended != 0);
    // SAFETY: it points to SQLite's variable.
    unsafe { result.write(mapped.unwrap_or(std::ptr::null_mut())) };
    code(&mapped)
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    let (Ok(first), Ok(count)) = (size(first), size(count)) else { return SQLITE_IOERR };
    // SAFETY: the file is open.
    code(&unsafe { handle(file) }.lock_slots(first, count, flags))
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: the file is open.
    unsafe { handle(file) }.barrier();
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _is_deleted: c_int) -> c_int {
    // SAFETY: the file is open.
    let unmapped = unsafe { handle(file) }.unmap();
    // After a crash there is nothing to unmap.
    if unmapped.is_err() { SQLITE_OK } else { code(&unmapped) }
}
