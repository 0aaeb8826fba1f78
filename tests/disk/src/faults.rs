//! What goes wrong, and how often. Refuses to know what comes of it.

use std::ffi::c_int;

use libsqlite3_sys::{SQLITE_FULL, SQLITE_IOERR_WRITE};

/// The ways in which a system has no room for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// ENOSPC, which SQLite reports as `SQLITE_FULL`.
    Disk,
    /// EDQUOT, which SQLite reports as any other failure (`SQLITE_IOERR_WRITE`).
    Quota,
    /// EFBIG, which SQLite reports as any other failure, too.
    FileSize,
}

impl NoRoom {
    /// Returns Linux's number of the error.
    pub(crate) fn errno(self) -> i32 {
        match self {
            Self::Disk => 28,
            Self::Quota => 122,
            Self::FileSize => 27,
        }
    }

    /// Returns what SQLite's own VFS makes of it.
    pub(crate) fn code(self) -> c_int {
        match self {
            Self::Disk => SQLITE_FULL,
            Self::Quota | Self::FileSize => SQLITE_IOERR_WRITE,
        }
    }
}

/// Rates go from 0 (never) to 1 (always); each call draws anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Reads that fail (`SQLITE_IOERR_READ`).
    pub reads_fail: f64,
    /// Writes of which only a part is made, maybe none (`SQLITE_IOERR_WRITE`).
    pub writes_fail: f64,
    /// Calls of fsync that fail (`SQLITE_IOERR_FSYNC`). As with kernels, what was to be written is then no longer to be
    /// written: of each sector chance decides whether it had got to the disk, and of each file whether programs go on
    /// seeing what they wrote. The next call may well succeed, and brings nothing back.
    pub syncs_fail: f64,
    /// Calls of fsync that say yes and do nothing: a loss of power takes what they were for.
    pub syncs_lie: f64,
    /// Truncations that fail (`SQLITE_IOERR_TRUNCATE`) and leave the file as it was.
    pub truncates_fail: f64,
    /// Files that can't be opened (`SQLITE_CANTOPEN`).
    pub opens_fail: f64,
    /// The disk holds no more than so many bytes, all files and their shared memory together (`SQLITE_FULL`, and
    /// `SQLITE_IOERR_SHMSIZE` for the memory). None: no bound. Less than what there already is: nothing grows.
    pub capacity: Option<u64>,
    /// What the system says of a write for which there is no room.
    pub no_room: NoRoom,
    /// Whether a loss of power in a write leaves bytes beside it alone, and SQLite is told so. If not, sectors that were
    /// being written may come back as garbage.
    pub powersafe_overwrite: bool,
    /// The sector size that SQLite is told: 512 to 65536, a power of two. The disk itself writes sectors of 512 bytes.
    pub sector_bytes: u32,
}

impl Default for Faults {
    /// None, on a disk as SQLite takes those of Linux to be.
    fn default() -> Self {
        Self {
            reads_fail: 0.0,
            writes_fail: 0.0,
            syncs_fail: 0.0,
            syncs_lie: 0.0,
            truncates_fail: 0.0,
            opens_fail: 0.0,
            capacity: None,
            no_room: NoRoom::Disk,
            powersafe_overwrite: true,
            sector_bytes: 4096,
        }
    }
}
