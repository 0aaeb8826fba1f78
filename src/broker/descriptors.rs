//! The process's descriptors: how many there may be, and room for them in the kernel's table.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The largest number of descriptors for which room is made at the start. It takes half a megabyte of the kernel's memory.
const MAX_RESERVED: usize = 64 << 10;

/// Raises the soft limit of descriptors to the hard limit, and returns the limit that now holds.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.and_then(|current| usize::try_from(current).ok()).unwrap_or(1 << 30)
}

/// Makes room for this many descriptors, up to a limit. Otherwise the kernel doubles its table when a connection finds it full,
/// and the thread that accepts waits until no other uses the old table any more, which takes 10 to 20 ms.
pub(super) fn reserve(count: usize) {
    let highest = count.min(MAX_RESERVED).saturating_sub(1);
    // Opening one descriptor with this number, and closing it, leaves the table as large as it has to be. Without room, or
    // without standard error, the broker works as well.
    if let Ok(highest) = i32::try_from(highest) {
        let _ = fcntl_dupfd_cloexec(io::stderr(), highest);
    }
}
