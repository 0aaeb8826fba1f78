//! The engine: a log in Redis or Valkey that several brokers share. Every broker appends to the log and follows it; what the
//! log says is the order of events. No broker talks to another.
//!
//! ```text
//! publish ─► queue ─► appender ─► log ─► tail ─► Follow (the hub)
//!                        │                 │
//!                        └── id ─► waiting ┴─► reply, once the tail has passed the id
//! ```
//! ```text
//! log        what is asked of the log and what it answers; traits for the two implementations
//! redis/     the log on a server
//! sim/       the log in memory, with faults, for the simulation
//! blob       the encoding of an entry's events
//! batch      requests that become one entry
//! settings   the settings, checked
//! url        the address as a URL
//! queue      publishes and inserts that wait to be appended
//! appender   takes all that wait of a kind and appends them as one entry; finds out what became of an append without an answer
//! tail       reads the log and hands its events to the hub
//! reader/    reads pages of histories and looks up ids of records
//! backoff    when to connect again
//! marks      what was appended and not yet found in the log
//! waiting    publishes and barriers that wait for the tail
//! state      what is known of the engine, and counters
//! status     what a broker reports of it
//! handle     what the rest of the broker uses
//! threads    runs all of it
//! report     the state of the engine, for the command that shows it
//! ```
//! The appender, the tail, the reader and the watch are state machines whose every step is a call, so that a simulation can
//! run them without threads. Independent of topics, frames and HTTP.
//!
//! # Rules
//!
//! 1. Ids come from the log alone, and grow. Each append states the newest id that the broker knows, so that neither a slow
//!    clock nor lost entries make ids fall.
//! 2. A connection begins a new session, and the log refuses appends of the sessions before it. So what a broken connection has sent can't take effect later, and the log knows whether the last batch was appended.
//! 3. A publish is acknowledged when its entry is as durable as `engine_ack` demands and the tail has passed it.
//! 4. A broker that finds entries missing which it has read or appended tells all brokers by an entry of its own. Each then
//!    retains nothing from before it, and tells its streams a gap.
//! 5. A position that this broker does not know is judged only when the tail has passed what was newest at that moment
//!    (a barrier).
//! 6. An entry that this version can't read stops the tail. No entry is skipped.

mod appender;
mod backoff;
mod batch;
pub mod blob;
mod handle;
pub mod log;
mod marks;
mod queue;
mod reader;
#[cfg(feature = "engine")]
pub mod redis;
#[cfg(feature = "cli")]
pub mod report;
pub mod settings;
#[cfg(feature = "internals")]
pub mod sim;
mod state;
mod status;
mod tail;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod threads;
#[cfg(all(feature = "cli", not(feature = "engine")))]
#[path = "absent_tools.rs"]
pub mod tools;
pub mod url;
mod waiting;

use std::collections::VecDeque;
use std::time::Duration;

use crate::records::Record;

#[cfg(all(feature = "cli", feature = "engine"))]
pub use self::redis::tools;
pub use appender::Appender;
pub use handle::{Engine, EngineError, Sequenced};
pub use reader::Reader;
pub use settings::{AckMode, EngineSettings, ParseAckError};
pub use status::{Health, Status};
pub use tail::Tail;
pub use threads::Threads;
pub use url::{EngineUrl, EngineUrlError};

/// The longest time for a connection to the engine to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest time for a command, except for reading the log.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long reading the log waits for an entry.
pub const READ_WAIT: Duration = Duration::from_secs(1);
/// The longest time for reading the log, waiting included.
pub const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The newest format of the log that this version reads and writes. A log keeps the format with which it was created until an
/// operator raises it, so that brokers of an older version can go on reading it during an upgrade.
///
/// | format | |
/// |---|---|
/// | 1 | events |
/// | 2 | and records |
/// | 3 | and removed records |
pub const FORMAT: u32 = 3;
/// The format that allows records.
pub const RECORDS_FORMAT: u32 = 2;
/// The format that allows records to be removed. A broker of an older version takes a removed record for a lost one.
pub const REMOVAL_FORMAT: u32 = 3;

/// Receives what the log says, in order. Called by the tail alone.
pub trait Follow: Send {
    /// Applies events from the front of the queue, and removes them. Leaves those for which there is no room now. Fails if an
    /// event can't be understood; it is then the first in the queue.
    fn apply(&mut self, events: &mut VecDeque<LogEvent>) -> Result<(), String>;

    /// Retains nothing up to this id, makes it the newest and a known position, and tells all streams of topics a gap.
    fn lose_through(&mut self, id: u64);

    /// Notes the oldest entry that the log has. Smaller ids are from before it. Called once, before anything else.
    fn begin(&mut self, oldest: u64);

    /// Makes this id the newest and a known position, though no event has it.
    fn pass(&mut self, id: u64);

    /// Publishes records from the front of the queue, and removes them. Their ids ascend, and are larger than those of all
    /// records before. Leaves those for which there is no room now.
    fn apply_records(&mut self, records: &mut VecDeque<Record>);

    /// Replaces all records by the newest of each name, ascending by id, because some may be lost. Tells all streams of records a
    /// gap.
    fn reset_records(&mut self, newest: Vec<Record>);

    /// Forgets the name whose newest version is the record with this id, and tells all streams of records that it was erased. The
    /// erasure has an id of its own: that is a known position, and those before it are in doubt. Returns `false` if no name has this
    /// record as its newest; then only positions are in doubt.
    fn erase(&mut self, record: u64, id: u64) -> bool;

    /// Takes positions in records before this id for doubtful, because records may have been erased.
    fn doubt_before(&mut self, id: u64);

    /// Returns the number of subscribers, of topics and of records.
    fn subscribers(&self) -> u64;
}

/// An event as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its id.
    pub id: u64,
    /// Its topic.
    pub topic: Box<str>,
    /// The publisher's id.
    pub own_id: Option<Box<str>>,
    /// Its lines on the wire, without the broker's id and the blank line at the end.
    pub lines: Box<[u8]>,
}
