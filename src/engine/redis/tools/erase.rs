//! Erases versions of a record, and their text from the engine's memory. Brokers may be running; they tell their streams.

use super::connect;
use crate::engine::EngineSettings;
use crate::engine::log::{Compacted, Erase, Hello, Log as _, RemoveRecords as _};
use crate::engine::redis::log::ServerLog;
use crate::records::check_name;
use crate::records::progress::{Amount, Progress};
use crate::records::transfer::ToolError;

/// Erases the versions of a name with ids before one, or all, and returns their number.
pub fn erase(
    settings: &EngineSettings,
    name: &str,
    before: Option<u64>,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let mut log = connect(settings)?;
    progress.begin("erasing versions", Amount::Records(None));
    // There are no records of a name that is not valid.
    if check_name(name).is_err() {
        return Ok(0);
    }
    let hello = Hello { broker: fastrand::u64(..), session: fastrand::u64(..) };
    log.hello(hello)?;
    let erased = erase_all(&mut log, hello, name, before, progress);
    let erased = erased.and_then(|versions| compact(&mut log, hello, progress).map(|()| versions));
    log.end_session(hello.broker)?;
    erased
}

fn erase_all(
    log: &mut ServerLog,
    hello: Hello,
    name: &str,
    before: Option<u64>,
    progress: &dyn Progress,
) -> Result<u64, ToolError> {
    let (mut before, mut versions) = (before, 0);
    for batch in 1.. {
        let erased = log.erase(&Erase { hello, batch, floor: 0, name, before })?;
        versions += erased.versions;
        progress.advance(erased.versions);
        match erased.rest {
            Some(rest) => before = Some(rest),
            None => break,
        }
    }
    Ok(versions)
}

/// Also completes what brokers have begun.
fn compact(log: &mut ServerLog, hello: Hello, progress: &dyn Progress) -> Result<(), ToolError> {
    progress.begin("removing their text from the engine's memory", Amount::Unknown);
    while log.compact(hello)? == Compacted::Partly {}
    Ok(())
}
