//! The history of topics across a restart: a broker that stops cleanly saves it to a file in its data directory, and the next
//! one continues from it.

use std::io::{self, ErrorKind, Write};

use crate::clock::Clock;
use crate::hub::{Hub, Snapshot, SnapshotCounts, SnapshotError};
use crate::store::{Opening, Store};

/// What a restart without the history means.
const CONSEQUENCE: &str = "subscribers that resume from an earlier position get a gap";

/// Continues from the history that the last run has saved in the data directory, if it stopped cleanly. The file is removed in any
/// case.
pub(super) fn restore(records: &Opening, hub: &Hub, clock: &Clock) {
    let begin = clock.elapsed_micros();
    let (mut file, len) = match records.take_history() {
        Ok(None) => return,
        Ok(Some(found)) => found,
        Err(error) => return log_discarded(&SnapshotError::Io(error)),
    };
    match Snapshot::read(&mut file, len, records.ids_through) {
        Ok(snapshot) => {
            let counts = hub.restore(snapshot, clock.now().id_micros);
            log::info!("the history was restored: {}", describe(counts, len, clock.elapsed_micros() - begin));
        }
        Err(error) => log_discarded(&error),
    }
}

fn log_discarded(why: &SnapshotError) {
    log::warn!("discarding the saved history: {why}; {CONSEQUENCE}");
}

/// Closes the store, and saves the history in its data directory. `until` is when it must be done, in the clock's milliseconds.
pub(super) fn close_store(store: &Store, hub: &Hub, clock: &Clock, until: u64) {
    let begin = clock.elapsed_micros();
    let mut counts = SnapshotCounts::default();
    let is_late = || clock.now().millis > until;
    let saved = store.close_with_history(
        &mut |mark, output| {
            let Some(snapshot) = hub.snapshot() else { return Ok(()) };
            counts = snapshot.counts();
            snapshot.write(mark, &mut Timed { output, is_late: &is_late })
        },
        &is_late,
    );
    match saved {
        Ok(None) => {}
        Ok(Some(len)) => {
            log::info!("the history was saved: {}", describe(counts, len, clock.elapsed_micros() - begin));
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => log_not_saved(&"there was not enough time"),
        Err(error) => log_not_saved(&error),
    }
}

/// Logs that the next start has no history.
pub(super) fn log_not_saved(why: &dyn std::fmt::Display) {
    log::warn!("the history was not saved: {why}; after the next start, {CONSEQUENCE}");
}

fn describe(counts: SnapshotCounts, bytes: u64, micros: u64) -> String {
    let SnapshotCounts { events, topics } = counts;
    format!("{events} events of {topics} topics, {bytes} bytes, in {} ms", micros / 1000)
}

/// Fails when there is no time left.
struct Timed<'a> {
    output: &'a mut dyn Write,
    is_late: &'a dyn Fn() -> bool,
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_late)() { Err(ErrorKind::TimedOut.into()) } else { self.output.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
