//! Loads a dump. Records keep their ids.

use std::borrow::Cow;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{BadLine, ToolError};
use crate::clock::Clock;
use crate::ids::HighWaterMark;
use crate::records::{Record, check_name};
use crate::store::checkpointer;
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;
use crate::store::opening;
use crate::store::tables::Tables;
use crate::store::tables::recovery::{Recovered, recover};
use crate::store::tuning::Tuning;
use crate::util::json;

/// The maximum bytes of a line.
const MAX_LINE: u64 = 64 << 20;
/// A transaction has this many records,
const BATCH: usize = 4096;
/// or fewer if their data reaches this many bytes.
const BATCH_BYTES: usize = 8 << 20;

/// An id that is loaded may be this many microseconds ahead of the clock: a day. All ids assigned later are larger still.
const MAX_LOADED_LEAD: u64 = 86_400_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

struct Loader {
    tables: Tables,
    mark: HighWaterMark,
    newest: u64,
    tuning: Tuning,
    batch: Vec<Record>,
    batch_bytes: usize,
}

/// Adds records to a directory, which is created if it is missing, and returns their number. Their ids must ascend and be
/// larger than all ids in the store. When a line is bad, the records before it are stored.
pub fn load(directory: &Path, input: &mut dyn BufRead) -> Result<u64, ToolError> {
    let data_dir = DataDir::create(directory, Actor::Tool)?;
    let opened = opening::connect_writer(&data_dir).and_then(|writer| Ok((recover(&writer)?, writer)));
    let (recovered, connection) = opened.map_err(|cause| data_dir.error(cause))?;
    let mut loader = Loader::new(connection, recovered);
    let read = loader.read(&data_dir, input);
    let finished = loader.finish().map_err(ToolError::in_directory(&data_dir));
    let count = read?;
    finished?;
    Ok(count)
}

/// Parses an id, which must be written exactly as in a dump.
fn parse_id(text: &str) -> Option<u64> {
    text.parse().ok().filter(|id: &u64| (1..=i64::MAX as u64).contains(id) && id.to_string() == text)
}

impl Loader {
    fn new(connection: Connection, recovered: Recovered) -> Self {
        let newest = recovered.latest.last().map_or(0, |record| record.id);
        Self {
            tables: Tables::new(connection, recovered.names, recovered.unindexed, Clock::new()),
            mark: recovered.mark,
            newest,
            tuning: Tuning::default(),
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    fn read(&mut self, data_dir: &DataDir, input: &mut dyn BufRead) -> Result<u64, ToolError> {
        let (mut line, mut line_number, mut count) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            line_number += 1;
            if input.take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(ToolError::Read)? == 0 {
                return Ok(count);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.add(&line).map_err(|error| ToolError::Line(line_number, error))?;
            count += 1;
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.commit().map_err(ToolError::in_directory(data_dir))?;
            }
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), BadLine> {
        if line.len() as u64 > MAX_LINE {
            return Err(BadLine::Long(MAX_LINE));
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(BadLine::Json)?;
        let id = parse_id(&line.id).ok_or_else(|| BadLine::Id(line.id.chars().take(32).collect()))?;
        if id > self.tables.clock().now().id_micros + MAX_LOADED_LEAD {
            return Err(BadLine::Future(id));
        }
        if id <= self.newest {
            return Err(BadLine::Order(id, self.newest));
        }
        check_name(&line.event).map_err(BadLine::Name)?;
        let data = json::compact(line.data.get()).map_err(BadLine::Deep)?;
        self.newest = id;
        self.batch_bytes += data.len();
        self.batch.push(Record { id, name: Arc::from(&*line.event), data });
        Ok(())
    }

    /// Stores the batch; maintains index and WAL as a running store does.
    fn commit(&mut self) -> rusqlite::Result<()> {
        self.batch_bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        self.tables.commit(&mut batch, None)?;
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
