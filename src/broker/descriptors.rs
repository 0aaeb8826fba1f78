//! The process's file descriptors: how many there may be, and room for them in the kernel's table.

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
/// and the thread that accepts waits until no other thread uses the old table, which takes 10 to 20 ms.
pub(super) fn reserve(count: usize) {
    let highest = count.min(MAX_RESERVED).saturating_sub(1);
    // The table does not shrink when this descriptor is closed again. If this fails, the broker still works; the table then
    // grows when needed.
    if let Ok(highest) = i32::try_from(highest) {
        let _ = fcntl_dupfd_cloexec(io::stderr(), highest);
    }
}
