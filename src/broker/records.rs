//! Opens the records at the start, and waits while another program holds their database, or a copy is checked.

use std::time::{Duration, Instant};

use super::{StartError, systemd};
use crate::store::{Location, Opening, StartWait, Store};

/// How often the service manager is notified that the start goes on.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the records, if there are any. While another program holds the database, waits for `limit`, or without a limit, and
/// notifies the service manager of it. A copy is checked, however long that takes. Gives up if `is_stopped` says so.
pub(super) fn open(
    location: Option<&Location>,
    limit: Option<Duration>,
    is_stopped: &mut dyn FnMut() -> bool,
) -> Result<Option<Opening>, StartError> {
    let Some(location) = location else { return Ok(None) };
    let (begin, mut notified_at, mut has_stopped) = (Instant::now(), None, false);
    let opened = Store::open_waiting(location, &mut |wait| {
        has_stopped = is_stopped();
        if limit.is_none() && notified_at.is_none_or(|last: Instant| last.elapsed() >= NOTIFY_INTERVAL) {
            notified_at = Some(Instant::now());
            systemd::notify_waiting(match wait {
                StartWait::Lock => "waiting for another program to release the database",
                StartWait::Check => "checking the database, which is a copy",
            });
        }
        let may_last = wait == StartWait::Check || limit.is_none_or(|limit| begin.elapsed() < limit);
        !has_stopped && may_last
    });
    match opened {
        Err(error) if has_stopped && (error.is_lock() || error.is_interruption()) => Err(StartError::Stopped),
        opened => Ok(Some(opened?)),
    }
}

#[cfg(all(test, feature = "records"))]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_only_as_long_as_it_may() {
        let directory = std::env::temp_dir().join(format!("esker-start-{}", std::process::id()));
        let location = Location::Directory(directory.clone());
        let start = |limit, is_stopped| open(Some(&location), limit, &mut || is_stopped);
        assert!(start(None, false).is_ok_and(|opening| opening.is_some()));
        let other = rusqlite::Connection::open(directory.join("records.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(start(Some(Duration::ZERO), false), Err(StartError::Store(error)) if error.is_lock()));
        assert!(matches!(start(None, true), Err(StartError::Stopped)));
        drop(other);
        assert!(start(Some(Duration::ZERO), false).is_ok());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
