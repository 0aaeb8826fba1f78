//! The faults that a disk injects, and their probabilities.

use std::ffi::c_int;

use libsqlite3_sys::{SQLITE_FULL, SQLITE_IOERR_WRITE};

/// The error with which a full disk refuses a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// ENOSPC, which SQLite reports as `SQLITE_FULL`.
    Disk,
    /// EDQUOT, which SQLite reports like any other failure (`SQLITE_IOERR_WRITE`).
    Quota,
    /// EFBIG, which SQLite reports like any other failure (`SQLITE_IOERR_WRITE`).
    FileSize,
}

impl SpaceError {
    /// Returns Linux's errno.
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::Disk => 28,
            Self::Quota => 122,
            Self::FileSize => 27,
        }
    }

    /// Returns the result code of SQLite's own VFS for it.
    pub(crate) fn code(self) -> c_int {
        match self {
            Self::Disk => SQLITE_FULL,
            Self::Quota | Self::FileSize => SQLITE_IOERR_WRITE,
        }
    }
}

/// What goes wrong. Probabilities are from 0 (never) to 1 (always), and apply to each call independently.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// The probability that a read fails (`SQLITE_IOERR_READ`).
    pub reads_fail: f64,
    /// The probability that a write fails after writing a part of its bytes, possibly none (`SQLITE_IOERR_WRITE`).
    pub writes_fail: f64,
    /// The probability that an fsync fails (`SQLITE_IOERR_FSYNC`). As with real kernels, dirty pages then become clean: each
    /// sector may or may not have reached the disk, and programs may or may not still see what they wrote. The next fsync
    /// may succeed, and does not bring anything back.
    pub syncs_fail: f64,
    /// The probability that an fsync reports success but does nothing, so that a power cut loses what it was for.
    pub syncs_lie: f64,
    /// The probability that a truncation fails and leaves the file unchanged (`SQLITE_IOERR_TRUNCATE`).
    pub truncates_fail: f64,
    /// The probability that a file can't be opened (`SQLITE_CANTOPEN`).
    pub opens_fail: f64,
    /// The maximum bytes of all files and their shared memory (`SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE` for the memory);
    /// `None` is unlimited. Below the current size, nothing can grow.
    pub capacity: Option<u64>,
    /// The error of a write that does not fit.
    pub space_error: SpaceError,
    /// Whether a power cut during a write leaves adjacent bytes intact, as is reported to SQLite. If not, sectors that were
    /// being written may contain garbage afterwards.
    pub powersafe_overwrite: bool,
    /// The sector size reported to SQLite: 512 to 65536, a power of two. The disk itself writes sectors of 512 bytes.
    pub sector_bytes: u32,
}

impl Default for Faults {
    /// No faults, on a disk with the properties that SQLite assumes on Linux.
    fn default() -> Self {
        Self {
            reads_fail: 0.0,
            writes_fail: 0.0,
            syncs_fail: 0.0,
            syncs_lie: 0.0,
            truncates_fail: 0.0,
            opens_fail: 0.0,
            capacity: None,
            space_error: SpaceError::Disk,
            powersafe_overwrite: true,
            sector_bytes: 4096,
        }
    }
}
