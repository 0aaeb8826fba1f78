//! The state of an engine, for the command that shows it.

use serde::Serialize;

/// The state of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineReport {
    /// The server.
    pub server: ServerReport,
    /// The log. `None` if there is none with this prefix.
    pub log: Option<LogReport>,
    /// The records.
    pub records: RecordsReport,
    /// The brokers that have told of themselves lately.
    pub brokers: Vec<BrokerReport>,
    /// The number of sessions, those of brokers that have ended lately included. `None` if this user may not count them.
    pub sessions: Option<usize>,
}

/// The state of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerReport {
    /// Its name and version.
    pub name: String,
    /// Where it was reached: host and port.
    pub address: String,
    /// `primary` or `replica`.
    pub role: &'static str,
    /// Why no broker can use it, if so.
    pub refused: Option<String>,
    /// When publishes are acknowledged, unless brokers have another setting.
    pub ack: String,
    /// What can be lost nevertheless, or is slow.
    pub warning: Option<String>,
    /// The bytes of memory that the server uses.
    pub memory_used: u64,
    /// The most bytes of memory; 0 if there is no limit.
    pub memory_limit: u64,
}

/// The state of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Its format.
    pub format: u32,
    /// The newest format that this version of Esker reads.
    pub newest_format: u32,
    /// How often it has lost entries.
    pub era: u64,
    /// The number of its entries.
    pub entries: u64,
    /// The id of the oldest entry.
    pub first: Position,
    /// The newest id.
    pub last: Position,
    /// The bytes of all events in it.
    pub bytes: u64,
}

/// An id, and the time that it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The id.
    pub id: String,
    /// Milliseconds since the Unix epoch.
    pub unix_millis: u64,
}

impl Position {
    /// Returns the position of an id.
    pub fn of(id: u64) -> Self {
        Self { id: id.to_string(), unix_millis: id / 1000 }
    }
}

/// The state of the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordsReport {
    /// Why no record can be stored, if so.
    pub refused: Option<String>,
    /// The number of records.
    pub records: u64,
    /// The number of names.
    pub names: u64,
    /// The bytes of memory that they take, about.
    pub bytes: u64,
}

/// The state of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokerReport {
    /// Its number.
    pub id: String,
    /// The version of Esker.
    pub version: String,
    /// The newest format of the log that it reads.
    pub format: u32,
    /// The number of its subscribers.
    pub subscribers: u64,
    /// The milliseconds since it has told of itself.
    pub heard_of_millis: u64,
}
