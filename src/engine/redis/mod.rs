//! The log on a Redis or Valkey server. The only code that uses the crate `redis`.
//!
//! ```text
//! {esker}:1:log                 stream of entries: `<first id>-0`, with the fields
//!                               p id of the entry before, b blob, n number of events, w token, x indices of repetitions;
//!                               or p, r number of records, w; or p, c created, loaded or lost, w; or p, c erased, i id of the
//!                               erased newest version, w
//! {esker}:1:meta                hash: last (newest id), era, layout and format (of the log), entry (id of the newest entry), lost (id
//!                               of the newest lost entry), bytes (of all entries), rbytes (of memory that records take),
//!                               erased (id of the newest entry that says so), removed (number of records), swept (id of the newest
//!                               record of the name that was swept last), sweepend (id up to which this round sweeps), erasures
//!                               and compacted (removed, when some were erased, and when a copy of the records was begun), copied
//!                               (id of the last record in the copy)
//! {esker}:1:s:<broker>          hash: s session; b, f, x, r number, first id, repetitions (of records: outcomes, unless all
//!                               requests were granted) and number of records of its last batch; expires
//! {esker}:1:o:<topic>:<own id>  the id of the event that has this id of the publisher; expires
//! {esker}:1:rec                 stream of records: `<id>-0`, with the fields e name, d data
//! {esker}:1:copy                stream: the first records, while they are copied to free memory
//! {esker}:1:idx                 sorted set, all scores 0: name, a zero byte and the id as 20 digits, of all records
//! {esker}:1:new                 sorted set: name, with the id of its newest record as its score
//! {esker}:1:keys                hash: idempotency key, and the id of its record and the digest of its name; expires
//! {esker}:1:keyorder            stream of idempotency keys: `<id>-0`, with the field k key; expires
//! {esker}:1:rev                 stream of revocations: `<time>-0`, with the fields t text, c time of the newest that was
//!                               removed
//! {esker}:1:brokers             hash: broker, and its time, format, subscribers and version; expires
//! ```
//! Everything that writes is a script, so that it happens as a whole. Scripts refuse to start when the engine can't write,
//! and undo what they did if a command fails.

mod check;
mod connect;
mod error;
mod guarantee;
mod log;
mod records;
mod removals;
mod revocations;
mod scripts;
mod sentinel;
mod tls;
#[cfg(feature = "cli")]
pub mod tools;
mod value;
mod wire;

use std::time::Duration;

#[cfg(feature = "internals")]
pub use check::acl_rules;
pub use connect::Server;
pub use guarantee::Guarantee;
#[cfg(feature = "internals")]
pub use log::ServerLog;

/// The layout of the keys, which are named after it.
const LAYOUT: u32 = 1;
/// How long a session is known without an append or a pulse. Afterwards its broker begins another one.
const SESSION_TTL: Duration = Duration::from_secs(600);
/// How long a broker is known after it has told of itself.
const BROKER_TTL: Duration = Duration::from_secs(10);
/// How long the key with the brokers stays when none tells of itself any more.
const BROKERS_TTL: Duration = Duration::from_secs(60);
/// How much longer an id of a publisher is known than the event that has it.
const OWN_ID_MARGIN: Duration = Duration::from_secs(60);
/// How long the engine may take to prove that an entry is durable. Less than [`COMMAND_TIMEOUT`](super::COMMAND_TIMEOUT), so
/// that its answer arrives.
const PROOF_TIMEOUT: Duration = Duration::from_millis(1700);

/// The names of the keys.
#[derive(Clone, Debug)]
struct Keys {
    log: String,
    meta: String,
    session: String,
    own: String,
    records: String,
    copy: String,
    index: String,
    newest: String,
    keys: String,
    key_order: String,
    revocations: String,
    brokers: String,
}

impl Keys {
    fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{prefix}:{LAYOUT}:{name}");
        Self {
            log: key("log"),
            meta: key("meta"),
            session: key("s:"),
            own: key("o:"),
            records: key("rec"),
            copy: key("copy"),
            index: key("idx"),
            newest: key("new"),
            keys: key("keys"),
            key_order: key("keyorder"),
            revocations: key("rev"),
            brokers: key("brokers"),
        }
    }

    /// Returns the key of a broker's session.
    fn session(&self, broker: u64) -> String {
        format!("{}{broker:016x}", self.session)
    }
}
