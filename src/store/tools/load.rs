//! Loads a dump. Records keep their ids.

use std::io::BufRead;
use std::path::Path;

use rusqlite::Connection;

use super::error::in_directory;
use crate::clock::Clock;
use crate::ids::HighWaterMark;
use crate::records::Record;
use crate::records::progress::{Amount, Progress};
use crate::records::transfer::{IdBounds, LineReader, ToolError};
use crate::store::checkpointer;
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;
use crate::store::opening;
use crate::store::tables::Tables;
use crate::store::tables::recovery::{Recovered, recover};
use crate::store::tuning::Tuning;

/// A transaction has this many records,
const BATCH: usize = 4096;
/// or fewer if their data reaches this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// An id that is loaded may be this many microseconds ahead of the clock: a day. All ids assigned later are larger still.
const MAX_LOADED_LEAD: u64 = 86_400_000_000;

struct Loader {
    tables: Tables,
    mark: HighWaterMark,
    /// The newest id so far, of a record or of an erasure.
    newest: u64,
    tuning: Tuning,
    batch: Vec<Record>,
    batch_bytes: usize,
}

/// Adds records to a directory, which is created if it is missing, and returns their number. Their ids must ascend and be
/// larger than all ids in the store. When a line is bad, the records before it are stored.
pub fn load(directory: &Path, input: &mut dyn BufRead, progress: &dyn Progress) -> Result<u64, ToolError> {
    progress.begin("opening the store", Amount::Unknown);
    let data_dir = DataDir::create(directory, Actor::Tool)?;
    let opened = opening::connect_writer(&data_dir).and_then(|writer| Ok((recover(&writer)?, writer)));
    let (recovered, connection) = opened.map_err(|cause| data_dir.error(cause))?;
    let mut loader = Loader::new(connection, recovered);
    progress.begin("importing records", Amount::Input);
    let read = loader.read(&data_dir, input, progress);
    progress.begin("completing the index", Amount::Unknown);
    let finished = loader.finish().map_err(in_directory(&data_dir));
    let count = read?;
    finished?;
    Ok(count)
}

impl Loader {
    fn new(connection: Connection, recovered: Recovered) -> Self {
        Self {
            newest: recovered.newest(),
            tables: Tables::new(connection, recovered.names, recovered.unindexed, Clock::new()),
            mark: recovered.mark,
            tuning: Tuning::default(),
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    fn read(&mut self, data_dir: &DataDir, input: &mut dyn BufRead, progress: &dyn Progress) -> Result<u64, ToolError> {
        let latest = self.tables.clock().now().id_micros + MAX_LOADED_LEAD;
        let bounds = IdBounds { newest: self.newest, latest, ahead_of: "a day ahead of this machine's clock" };
        let (mut lines, mut count) = (LineReader::new(input, progress, bounds), 0);
        while let Some(record) = lines.read()? {
            self.newest = record.id;
            self.batch_bytes += record.data.len();
            self.batch.push(record);
            count += 1;
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.commit().map_err(in_directory(data_dir))?;
            }
        }
        Ok(count)
    }

    /// Stores the batch; maintains index and WAL as a running store does.
    fn commit(&mut self) -> rusqlite::Result<()> {
        self.batch_bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        self.tables.commit(&mut batch, &[], None)?;
        if self.tables.pending() >= self.tuning.max_unindexed {
            self.tables.index_all()?;
        }
        if checkpointer::wal_status(self.tables.connection())?.remaining() > self.tuning.wal_growth {
            checkpointer::checkpoint_passive(self.tables.connection())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> rusqlite::Result<()> {
        self.commit()?;
        self.tables.index_all()?;
        if let Some(exact) = self.mark.final_value(self.newest) {
            self.tables.set_ceiling(exact)?;
        }
        checkpointer::checkpoint_truncate(self.tables.connection()).map(drop)
    }
}
