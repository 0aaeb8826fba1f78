//! The commands on an engine: export, import, check and erase records, show the state, and raise the format of the log.

mod check;
mod dump;
mod erase;
mod load;
mod raise;
mod sessions;
mod status;

pub use check::check;
pub use dump::dump;
pub use erase::erase;
pub use load::load;
pub use raise::raise;
pub use status::status;

use super::log::ServerLog;
use super::scripts::BEGIN;
use super::{Server, value};
use crate::engine::log::{Connect as _, LogError};
use crate::engine::{COMMAND_TIMEOUT, EngineSettings};
use crate::records::transfer::ToolError;

impl From<LogError> for ToolError {
    fn from(error: LogError) -> Self {
        Self::Keeper(Box::new(error))
    }
}

/// Returns an error that says only this.
fn refused(why: impl Into<String>) -> ToolError {
    let why: String = why.into();
    ToolError::Keeper(why.into())
}

/// Connects as a broker does, so that a server that no broker can use is refused.
fn connect(settings: &EngineSettings) -> Result<ServerLog, ToolError> {
    let mut log = Server::new(settings.clone()).connect()?;
    log.wire.set_limit(COMMAND_TIMEOUT)?;
    Ok(log)
}

/// The log at one moment.
struct Extent {
    /// The newest id that was given.
    last: u64,
    /// The id of the newest entry.
    entry: u64,
    /// The newest entry that the log has.
    newest_entry: u64,
    /// The id of the newest record; 0 if there is none.
    newest_record: u64,
    /// The bytes of memory that records take.
    record_bytes: u64,
    /// How many records were ever removed.
    removed: u64,
}

/// Finds out how far the log and its records go. Fails if there is no log.
fn extent(log: &mut ServerLog) -> Result<Extent, ToolError> {
    let keys = &log.keys;
    let command = BEGIN.command(&[&keys.log, &keys.meta, &keys.records]);
    let answer = BEGIN.run(&mut log.wire, &command)?;
    let numbers = value::texts::<6>(answer).and_then(|texts| {
        let numbers: Option<Vec<u64>> = texts.iter().map(|text| text.parse().ok()).collect();
        <[u64; 6]>::try_from(numbers?).ok()
    });
    let numbers = numbers.ok_or_else(|| value::malformed("the extent of the log"))?;
    let [last, entry, newest_entry, newest_record, record_bytes, removed] = numbers;
    if last == 0 && newest_entry == 0 && newest_record == 0 {
        return Err(no_log(log));
    }
    Ok(Extent { last, entry, newest_entry, newest_record, record_bytes, removed })
}

/// Returns how many records there are.
fn count(log: &mut ServerLog) -> Result<u64, LogError> {
    let answer = log.wire.call(redis::cmd("XLEN").arg(&log.keys.records))?;
    value::integer(&answer)
        .and_then(|count| count.try_into().ok())
        .ok_or_else(|| value::malformed("the number of records"))
}

fn no_log(log: &ServerLog) -> ToolError {
    refused(format!("the engine has no log at {}; is the --engine-prefix right?", log.keys.log))
}
