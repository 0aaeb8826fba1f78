//! The state of an engine as text, aligned for people.

use std::fmt::Write as _;

use crate::engine::report::{BrokerReport, EngineReport, LogReport, Position, RecordsReport, ServerReport};
use crate::logging::rfc3339;

/// The width of the names of lines.
const WIDTH: usize = 12;

/// Returns the state as text.
pub(super) fn format(report: &EngineReport) -> String {
    let mut text = String::new();
    write_server(&mut text, &report.server);
    match &report.log {
        Some(log) => write_log(&mut text, log),
        None => line(&mut text, "log", "none with this --engine-prefix; the first broker creates it"),
    }
    write_records(&mut text, &report.records);
    write_brokers(&mut text, &report.brokers);
    match report.sessions {
        Some(sessions) => line(&mut text, "sessions", &sessions.to_string()),
        None => line(&mut text, "sessions", "unknown: this user may not use SCAN"),
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "{name:WIDTH$}{value}");
}

fn write_server(text: &mut String, server: &ServerReport) {
    let ServerReport { name, address, role, .. } = server;
    line(text, "server", &format!("{name} at {address}, {role}"));
    if let Some(why) = &server.refused {
        line(text, "", &format!("no broker can use it: {why}"));
    }
    let limit = match server.memory_limit {
        0 => "no maxmemory".to_owned(),
        limit => format!("maxmemory {}", size(limit)),
    };
    line(text, "memory", &format!("{}, {limit}", size(server.memory_used)));
    let promise = match server.ack.as_str() {
        "fsync" => "fsync: an acknowledged publish is on the engine's disk",
        "reply" => "reply: an acknowledged publish is in the engine's memory",
        other => other,
    };
    line(text, "publishes", promise);
    if let Some(warning) = &server.warning {
        line(text, "", &format!("warning: {warning}"));
    }
}

fn write_log(text: &mut String, log: &LogReport) {
    let LogReport { format, newest_format, era, entries, bytes, .. } = log;
    line(text, "log", &format!("format {format}; this version of Esker reads up to {newest_format}"));
    line(text, "  era", &era.to_string());
    line(text, "  entries", &format!("{entries}, events of {}", size(*bytes)));
    line(text, "  first", &position(&log.first));
    line(text, "  last", &position(&log.last));
}

fn position(position: &Position) -> String {
    format!("{}  {}", position.id, rfc3339(position.unix_millis))
}

fn write_records(text: &mut String, report: &RecordsReport) {
    let RecordsReport { records, names, bytes, refused } = report;
    line(text, "records", &format!("{records}, names: {names}, memory: {}", size(*bytes)));
    match refused {
        None => line(text, "", "can be stored"),
        Some(why) => line(text, "", &format!("can't be stored: {why}")),
    }
}

fn write_brokers(text: &mut String, brokers: &[BrokerReport]) {
    line(text, "brokers", &brokers.len().to_string());
    if brokers.is_empty() {
        return;
    }
    let width = brokers.iter().map(|broker| broker.version.len()).max().unwrap_or(0).max("version".len());
    let _ = writeln!(text, "  {:16}  {:width$}  format  subscribers  heard of", "broker", "version");
    for BrokerReport { id, version, format, subscribers, heard_of_millis } in brokers {
        let seconds = *heard_of_millis as f64 / 1000.0;
        let _ = writeln!(text, "  {id:16}  {version:width$}  {format:6}  {subscribers:11}  {seconds:.1} s ago");
    }
}

/// Returns bytes with a unit.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> EngineReport {
        EngineReport {
            server: ServerReport {
                name: "Redis 7.0.15".into(),
                address: "127.0.0.1:6379".into(),
                role: "primary",
                refused: None,
                ack: "fsync".into(),
                warning: Some("slow".into()),
                memory_used: 3 << 19,
                memory_limit: 0,
            },
            log: Some(LogReport {
                format: 2,
                newest_format: 2,
                era: 0,
                entries: 3,
                first: Position::of(1_795_304_931_407_762),
                last: Position::of(1_795_304_931_407_765),
                bytes: 900,
            }),
            records: RecordsReport { refused: None, records: 5, names: 2, bytes: 2048 },
            brokers: vec![BrokerReport {
                id: "00000000000000ab".into(),
                version: "0.10.0-rc.1".into(),
                format: 2,
                subscribers: 12,
                heard_of_millis: 440,
            }],
            sessions: Some(2),
        }
    }

    #[test]
    fn the_state_is_aligned() {
        let expected = "\
server      Redis 7.0.15 at 127.0.0.1:6379, primary
memory      1.5 MiB, no maxmemory
publishes   fsync: an acknowledged publish is on the engine's disk
            warning: slow
log         format 2; this version of Esker reads up to 2
  era       0
  entries   3, events of 900 bytes
  first     1795304931407762  2026-11-21T23:48:51.407Z
  last      1795304931407765  2026-11-21T23:48:51.407Z
records     5, names: 2, memory: 2.0 KiB
            can be stored
brokers     1
  broker            version      format  subscribers  heard of
  00000000000000ab  0.10.0-rc.1       2           12  0.4 s ago
sessions    2
";
        assert_eq!(format(&report()), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut report = report();
        report.server = ServerReport { refused: Some("a replica".into()), memory_limit: 1 << 30, ..report.server };
        report.records.refused = Some("old".into());
        let report = EngineReport { log: None, brokers: Vec::new(), sessions: None, ..report };
        let text = format(&report);
        for part in [
            "\n            no broker can use it: a replica\n",
            "maxmemory 1.0 GiB\n",
            "\nlog         none with",
            "\n            can't be stored: old\n",
            "\nbrokers     0\nsessions    unknown",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
