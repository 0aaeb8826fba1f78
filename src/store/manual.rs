//! A store without threads: its owner runs it step by step, so that a simulation is repeatable.

#[cfg(feature = "internals")]
use std::time::Duration;

#[cfg(feature = "internals")]
use super::Store;
use super::disk::location::DataDir;
use super::read::history::HistoryReader;
use super::read::lookup::LookupReader;
use super::writer::Writer;

/// What the threads of a [`Store`] would do, to be run step by step. Dropping it without [`ManualStore::close`] leaves the
/// files as a killed process does.
pub struct ManualStore {
    pub(super) writer: Writer,
    pub(super) history: HistoryReader,
    pub(super) lookup: LookupReader,
    pub(super) data_dir: DataDir,
}

#[cfg(feature = "internals")]
impl ManualStore {
    /// Commits all queued inserts, maintains index, high-water mark and WAL, reads one slice of one history, and runs one
    /// lookup.
    pub fn step(&mut self) {
        // Only `close` runs the last iteration.
        let _ = self.writer.step(Duration::ZERO);
        self.history.step();
        self.lookup.step();
    }

    /// Does what the threads do when [`Store::close`] is called. Returns the high-water mark that is then in the database;
    /// `None` if it is unknown.
    pub fn close(self, store: &Store) -> Option<u64> {
        let Self { mut writer, history, lookup, data_dir } = self;
        store.begin_close();
        while writer.step(Duration::ZERO).is_continue() {}
        let mark = writer.finish();
        history.run();
        lookup.run();
        drop(data_dir);
        mark
    }
}
