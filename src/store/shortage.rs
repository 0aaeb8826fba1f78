//! Why there is no room for a record. Independent of where it is noticed.

use std::fmt;
use std::io::{self, ErrorKind};

/// Why records can't be stored until somebody makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// The disk has fewer bytes free than are reserved for the store's own upkeep.
    Reserve {
        /// Bytes that are free.
        free: u64,
        /// Bytes that must be free before inserts are accepted.
        reserved: u64,
    },
    /// The disk has no room at all (ENOSPC).
    Disk,
    /// The user's or project's disk quota is used up (EDQUOT).
    Quota,
    /// A file would become larger than the process or the file system allows (EFBIG).
    FileSize,
}

impl Shortage {
    /// Returns what a failed write says about room; `None` if it failed for another reason.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::StorageFull => Some(Self::Disk),
            ErrorKind::QuotaExceeded => Some(Self::Quota),
            ErrorKind::FileTooLarge => Some(Self::FileSize),
            _ => None,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Reserve { free, reserved } => write!(
                f,
                "the disk is nearly full: {} MiB are free, and {} MiB are reserved for the store's log and index",
                mebibytes(free),
                mebibytes(reserved)
            ),
            Self::Disk => f.write_str("the disk is full (ENOSPC)"),
            Self::Quota => f.write_str("the disk quota is exceeded (EDQUOT)"),
            Self::FileSize => f.write_str(
                "a file has reached the size limit of the process (ulimit -f) or of the file system (EFBIG)",
            ),
        }
    }
}

/// With one decimal, rounded down: what is free must not look like enough.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 20) / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_mean_no_room_are_told_from_a_broken_disk() {
        use rustix::io::Errno;
        let of = |errno: Errno| Shortage::of(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert_eq!([Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(of).map(|shortage| shortage.is_some()), [true; 3]);
        assert_eq!([Errno::IO, Errno::ROFS, Errno::ACCESS].map(of), [None; 3]);
    }

    #[test]
    fn the_reserve_is_named() {
        let shortage = Shortage::Reserve { free: (40 << 20) + (900 << 10), reserved: 64 << 20 };
        assert_eq!(
            shortage.to_string(),
            "the disk is nearly full: 40.8 MiB are free, and 64.0 MiB are reserved for the store's log and index"
        );
    }
}
