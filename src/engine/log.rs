//! What a broker asks of the shared log, and what it gets. Independent of how the log is reached: [`super::redis`] sends these
//! requests to a server, [`super::sim`] answers them in memory.

mod insert;
mod records;

use std::fmt;

use super::AckMode;
use crate::records::NewRecord;
use crate::records::insert::InsertOutcome;
pub use insert::{Insert, Inserted, KeyLimits, stored};
pub use records::{
    Compacted, ERASED_AT_ONCE, Erase, Erased, PRUNED_BEYOND_THE_COUNT, PRUNED_OF_A_NAME, REMOVED_BYTES, ReadRecords,
    RemoveRecords, SWEPT_NAMES, SWEPT_VERSIONS, Swept, Version,
};

/// Opens connections to the log. Each connection is used by one thread.
pub trait Connect: Send {
    /// A connection.
    type Log: Log + ReadRecords + RemoveRecords + Revocations + Send;

    /// Connects. Nothing waits longer than [`CONNECT_TIMEOUT`](super::CONNECT_TIMEOUT).
    fn connect(&mut self) -> Result<Self::Log, LogError>;
}

/// The bytes that an entry of records counts when the log is trimmed by bytes. Their names and data are not in the log.
#[cfg(feature = "internals")]
pub const RECORDS_COST: u64 = 128;

/// The bytes of memory that a name takes in addition to its length, about.
pub const NAME_COST: u64 = 112;
/// The bytes of memory that a record takes in addition to its name and data, about.
const RECORD_COST: u64 = 170;
/// Returns the bytes of memory that a record takes in the log, about, if its name is new: see [`cost_of`].
pub fn record_cost(record: &NewRecord) -> u64 {
    cost_of(&record.name, &record.data)
}

/// Returns the bytes of memory that a name and data take as a record in the log, about, if the name is new. Otherwise they take
/// less by [`NAME_COST`] and the length of the name. Measured: a name is there twice for each record, and once more if it is
/// new; the larger the data, the less of the memory that it is put in is used.
pub fn cost_of(name: &str, data: &str) -> u64 {
    let (name, data) = (name.len() as u64, data.len() as u64);
    3 * name + NAME_COST + data + data / 8 + RECORD_COST
}

/// Returns the bytes of memory that become free when a record is removed and its name stays, about: see [`cost_of`].
#[cfg(feature = "internals")]
pub fn removed_cost(name: &str, data: &str) -> u64 {
    cost_of(name, data) - NAME_COST - name.len() as u64
}

/// A connection to the log. After an error other than [`LogError::Refused`] and [`LogError::Unproven`] it is dropped.
pub trait Log {
    /// Returns what is known of the server, for reports.
    fn about(&self) -> Option<About> {
        None
    }

    /// Begins a session of a broker. From then on the log refuses appends of its earlier sessions.
    fn hello(&mut self, hello: Hello) -> Result<Greeting, LogError>;

    /// Appends one entry, all of it or nothing. Returns when the entry is as durable as the setting `engine_ack` demands.
    fn append(&mut self, append: &Append<'_>) -> Result<Appended, LogError>;

    /// Judges requests to insert records, in order, and appends the records of those that are granted as one entry, all of them
    /// or none. Writes no entry if none is granted. Returns when the records, and those that the outcomes tell of, are on the
    /// engine's disk, and with the replicas that the setting `engine_ack` demands.
    fn insert(&mut self, insert: &Insert<'_>) -> Result<Inserted, LogError>;

    /// Returns when what [`Greeting::last_batch`] tells of is as durable as the setting `engine_ack` demands.
    fn prove(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    /// Renews a session, and returns the newest id at a moment between the call and the return.
    fn pulse(&mut self, hello: Hello) -> Result<Pulse, LogError>;

    /// Registers this broker for some seconds, so that the others know of it. Returns all registered brokers, this one included,
    /// ascending by [`Peer::broker`].
    fn register(&mut self, hello: Hello, subscribers: u64) -> Result<Vec<Peer>, LogError>;

    /// Finds out whether the log still has the entries that this broker knows. If it has lost some, and no broker has said so
    /// before, appends an entry that says so ([`Body::Lost`]). Creates the log if it does not exist.
    fn attach(&mut self, attach: &Attach) -> Result<Attached, LogError>;

    /// Returns the next entries whose ids are larger than `after`, ascending. Without one, waits for up to
    /// [`READ_WAIT`](super::READ_WAIT) and may return none.
    fn read(&mut self, after: u64) -> Result<Vec<Entry>, LogError>;
}

/// Stores and reads revocations of tokens, so that every broker knows them.
pub trait Revocations {
    /// Stores revocations. Each gets a time that is larger than those of all before, in microseconds of the engine; returns that
    /// of the first. If there are more than [`Revoke::max`] then, removes the oldest. Returns when they are as durable as the
    /// setting `engine_ack` demands.
    fn revoke(&mut self, revoke: &Revoke<'_>) -> Result<u64, LogError>;

    /// Returns the revocations after a time, ascending. May return only the first few; returns none only if there are none.
    fn revoked(&mut self, after: u64) -> Result<Vec<Revoked>, LogError>;
}

/// A request to store revocations.
#[derive(Clone, Copy, Debug)]
pub struct Revoke<'a> {
    /// The session, which must be the broker's newest.
    pub hello: Hello,
    /// What is revoked, at most `max`.
    pub texts: &'a [String],
    /// The most revocations that are kept.
    pub max: usize,
}

/// A revocation that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its time.
    pub time: u64,
    /// What is revoked.
    pub text: Box<str>,
    /// The time of the newest revocation that was removed so far; 0 if none was.
    pub removed_through: u64,
}

/// A broker that uses the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number, as in [`Hello::broker`].
    pub broker: u64,
    /// The version of Esker.
    pub version: Box<str>,
    /// The newest [format](super::FORMAT) that it can read.
    pub format: u32,
    /// The number of its subscribers, of topics and of records.
    pub subscribers: u64,
}

/// What is known of the server, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name and version.
    pub server: String,
    /// When a publish is acknowledged.
    pub ack: AckMode,
    /// Why records are refused, if the server can't prove that they are on its disk.
    pub records_refused: Option<String>,
}

/// Identifies a session of a broker. Both numbers are random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The broker, the same as long as its process runs.
    pub broker: u64,
    /// The session, another one for each connection.
    pub session: u64,
}

/// The answer to [`Log::hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The time and the newest id.
    pub pulse: Pulse,
    /// The last batch of which an earlier session of the broker has appended something.
    pub last_batch: Option<(u64, LastBatch)>,
}

/// What became of a batch of which something was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// It consisted of events.
    Events(Appended),
    /// It consisted of inserts, with these outcomes.
    Inserts(Vec<InsertOutcome>),
}

/// The log's time and newest id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The time of the engine, in microseconds since the Unix epoch.
    pub time: u64,
    /// The newest id.
    pub last: u64,
    /// How often the log has lost entries.
    pub era: u64,
    /// The bytes of memory that all records take, about.
    pub record_bytes: u64,
}

fn token(hello: Hello, batch: u64) -> String {
    format!("{:016x}:{:016x}:{batch}", hello.broker, hello.session)
}

/// A request to append an entry.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The session, which must be the broker's newest.
    pub hello: Hello,
    /// The number of the batch. It differs from those of all other batches of the broker.
    pub batch: u64,
    /// The newest id that the broker knows. The entry's ids are larger.
    pub floor: u64,
    /// The number of events.
    pub events: usize,
    /// The events, as [`super::blob`] encodes them.
    pub blob: &'a [u8],
    /// The events that have an id of the publisher.
    pub own_ids: &'a [OwnId],
}

impl Append<'_> {
    /// Returns the token of the entry.
    pub fn token(&self) -> String {
        token(self.hello, self.batch)
    }
}

/// An event that has an id of the publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnId {
    /// The event's index in the entry.
    pub index: usize,
    /// The topic, a colon, and the publisher's id.
    pub key: String,
}

/// An entry that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The id of the entry and of its first event. The others have the next numbers, repetitions included.
    pub first: u64,
    /// The events that repeat an id of the publisher, ascending by index. If all events do, no entry was written.
    pub repetitions: Vec<Repetition>,
}

/// An event that was not accepted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// The event's index in the entry.
    pub index: usize,
    /// The id of the event that it repeats.
    pub original: u64,
}

/// An entry that the log must have, unless it was trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The entry's id.
    pub entry: u64,
    /// The entry's token.
    pub token: Box<str>,
}

/// A request to go on reading the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// The newest entry that was read; none at the start.
    pub read: Option<Mark>,
    /// An entry that this broker has appended; none if all of them were found in the log, or are known to be lost.
    pub appended: Option<Mark>,
    /// The newest id that the broker knows.
    pub floor: u64,
    /// The newest id that the broker has applied.
    pub applied: u64,
    /// The format that the log had, if the broker knows it. A log that is created anew gets it, so that brokers of an older
    /// version can go on reading it.
    pub format: Option<u32>,
}

/// The answer to [`Log::attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The time and the newest id.
    pub pulse: Pulse,
    /// Where to go on.
    pub from: From,
    /// The format of the log: see [`FORMAT`](super::FORMAT).
    pub format: u32,
    /// The id of the newest entry that says that the newest version of a name was erased; 0 if there was none.
    pub erased: u64,
    /// Whether the log has the entry that was read last.
    pub has_read: bool,
}

/// Where reading the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// After the entry that was read last, or at the first entry if there is none.
    Next,
    /// At the entry with this id, the oldest: entries before it were trimmed and may not have been read.
    Oldest(u64),
    /// At the entry with this id, a [`Body::Lost`]: entries before it were read and are lost.
    Loss(u64),
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id of the entry and of its first event.
    pub id: u64,
    /// The id of the entry before it when it was appended; 0 if there was none. So a reader notices a missing entry.
    pub previous: u64,
    /// Distinguishes it from another entry with the same id.
    pub token: Box<str>,
    /// What it contains.
    pub body: Body,
}

/// What an entry contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Events of one or more publishes.
    Events {
        /// The number of events.
        count: usize,
        /// The events, as [`super::blob`] encodes them.
        blob: Vec<u8>,
        /// The indices of the events that repeat others, ascending. They are not to be delivered.
        repetitions: Vec<usize>,
    },
    /// Records, which [`ReadRecords::records`] returns: as many as this. Their ids begin with the entry's.
    Records(usize),
    /// The name whose newest version had this id was erased, with all its versions before. It is not said which name that was.
    Erased(u64),
    /// The log was created, or records were loaded while no broker used it. There is nothing to deliver.
    Marker,
    /// Something that this version does not understand. Says what.
    Unknown(String),
    /// The log has lost entries that some broker knew: positions before this entry may be of events that don't exist.
    Lost,
}

/// Why the log did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// There is no connection. Nothing was done.
    Unreachable(String),
    /// The connection broke, or there was no answer in time: the request may have been carried out, or may yet be.
    Broken(String),
    /// The session is not the broker's newest one any more. Nothing was done.
    Fenced,
    /// The engine refused; nothing was done.
    Refused(Refusal, String),
    /// The entry was appended, but is not as durable as demanded.
    Unproven(String),
    /// The engine sent something that this version does not understand.
    Malformed(String),
}

/// Why the engine refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is out of memory (`maxmemory`).
    Memory,
    /// It can't write now: it is a replica, or still loading, or has too few replicas. Another connection may reach one that
    /// can.
    NotWritable,
    /// It will refuse until somebody changes its configuration or this broker's.
    Setup,
    /// It refuses records, but not events: they have reached their limit, it can't prove that they are on its disk, or older
    /// brokers can't read them.
    Records,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "the engine can't be reached: {why}"),
            Self::Broken(why) => write!(f, "the connection to the engine broke: {why}"),
            Self::Fenced => f.write_str("another connection has replaced this broker's session"),
            Self::Refused(_, why) => write!(f, "the engine refused: {why}"),
            Self::Unproven(why) => write!(f, "the engine could not prove that the events are durable: {why}"),
            Self::Malformed(why) => write!(f, "the engine's answer can't be understood: {why}"),
        }
    }
}

impl std::error::Error for LogError {}
