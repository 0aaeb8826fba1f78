//! Raises the format of the log to the newest one, once all brokers can read it.

use redis::Value;

use super::sessions::sessions;
use super::{connect, no_log, refused};
use crate::engine::log::LogError;
use crate::engine::redis::log::ServerLog;
use crate::engine::redis::scripts::RAISE;
use crate::engine::redis::{BROKER_TTL, Keys, SESSION_TTL, value};
use crate::engine::{EngineSettings, FORMAT};
use crate::records::transfer::ToolError;

/// Raises the format. Refuses if brokers can't read it, unless it is forced. Returns what it did.
pub fn raise(settings: &EngineSettings, is_forced: bool) -> Result<String, ToolError> {
    let mut log = connect(settings)?;
    let (before, brokers) = match run_script(&mut log, is_forced) {
        Ok(answer) => answer,
        Err(LogError::Refused(_, why)) if why.contains("does not exist") => return Err(no_log(&log)),
        Err(error) => return Err(error.into()),
    };
    match (before >= FORMAT, brokers.is_empty()) {
        (true, _) => Ok(format!("the log's format is already {before}\n")),
        (false, true) => Ok(format!("raised the log's format from {before} to {FORMAT}\n")),
        (false, false) if is_forced => Ok(format!(
            "raised the log's format from {before} to {FORMAT}; these brokers can't read it, and stop following the log at \
             the first entry or removal that needs it:\n{}",
            lines(&brokers)
        )),
        (false, false) => Err(refused(format!(
            "the log's format is still {before}, because these brokers can't read format {FORMAT}; upgrade or stop them \
             first, or use --force:\n{}A broker counts for 10 s after it has ended",
            lines(&brokers)
        ))),
    }
}

fn run_script(log: &mut ServerLog, is_forced: bool) -> Result<(u32, Vec<(String, String)>), LogError> {
    let found = sessions(&mut log.wire, &log.keys)?;
    let Keys { meta, brokers, session, .. } = &log.keys;
    let keys: Vec<&str> = [meta, brokers].into_iter().chain(&found).map(String::as_str).collect();
    let mut command = RAISE.command(&keys);
    let alive = SESSION_TTL.saturating_sub(BROKER_TTL).as_millis() as u64;
    command.arg(FORMAT).arg(u32::from(is_forced)).arg(BROKER_TTL.as_micros() as u64).arg(alive);
    command.arg(found.iter().map(|key| key.strip_prefix(session).unwrap_or_default()).collect::<Vec<_>>());
    let answer = RAISE.run(&mut log.wire, &command)?;
    read(answer).ok_or_else(|| value::malformed("the answer about the format"))
}

/// Reads the format before, and the brokers that can't read the newest one.
fn read(answer: Value) -> Option<(u32, Vec<(String, String)>)> {
    let mut values = value::list(answer)?.into_iter();
    let format = value::text(values.next()?)?.parse().ok()?;
    let mut brokers = Vec::new();
    while let Some(broker) = values.next() {
        brokers.push((value::text(broker)?, value::text(values.next()?)?));
    }
    Some((format, brokers))
}

fn lines(brokers: &[(String, String)]) -> String {
    let line = |(broker, words): &(String, String)| {
        let words: Vec<_> = words.split(' ').collect();
        match words.as_slice() {
            [_, format, _, version, ..] => format!("  broker {broker}: Esker {version}, reads up to format {format}\n"),
            _ => format!("  broker {broker}: an old version of Esker, which has not told its format\n"),
        }
    };
    brokers.iter().map(line).collect()
}
