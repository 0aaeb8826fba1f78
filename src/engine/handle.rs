//! What the rest of the broker uses: publishes, barriers and reads go in, results come out later, from another thread.

use std::fmt;
use std::sync::Arc;

use super::blob::Part;
use super::queue::{Barrier, Erase, Insert, Publish, Queue, Revoke};
use super::reader::{Lookup, PageRequest, Requests};
use super::state::Shared;
use super::status::Status;
use super::waiting::Waiting;
use crate::auth::{Revocation, Revocations};
use crate::clock::Clock;
use crate::quota::{Client, PageReservation};
use crate::records::insert::{InsertOutcome, InsertRequest};
use crate::records::page::PageBuilder;
use crate::records::{Page, PageQuery};

/// The microseconds of a second.
pub(super) const MICROS: u64 = 1_000_000;

/// The engine, as workers see it. No method blocks.
#[derive(Clone)]
pub struct Engine {
    pub(super) queue: Arc<Queue>,
    pub(super) reads: Arc<Requests>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    /// Where revocations of tokens are applied. `None` if no tokens are required.
    pub(super) revocations: Option<Arc<Revocations>>,
}

/// A publish that the log has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequenced {
    /// The id of the last new event. If none was new, the id of the event that the last one repeats.
    pub id: u64,
    /// How many of the events were new.
    pub events: usize,
}

/// Why the log did not accept a publish or an insert, or records can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// Too much waits to be appended, or to be read. Nothing was published or stored.
    Busy,
    /// The engine can't be reached, or refuses. Nothing was published or stored. Says why, for the client.
    Unavailable(Arc<str>),
    /// The engine refuses until an operator changes something. Nothing was published or stored. Says why.
    Refused(Arc<str>),
    /// It is unknown whether the events were published or the record was stored, or they were, but may still be lost. Says why.
    Unknown(Arc<str>),
    /// The broker is shutting down. Nothing was published or stored.
    Closed,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many requests wait for the engine"),
            Self::Unavailable(why) | Self::Refused(why) => f.write_str(why),
            Self::Unknown(why) => write!(f, "{why}; the outcome is unknown"),
            Self::Closed => f.write_str("the broker is shutting down"),
        }
    }
}

impl EngineError {
    /// Describes what it means for a publish, and what to do.
    pub(crate) fn of_publish(&self) -> String {
        match self {
            Self::Busy | Self::Unavailable(_) => format!("{self}; nothing was published; try again"),
            Self::Unknown(why) => format!(
                "{why}; it is unknown whether the events were published; repeat the request with the same id: in each \
                 event (without ids, they may be published twice)"
            ),
            Self::Refused(_) | Self::Closed => format!("{self}; nothing was published"),
        }
    }

    /// Describes what it means for an insert, and what to do.
    pub(crate) fn of_insert(&self) -> String {
        match self {
            Self::Busy | Self::Unavailable(_) => format!("{self}; nothing was stored; try again"),
            Self::Unknown(why) => {
                format!(
                    "{why}; it is unknown whether the record was stored; repeat the request if it has an \
                     Idempotency-Key, otherwise GET /audit shows whether it was"
                )
            }
            Self::Refused(_) | Self::Closed => format!("{self}; nothing was stored"),
        }
    }

    /// Describes what it means for an erasure, and what to do.
    pub(crate) fn of_erasure(&self) -> String {
        match self {
            Self::Busy | Self::Unavailable(_) => format!("{self}; nothing was erased; try again"),
            Self::Unknown(why) => format!("{why}; some versions may have been erased, or all; repeat the request"),
            Self::Refused(_) | Self::Closed => format!("{self}; nothing was erased"),
        }
    }
}

impl std::error::Error for EngineError {}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Creates an engine that nothing serves yet.
    pub fn new(clock: Clock) -> Self {
        let shared = Arc::new(Shared::default());
        let queue = Arc::new(Queue::new(Arc::clone(&shared)));
        Self { queue, reads: Arc::default(), waiting: Arc::default(), shared, clock, revocations: None }
    }

    /// Applies the revocations of all brokers to this table.
    #[must_use]
    pub fn with_revocations(self, revocations: Option<Arc<Revocations>>) -> Self {
        Self { revocations, ..self }
    }

    /// Publishes the events of one request, all or none. `done` gets the result, once: usually from another thread, or from
    /// this one if the publish is refused immediately.
    pub fn publish(&self, part: Part, done: impl FnOnce(Result<Sequenced, EngineError>) + Send + 'static) {
        let now = self.clock.now().millis;
        self.queue.publish(Publish { part, queued: now, done: Box::new(done) });
    }

    /// Stores a record if its condition holds and its key is new. `done` gets the outcome, once: usually from another thread, or
    /// from this one if the insert is refused immediately.
    pub fn insert(
        &self,
        request: InsertRequest,
        done: impl FnOnce(Result<InsertOutcome, EngineError>) + Send + 'static,
    ) {
        let now = self.clock.now().millis;
        self.queue.insert(Insert { request, queued: now, done: Box::new(done) });
    }

    /// Erases the versions of a name, or only those with ids before one, for good. If the newest version is among them, the streams
    /// of all brokers are told. `done` gets the number of versions that were erased, once: usually from another thread, or from this
    /// one if the broker is shutting down. After an error, some may have been erased; a repetition erases the rest.
    pub fn erase(
        &self,
        name: &Arc<str>,
        before: Option<u64>,
        done: impl FnOnce(Result<u64, EngineError>) + Send + 'static,
    ) {
        let (name, queued) = (Arc::clone(name), self.clock.now().millis);
        self.queue.push_erase(Erase { name, before, queued, done: Box::new(done) });
    }

    /// Has all brokers revoke tokens. `done` gets the second of the revocation in the time of the engine, once: usually from
    /// another thread, or from this one if the broker is shutting down.
    pub fn revoke(&self, revocation: &Revocation, done: impl FnOnce(Result<u64, EngineError>) + Send + 'static) {
        let done = Box::new(|micros: Result<u64, EngineError>| done(micros.map(|micros| micros / MICROS)));
        self.queue.push_revoke(Revoke { text: revocation.to_text(), queued: self.clock.now().millis, done });
    }

    /// Calls `done` with `true` once the tail has passed the newest id that the log had at some moment after the call, or with
    /// `false` if the engine is unavailable.
    pub fn barrier(&self, done: impl FnOnce(bool) + Send + 'static) {
        let now = self.clock.now().millis;
        self.queue.push_barrier(Barrier { queued: now, done: Box::new(done) });
    }

    /// Reads a page of a name's history into reserved memory; the page is shorter if not enough can be reserved. `done` gets
    /// the page and its reservation, once: usually from another thread, or from this one if too many requests are waiting.
    pub fn read_history(
        &self,
        query: PageQuery,
        client: Client,
        reservation: PageReservation,
        done: impl FnOnce(Result<(Page, PageReservation), EngineError>) + Send + 'static,
    ) {
        let page = PageBuilder::new(query, reservation);
        self.reads.read(client, PageRequest { page, done: Box::new(done) });
    }

    /// Looks up whether a record with this id exists, whether or not it is the newest of its name. If it does, `done` gets that
    /// once the tail has passed the id, or an error if that takes too long. `done` is called once: usually from another thread,
    /// or from this one if too many lookups are waiting.
    pub fn find_record(&self, id: u64, done: impl FnOnce(Result<bool, EngineError>) + Send + 'static) {
        self.reads.look_up(Lookup { id, done: Box::new(done) });
    }

    /// Returns this moment in the time of the log's ids, in microseconds.
    pub fn log_time(&self) -> u64 {
        self.shared.log_time(self.clock.elapsed_micros())
    }

    /// Returns what is known of the engine.
    pub fn status(&self) -> Status {
        self.shared.status(&self.queue, &self.waiting, self.clock.now().millis)
    }

    /// Refuses what has waited for too long, and releases acknowledgements that have waited for the tail for too long.
    pub fn expire(&self) {
        let now = self.clock.now().millis;
        self.queue.expire(now);
        self.waiting.expire(now);
    }

    /// Returns whether the broker has caught up with the log since its start.
    pub fn is_caught_up(&self) -> bool {
        self.shared.is_caught_up()
    }

    /// Returns whether the broker knows all revocations that there were at its start.
    pub fn knows_revocations(&self) -> bool {
        self.revocations.is_none() || self.shared.knows_revocations()
    }

    /// Returns whether acknowledgements or barriers wait for the tail.
    pub fn is_waiting(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Refuses new publishes and all reads, and has the threads end when what is queued is done. Called when no worker runs any
    /// more.
    pub fn close(&self) {
        self.shared.close();
        self.queue.close();
        self.reads.close();
    }
}
