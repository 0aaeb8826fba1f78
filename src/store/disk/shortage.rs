//! Why there is no room for a record.

use std::fmt;
use std::io::{self, ErrorKind};

/// Why records can't be stored until space is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortage {
    /// The disk has fewer bytes free than are reserved for the store's own upkeep.
    Reserve {
        /// Free bytes.
        free: u64,
        /// The bytes that must be free for inserts to be accepted.
        reserved: u64,
    },
    /// The disk is full (ENOSPC).
    Disk,
    /// The user's or project's disk quota is used up (EDQUOT).
    Quota,
    /// A file would become larger than the process or the file system allows (EFBIG).
    FileSize,
}

impl Shortage {
    /// Returns the shortage that made a write fail; `None` if it failed for another reason.
    pub(in crate::store) fn from_io(error: &io::Error) -> Option<Self> {
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

/// Formats bytes as MiB with one decimal, rounded down: the free space must not look sufficient.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 20) / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_distinguished_from_a_broken_one() {
        use rustix::io::Errno;
        let shortage = |errno: Errno| Shortage::from_io(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert_eq!(
            [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(shortage).map(|shortage| shortage.is_some()),
            [true; 3]
        );
        assert_eq!([Errno::IO, Errno::ROFS, Errno::ACCESS].map(shortage), [None; 3]);
    }

    #[test]
    fn the_message_states_free_and_reserved_space() {
        let shortage = Shortage::Reserve { free: (40 << 20) + (900 << 10), reserved: 64 << 20 };
        assert_eq!(
            shortage.to_string(),
            "the disk is nearly full: 40.8 MiB are free, and 64.0 MiB are reserved for the store's log and index"
        );
    }
}
