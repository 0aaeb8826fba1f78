//! What every place that keeps records has in common: a record, the rule for its name, and a page of its history. Independent
//! of where records are kept: [`crate::store`] keeps them on a disk, [`crate::engine`] in the log that several brokers share.
//!
//! ```text
//! insert     a request to insert a record, and what became of it
//! page       builds a page from the versions that were read
//! progress   how far a command is
//! retention  which versions are kept
//! schedule   whose page is read next
//! transfer   records as lines of JSON: exported and imported
//! report     what a check has found
//! ```

pub mod insert;
pub(crate) mod page;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the binary has commands for it"))]
pub(crate) mod progress;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the binary has commands for it"))]
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod schedule;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the binary has commands for it"))]
pub(crate) mod transfer;

use std::fmt;
use std::sync::Arc;

/// The longest name of a record, in bytes.
pub const MAX_NAME: usize = 256;

/// A stored event. Records are never changed or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The record's position in the order of all events.
    pub id: u64,
    /// The name that this record is a version of.
    pub name: Arc<str>,
    /// JSON text, stored as is.
    pub data: Box<str>,
}

#[cfg(any(test, feature = "internals"))]
impl Record {
    /// Creates a record that is shared.
    pub fn shared(name: impl Into<Arc<str>>, data: impl Into<Box<str>>, id: u64) -> Arc<Self> {
        Arc::new(Self { id, name: name.into(), data: data.into() })
    }
}

/// A record that has no id yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The name that this record is a version of.
    pub name: Arc<str>,
    /// JSON text, stored as is.
    pub data: Box<str>,
}

/// What a record counts in a queue in addition to its name and data, in bytes.
const OVERHEAD: usize = 128;

impl NewRecord {
    /// Returns about how many bytes of memory it takes.
    pub fn cost(&self) -> usize {
        self.name.len() + self.data.len() + OVERHEAD
    }
}

/// Versions of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `{"name_v_id":data,…}`, oldest first.
    pub body: String,
    /// The last id on the page, if more versions follow.
    pub next: Option<u64>,
}

/// Which versions to read.
#[derive(Clone, Debug)]
pub struct PageQuery {
    /// The record's name.
    pub name: Arc<str>,
    /// Only versions after this id.
    pub after: u64,
    /// The maximum number of versions.
    pub limit: usize,
}

/// Why a name is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// It is empty.
    Empty,
    /// It has this many bytes, more than [`MAX_NAME`].
    Long(usize),
    /// It contains a control character.
    Control,
}

/// Checks the name of a record: 1 to [`MAX_NAME`] bytes, no control characters.
pub fn check_name(name: &str) -> Result<(), BadName> {
    match name {
        "" => Err(BadName::Empty),
        _ if name.len() > MAX_NAME => Err(BadName::Long(name.len())),
        _ if name.chars().any(char::is_control) => Err(BadName::Control),
        _ => Ok(()),
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty; use 1 to 256 bytes"),
            Self::Long(len) => write!(f, "the name has {len} bytes; use at most {MAX_NAME}"),
            Self::Control => f.write_str("the name has a control character; remove it"),
        }
    }
}

impl std::error::Error for BadName {}
