//! Records as lines of JSON, which a dump consists of: `{"id":"…","event":"…","data":…}`, ascending by id. Independent of where
//! the records come from and where they go.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, Read as _, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::progress::Progress;
use super::{BadName, Record, check_name};
use crate::util::json::{self, TooDeep};

/// The maximum bytes of a line.
const MAX_LINE: u64 = 64 << 20;

/// The members of a line before its data.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    event: &'a str,
}

/// The members of a line.
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

/// Writes a record as a line, with the data as stored.
pub fn write_line(id: impl fmt::Display, name: &str, data: &str, output: &mut dyn Write) -> Result<(), ToolError> {
    // Serializing strings can't fail.
    let head = serde_json::to_string(&Head { id: id.to_string(), event: name }).unwrap_or_default();
    let line = format!("{},\"data\":{data}}}\n", head.trim_end_matches('}'));
    output.write_all(line.as_bytes()).map_err(ToolError::Write)
}

/// Which ids may be read.
#[derive(Clone, Copy, Debug)]
pub struct IdBounds {
    /// The newest id that there is already. All others are larger.
    pub newest: u64,
    /// The largest id.
    pub latest: u64,
    /// What an id that is larger is ahead of.
    pub ahead_of: &'static str,
}

/// Reads lines, and checks that each is a record that can be stored, and that their ids ascend.
pub struct LineReader<'a> {
    input: &'a mut dyn BufRead,
    progress: &'a dyn Progress,
    bounds: IdBounds,
    line: Vec<u8>,
    number: u64,
}

impl<'a> LineReader<'a> {
    /// Creates a reader of lines whose ids are within these bounds.
    pub fn new(input: &'a mut dyn BufRead, progress: &'a dyn Progress, bounds: IdBounds) -> Self {
        Self { input, progress, bounds, line: Vec::new(), number: 0 }
    }

    /// Returns the next record, or `None` at the end of the input.
    pub fn read(&mut self) -> Result<Option<Record>, ToolError> {
        loop {
            self.line.clear();
            self.number += 1;
            let mut limited = (&mut *self.input).take(MAX_LINE + 1);
            if limited.read_until(b'\n', &mut self.line).map_err(ToolError::Read)? == 0 {
                return Ok(None);
            }
            self.progress.read_line(self.line.len() as u64);
            if !self.line.trim_ascii().is_empty() {
                let record = parse(&self.line, &self.bounds).map_err(|error| ToolError::Line(self.number, error))?;
                self.bounds.newest = record.id;
                return Ok(Some(record));
            }
        }
    }
}

/// Parses a line. Its id must be within these bounds.
fn parse(line: &[u8], bounds: &IdBounds) -> Result<Record, BadLine> {
    if line.len() as u64 > MAX_LINE {
        return Err(BadLine::Long(MAX_LINE));
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(BadLine::Json)?;
    let id = parse_id(&line.id).ok_or_else(|| BadLine::Id(line.id.chars().take(32).collect()))?;
    if id > bounds.latest {
        return Err(BadLine::Future(id, bounds.ahead_of));
    }
    if id <= bounds.newest {
        return Err(BadLine::Order(id, bounds.newest));
    }
    check_name(&line.event).map_err(BadLine::Name)?;
    let data = json::compact(line.data.get()).map_err(BadLine::Deep)?;
    Ok(Record { id, name: Arc::from(&*line.event), data })
}

/// Parses an id, which must be written exactly as in a dump.
fn parse_id(text: &str) -> Option<u64> {
    text.parse().ok().filter(|id: &u64| (1..=i64::MAX as u64).contains(id) && id.to_string() == text)
}

/// Why records can't be exported, imported or checked.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError {
    /// What keeps the records can't be opened, read or written.
    Keeper(Box<dyn Error + Send + Sync>),
    /// The output can't be written.
    Write(io::Error),
    /// The input can't be read.
    Read(io::Error),
    /// This line of the input can't be loaded.
    Line(u64, BadLine),
}

/// Why a line can't be loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum BadLine {
    /// It is longer than this many bytes.
    Long(u64),
    /// It is not the JSON that a dump consists of.
    Json(serde_json::Error),
    /// Its id is not a valid number.
    Id(String),
    /// Its id is too far ahead of a clock, as the text says.
    Future(u64, &'static str),
    /// Its data is nested too deeply.
    Deep(TooDeep),
    /// Its id (the first number) is not larger than the newest one (the second).
    Order(u64, u64),
    /// Its name is not valid for a record.
    Name(BadName),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keeper(error) => error.fmt(f),
            Self::Write(error) => write!(f, "the output can't be written: {error}"),
            Self::Read(error) => write!(f, "the input can't be read: {error}"),
            Self::Line(line, error) => write!(f, "line {line}: {error}"),
        }
    }
}

impl Error for ToolError {}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(most) => write!(f, "the line is longer than {most} bytes"),
            Self::Json(error) => write!(f, "this is not a line written by esker dump: {error}"),
            Self::Id(id) => write!(f, "{id:?} is not an id; use a number from 1 to {}", i64::MAX),
            Self::Future(id, ahead_of) => write!(f, "id {id} is more than {ahead_of}; set the clock"),
            Self::Deep(error) => error.fmt(f),
            Self::Order(id, newest) => {
                write!(
                    f,
                    "id {id} is not larger than the newest id, {newest}; load lines in ascending order of their ids, into a target without newer records"
                )
            }
            Self::Name(error) => error.fmt(f),
        }
    }
}
