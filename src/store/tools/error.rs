//! The tools' errors.

use std::fmt;
use std::io;

use crate::records::BadName;
use crate::store::disk::location::DataDir;
use crate::store::error::{Cause, OpenError};
use crate::util::json::TooDeep;

/// Why a tool failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError {
    /// The store can't be opened or read.
    Open(OpenError),
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
    /// Its id is more than a day ahead of the clock.
    Future(u64),
    /// Its data is nested too deeply.
    Deep(TooDeep),
    /// Its id (the first number) is not larger than the newest one (the second).
    Order(u64, u64),
    /// Its name is not valid for a record.
    Name(BadName),
}

impl ToolError {
    /// Returns a function that turns an error of SQLite's into a tool's error about this directory.
    pub(super) fn in_directory(data_dir: &DataDir) -> impl Fn(rusqlite::Error) -> Self + '_ {
        |error| Self::Open(data_dir.error(Cause::from(error)))
    }
}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Write(error) => write!(f, "the output can't be written: {error}"),
            Self::Read(error) => write!(f, "the input can't be read: {error}"),
            Self::Line(line, error) => write!(f, "line {line}: {error}"),
        }
    }
}

impl std::error::Error for ToolError {}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(most) => write!(f, "the line is longer than {most} bytes"),
            Self::Json(error) => write!(f, "this is not a line written by esker dump: {error}"),
            Self::Id(id) => write!(f, "{id:?} is not an id; use a number from 1 to {}", i64::MAX),
            Self::Future(id) => write!(f, "id {id} is more than a day ahead of this machine's clock; set the clock"),
            Self::Deep(error) => error.fmt(f),
            Self::Order(id, newest) => {
                write!(f, "id {id} is not larger than the newest id, {newest}; load records in order, each once")
            }
            Self::Name(error) => error.fmt(f),
        }
    }
}
