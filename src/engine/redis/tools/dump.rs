//! Writes records as lines of JSON, oldest first. Brokers may be running; what they store meanwhile is left out.

use std::io::Write;

use super::{connect, count, extent};
use crate::engine::EngineSettings;
use crate::engine::log::ReadRecords as _;
use crate::engine::redis::log::ServerLog;
use crate::records::check_name;
use crate::records::progress::{Amount, Progress};
use crate::records::transfer::{ToolError, write_line};

/// The most versions that are read at once.
const PAGE: usize = 256;

/// Writes all records of an engine, or those of one name, and returns their number.
pub fn dump(
    settings: &EngineSettings,
    name: Option<&str>,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let mut log = connect(settings)?;
    let newest = extent(&mut log)?.newest_record;
    let total = if name.is_none() { Some(count(&mut log)?) } else { None };
    progress.begin("exporting records", Amount::Records(total));
    let count = match name {
        None => dump_all(&mut log, newest, output, progress)?,
        // There are no records of a name that is not valid.
        Some(name) if check_name(name).is_err() => 0,
        Some(name) => dump_versions(&mut log, name, newest, output, progress)?,
    };
    output.flush().map_err(ToolError::Write)?;
    Ok(count)
}

fn dump_all(
    log: &mut ServerLog,
    newest: u64,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let (mut next, mut count) = (1, 0);
    while next <= newest {
        let page = log.records(next, newest)?;
        let Some(last) = page.last() else { break };
        next = last.id + 1;
        for record in page {
            write_line(record.id, &record.name, &record.data, output)?;
            count += 1;
            progress.advance(1);
        }
    }
    Ok(count)
}

fn dump_versions(
    log: &mut ServerLog,
    name: &str,
    newest: u64,
    output: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let (mut after, mut count) = (0, 0);
    loop {
        let page = log.versions(name, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(count) };
        after = last.id;
        for version in page.iter().take_while(|version| version.id <= newest) {
            write_line(version.id, name, &version.data, output)?;
            count += 1;
            progress.advance(1);
        }
        if after >= newest {
            return Ok(count);
        }
    }
}
