//! A store without threads: whoever has its hands does their work, a step at a time, so that a simulation is repeatable.
//! Refuses to know what the work is.

use std::time::Duration;

use super::Store;
use super::history_reader::Reader;
use super::location::DataDir;
use super::lookup::Finder;
use super::writer::Writer;

/// See the module's page. Dropped without [`ManualStore::close`], it leaves the files as a killed process does.
pub struct ManualStore {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) finder: Finder,
    pub(super) home: DataDir,
}

impl ManualStore {
    /// Commits what waits, reads a slice of one history, answers one lookup, and looks after index, mark and log.
    pub fn turn(&mut self) {
        // The last turn is that of closing.
        let _ = self.writer.turn(Duration::ZERO);
        self.reader.turn();
        self.finder.turn();
    }

    /// What [`Store::close`] has the threads do.
    pub fn close(self, store: &Store) {
        let Self { mut writer, reader, finder, home } = self;
        store.shut();
        while writer.turn(Duration::ZERO).is_continue() {}
        writer.seal();
        reader.run();
        finder.run();
        drop(home);
    }
}
