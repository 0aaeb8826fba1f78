//! Reads back what a dump wrote, under the ids that it had.

use std::borrow::Cow;
use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::checkpointer;
use super::super::commit::{self, Names};
use super::super::files::Actor;
use super::super::index::Index;
use super::super::location::DataDir;
use super::super::opening::{self, Found};
use super::super::schema::{self, CEILING};
use super::super::{Record, Tuning, check_name};
use super::ToolError;
use super::error::BadLine;
use crate::clock::Clock;
use crate::engine::HighWaterMark;
use crate::util::json;

/// No line is longer than so many bytes.
const MAX_LINE: u64 = 64 << 20;
/// So many records are one transaction,
const BATCH: usize = 4096;
/// unless they have so many bytes.
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
    connection: Connection,
    names: Names,
    index: Index,
    mark: HighWaterMark,
    newest: u64,
    tuning: Tuning,
    clock: Clock,
    batch: Vec<Record>,
    batch_bytes: usize,
}

/// Adds the records to a directory, which is made if it is missing, and tells how many. All ids must be larger than what is
/// there, and ascend. After a bad line those before
/// it are stored.
pub fn load(directory: &Path, input: &mut dyn BufRead) -> Result<u64, ToolError> {
    let home = DataDir::create(directory, Actor::Tool)?;
    let opened = opening::writer(&home).and_then(|writer| Ok((opening::find(&writer)?, writer)));
    let (found, connection) = opened.map_err(|cause| home.error(cause))?;
    let mut loader = Loader::new(connection, found);
    let read = loader.read(&home, input);
    let finished = loader.finish().map_err(ToolError::of(&home));
    let count = read?;
    finished?;
    Ok(count)
}

/// Digits as a dump has them.
fn parse_id(text: &str) -> Option<u64> {
    text.parse().ok().filter(|id: &u64| (1..=i64::MAX as u64).contains(id) && id.to_string() == text)
}

impl Loader {
    fn new(connection: Connection, found: Found) -> Self {
        let newest = found.latest.last().map_or(0, |record| record.id);
        Self {
            connection,
            names: found.names,
            index: Index::new(found.unindexed),
            mark: found.mark,
            newest,
            tuning: Tuning::default(),
            clock: Clock::new(),
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    fn read(&mut self, home: &DataDir, input: &mut dyn BufRead) -> Result<u64, ToolError> {
        let (mut line, mut number, mut count) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            number += 1;
            if input.take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(ToolError::Read)? == 0 {
                return Ok(count);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.add(&line).map_err(|error| ToolError::Line(number, error))?;
            count += 1;
            if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
                self.commit().map_err(ToolError::of(home))?;
            }
        }
    }

    fn add(&mut self, line: &[u8]) -> Result<(), BadLine> {
        if line.len() as u64 > MAX_LINE {
            return Err(BadLine::Long(MAX_LINE));
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(BadLine::Json)?;
        let id = parse_id(&line.id).ok_or_else(|| BadLine::Id(line.id.chars().take(32).collect()))?;
        if id > self.clock.now().id_micros + MAX_LOADED_LEAD {
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

    /// Index and log follow as they do in a running store.
    fn commit(&mut self) -> rusqlite::Result<()> {
        self.batch_bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        let versions = commit::commit(&mut self.connection, &mut self.names, &mut batch, None)?;
        self.index.add(&versions);
        if self.index.waiting() >= self.tuning.unindexed {
            self.index.complete(&mut self.connection, &self.clock)?;
        }
        if checkpointer::look(&self.connection)?.rest() > self.tuning.log_growth {
            checkpointer::advance(&self.connection)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> rusqlite::Result<()> {
        self.commit()?;
        self.index.complete(&mut self.connection, &self.clock)?;
        if let Some(exact) = self.mark.final_value(self.newest) {
            schema::set_meta(&self.connection, CEILING, schema::to_sql(exact))?;
        }
        checkpointer::empty(&self.connection).map(drop)
    }
}
