//! Finds out the state of an engine, even of one that no broker can use.

use redis::Value;

use super::sessions::sessions;
use crate::engine::log::{LogError, Refusal};
use crate::engine::redis::check::Facts;
use crate::engine::redis::connect::record_proofs;
use crate::engine::redis::guarantee::choose;
use crate::engine::redis::scripts::STATUS;
use crate::engine::redis::wire::Wire;
use crate::engine::redis::{BROKER_TTL, Keys, Server, value};
use crate::engine::report::{BrokerReport, EngineReport, LogReport, Position, RecordsReport, ServerReport};
use crate::engine::settings::HostPort;
use crate::engine::{COMMAND_TIMEOUT, EngineSettings, FORMAT, RECORDS_FORMAT};
use crate::records::transfer::ToolError;

/// The number of numbers before the brokers.
const NUMBERS: usize = 10;

/// Returns the state of an engine.
pub fn status(settings: &EngineSettings) -> Result<EngineReport, ToolError> {
    let server = Server::new(settings.clone());
    Ok(server.reach(|mut wire, at| ask(&server, &mut wire, at, &Keys::new(&settings.prefix)))?)
}

fn ask(server: &Server, wire: &mut Wire, at: &HostPort, keys: &Keys) -> Result<EngineReport, LogError> {
    server.select(wire)?;
    let facts = Facts::ask(wire)?;
    let (server, unproven) = ask_server(wire, &facts, at)?;
    wire.open();
    wire.set_limit(COMMAND_TIMEOUT)?;
    let command = STATUS.command(&[&keys.log, &keys.meta, &keys.records, &keys.newest, &keys.brokers]);
    let answer = STATUS.run(wire, &command)?;
    let (numbers, brokers) = read(answer).ok_or_else(|| value::malformed("the state of the log"))?;
    let [_, format, era, entries, first, last, bytes, records, names, record_bytes] = numbers;
    let format = u32::try_from(format).unwrap_or(u32::MAX);
    let log = LogReport {
        format,
        newest_format: FORMAT,
        era,
        entries,
        first: Position::of(first),
        last: Position::of(last),
        bytes,
    };
    let log = (entries > 0 || last > 0).then_some(log);
    let outdated = || {
        let is_old = log.is_some() && format < RECORDS_FORMAT;
        is_old.then(|| format!("the log has format {format}; when all brokers are upgraded, run esker engine raise"))
    };
    let refused = server.refused.clone().or(unproven).or_else(outdated);
    let records = RecordsReport { refused, records, names, bytes: record_bytes };
    Ok(EngineReport { server, log, records, brokers, sessions: count_sessions(wire, keys)? })
}

/// Asks what the server is and can prove. Returns also why it can't prove that records are on its disk, if so.
fn ask_server(wire: &mut Wire, facts: &Facts, at: &HostPort) -> Result<(ServerReport, Option<String>), LogError> {
    let fsync = facts.fsync(wire)?;
    let (_, ack, warning) = choose(None, facts, &fsync)?;
    let unproven = record_proofs(wire, ack, facts, &fsync)?.err();
    let report = ServerReport {
        name: facts.name.clone(),
        address: at.to_string(),
        role: if facts.is_replica { "replica" } else { "primary" },
        refused: facts.check().err().map(|why| why.to_string()),
        ack: ack.to_string(),
        warning,
        memory_used: facts.memory_used,
        memory_limit: facts.memory_limit,
    };
    Ok((report, unproven))
}

fn count_sessions(wire: &mut Wire, keys: &Keys) -> Result<Option<usize>, LogError> {
    match sessions(wire, keys) {
        Ok(sessions) => Ok(Some(sessions.len())),
        Err(LogError::Refused(Refusal::Setup, _)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the numbers, and the brokers that have told of themselves lately.
fn read(answer: Value) -> Option<([u64; NUMBERS], Vec<BrokerReport>)> {
    let mut texts = value::list(answer)?.into_iter().map(value::text).collect::<Option<Vec<_>>>()?;
    let told = texts.split_off(texts.len().min(NUMBERS));
    let numbers = texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let numbers = <[u64; NUMBERS]>::try_from(numbers).ok()?;
    let mut brokers: Vec<_> = told.chunks_exact(2).filter_map(|told| broker(&told[0], &told[1], numbers[0])).collect();
    brokers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    Some((numbers, brokers))
}

fn broker(id: &str, words: &str, now: u64) -> Option<BrokerReport> {
    let mut words = words.split(' ');
    let at: u64 = words.next()?.parse().ok()?;
    let (format, subscribers) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let report = BrokerReport {
        id: id.to_owned(),
        version: words.next()?.to_owned(),
        format,
        subscribers,
        heard_of_millis: now.saturating_sub(at) / 1000,
    };
    (now.abs_diff(at) <= BROKER_TTL.as_micros() as u64).then_some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_silent_or_malformed_are_left_out() {
        let now = 20_000_000;
        let report = broker("0a", "19500000 2 7 1.2.3 later words", now).unwrap();
        let expected =
            BrokerReport { id: "0a".into(), version: "1.2.3".into(), format: 2, subscribers: 7, heard_of_millis: 500 };
        assert_eq!(report, expected);
        for words in ["", "x 2 7 1", "19500000 2 7", "19500000 -2 7 1", "9000000 2 7 1"] {
            assert_eq!(broker("0a", words, now), None, "{words}");
        }
    }
}
