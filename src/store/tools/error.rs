//! The store's errors as errors of a tool.

use crate::records::transfer::ToolError;
use crate::store::disk::location::DataDir;
use crate::store::error::{Cause, OpenError};

/// Returns a function that turns an error of SQLite's into a tool's error about this directory.
pub(super) fn in_directory(data_dir: &DataDir) -> impl Fn(rusqlite::Error) -> ToolError + '_ {
    |error| data_dir.error(Cause::from(error)).into()
}

impl From<OpenError> for ToolError {
    fn from(error: OpenError) -> Self {
        Self::Keeper(Box::new(error))
    }
}
