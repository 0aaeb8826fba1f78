//! Why a tool could not do what it was asked for.

use std::fmt;
use std::io;

use super::super::error::{BadName, Cause, OpenError};
use super::super::location::DataDir;
use crate::util::json::TooDeep;

/// Why a store could not be checked, written out or read back.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError {
    /// It can't be opened, or what is in it not be read.
    Open(OpenError),
    /// The output can't be written.
    Write(io::Error),
    /// The input can't be read.
    Read(io::Error),
    /// What is in this line of the input.
    Line(u64, BadLine),
}

/// Why a line can't be loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum BadLine {
    /// Longer than this many bytes.
    Long(u64),
    /// Not the JSON that a dump has.
    Json(serde_json::Error),
    /// Its id is no number that can be one.
    Id(String),
    /// Its id is more than a day ahead of the clock.
    Future(u64),
    /// Its data is nested too deep.
    Deep(TooDeep),
    /// Its id is not larger than this one.
    Order(u64, u64),
    /// No name for a record.
    Name(BadName),
}

impl ToolError {
    pub(super) fn of(home: &DataDir) -> impl Fn(rusqlite::Error) -> Self + '_ {
        |error| Self::Open(home.error(Cause::from(error)))
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
