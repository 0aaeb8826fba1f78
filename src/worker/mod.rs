//! The workers: a fixed pool of threads, each with one poll, owning its sockets alone. One pass of
//! a worker's loop is a turn; every step of it is bounded, so that no socket can keep the others
//! waiting.
//!
//! ```text
//! poll ─► events ─► new sockets, accepts ─► connections to go on with
//!      ─► end what has expired ─► take the inbox ─► serve ─► sweep ─► give closed sockets back
//! ```
//! The inbox is taken after the joins of the turn and before anybody is served: only then is the
//! replica complete up to its newest id, on which every cursor relies.

mod buffers;
mod deadlines;
mod delayed;
mod driver;
mod events;
mod housekeeping;
pub(crate) mod iteration;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use buffers::Buffers;
use delayed::Delayed;
pub(crate) use iteration::{IterationContext, Key};

use crate::api::{Service, StoreReply};
use crate::clock::{Clock, millis};
use crate::conn::budget::Budget;
use crate::conn::connection::Connection;
use crate::hub::{Inbox, WorkerId};
use crate::net::acceptor::{Accepted, Acceptor};
use crate::net::{BoundListener, ConnectionLimiter, Reactor, Readiness};
use crate::stream::{BUDGET_PER_ITERATION, Silence, Streams};
use crate::util::paged_slab::PagedSlab;

/// Bytes read at once; also the most that a connection keeps of what it has not yet understood,
/// beside one head.
const SCRATCH: usize = 64 << 10;
/// Reads from one socket in one turn.
const READS_PER_ITERATION: usize = 4;
/// Microseconds of a loop iteration for driving connections. With one request beyond it, the dearest of which is a token to
/// verify with two keys, and with what serving takes, an iteration stays within about 5 ms.
const DRIVE_MICROS: u64 = 2_000;
/// Microseconds of a loop iteration for taking in new connections and the store's answers.
const MAIL_MICROS: u64 = 500;
/// Microseconds of a loop iteration for connections whose time is up.
const TIME_OUT_MICROS: u64 = 500;
/// The poll's patience while publishes wait for room or tokens to be verified, and while draining.
const IMPATIENT_MILLIS: u64 = 2;

/// What comes to a worker beside frames.
pub enum Message<S> {
    /// A connection from the acceptor.
    Accepted(Accepted<S>),
    /// The store's answer to a connection's request.
    StoreReply {
        /// The connection.
        key: usize,
        /// Which one it was: another one may have its key by now.
        serial: u64,
        /// The answer.
        answer: StoreReply,
    },
    /// The store's answer to whether a stream's position exists.
    Found {
        /// The connection that is to become the stream.
        key: usize,
        /// Which one it was.
        serial: u64,
        /// Whether it does; not, if that can't be told.
        exists: bool,
    },
    /// Somebody waits to be accepted and there is no place: one idle connection is to be closed.
    MakePlace,
}

/// What a worker is made of beside its kernel.
pub struct WorkerParams<K: Reactor> {
    /// Its index.
    pub id: WorkerId,
    /// What all share.
    pub service: Arc<Service>,
    /// Who may come in.
    pub gate: Arc<ConnectionLimiter>,
    /// The broker's clock.
    pub clock: Clock,
    /// Frames from the hub.
    pub inbox: Inbox,
    /// Sockets from the acceptor, answers from the store.
    pub mail: Receiver<Message<K::Stream>>,
    /// The ways to all workers' mail.
    pub letters: Vec<Sender<Message<K::Stream>>>,
    /// Where connections come from; the first worker looks after them.
    pub doors: Vec<BoundListener<K::Listener>>,
}

/// See the module's page.
pub struct Worker<K: Reactor> {
    parts: IterationContext,
    kernel: K,
    seen: Vec<Readiness>,
    gate: Arc<ConnectionLimiter>,
    clock: Clock,
    mail: Receiver<Message<K::Stream>>,
    letters: Vec<Sender<Message<K::Stream>>>,
    acceptor: Option<Acceptor<K::Listener>>,
    connections: PagedSlab<Connection<K::Stream>>,
    buffers: Buffers,
    /// Counts the connections there were.
    serials: u64,
    streams: Streams<K::Stream>,
    /// Connections that have something to do, in the order in which they are driven.
    ready: VecDeque<usize>,
    /// Connections whose publish is worked on in slices. They come after those in `ready`, so that a small request does not wait
    /// for the slices of large ones.
    working: VecDeque<usize>,
    /// What is left of this iteration for driving connections.
    budget: Budget,
    /// Connections whose publish waits for room.
    parked: VecDeque<usize>,
    /// Connections whose token waits to be verified.
    delayed: Delayed,
    scratch: Box<[u8]>,
    out: Vec<u8>,
    silence: Silence,
    sweep_every: u64,
    next_sweep: u64,
    is_sweeping: bool,
    /// Whether a sweep has come by since the last socket left.
    is_at_rest: bool,
    is_expiring: bool,
    is_ending: bool,
    drain_until: Option<u64>,
}

impl<K: Reactor> Worker<K> {
    /// A worker that stands on this.
    pub fn new(kernel: K, duty: WorkerParams<K>) -> io::Result<Self> {
        let WorkerParams { id, service, gate, clock, inbox, mail, letters, doors } = duty;
        let acceptor = match id {
            0 => Some(Acceptor::new(doors, letters.len(), &kernel)?),
            _ => None,
        };
        let settings = &service.settings;
        let clamp = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX / 2);
        let silence = Silence { heartbeat: clamp(settings.heartbeat), stall: clamp(settings.stall) };
        let shortest = settings.heartbeat.min(settings.stall).min(settings.request_timeout).min(settings.history_age);
        let shortest = shortest.min(settings.keep_alive);
        let streams = Streams::new(Arc::clone(&service.hub), id, inbox);
        let now = clock.now();
        Ok(Self {
            sweep_every: (millis(shortest) / 8).clamp(5, 1000),
            parts: IterationContext::new(id, service, now),
            kernel,
            seen: Vec::new(),
            gate,
            clock,
            mail,
            buffers: Buffers::of_one_of(letters.len()),
            letters,
            acceptor,
            connections: PagedSlab::default(),
            serials: 0,
            streams,
            ready: VecDeque::new(),
            working: VecDeque::new(),
            budget: Budget::new(0, 0),
            parked: VecDeque::new(),
            delayed: Delayed::default(),
            scratch: vec![0; SCRATCH].into(),
            out: Vec::new(),
            silence,
            next_sweep: 0,
            is_sweeping: false,
            is_at_rest: true,
            is_expiring: false,
            is_ending: false,
            drain_until: None,
        })
    }

    /// Turns until the broker has drained.
    pub fn run(mut self) {
        while !self.is_over() {
            self.turn();
        }
    }

    /// One pass of the loop.
    pub fn turn(&mut self) {
        self.wait();
        self.parts.advance(self.clock.now());
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        metrics.iteration_began.set(self.parts.now.millis + 1);
        self.streams.clear_wake();
        self.handle_events();
        self.take_mail();
        self.accept();
        self.drive_ready();
        // Before anybody is served: what comes after the token is not for whoever had it.
        self.expire();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_ITERATION, self.parts.stamp(), &|| self.clock.id_micros_now());
        self.sweep();
        self.drain();
        // Who sees a socket closed sees it counted.
        self.report();
        self.release();
        self.parts.service.metrics.worker(self.parts.id).iteration_began.set(0);
    }

    fn wait(&mut self) {
        let timeout = self.timeout().map(Duration::from_millis);
        self.seen.clear();
        match self.kernel.wait(timeout, &mut self.seen) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Without readiness there is no broker; a supervisor starts a new one.
            Err(error) => panic!("polling failed: {error}"),
        }
    }

    /// Milliseconds until something is to be done even if nothing happens.
    pub fn timeout(&self) -> Option<u64> {
        let can_accept = self.acceptor.as_ref().is_some_and(Acceptor::has_more);
        let has_begun = self.is_sweeping || self.is_expiring || self.is_ending;
        let has_queued = !self.ready.is_empty() || !self.working.is_empty() || !self.mail.is_empty();
        if self.streams.has_work() || has_queued || has_begun || can_accept {
            return Some(0);
        }
        if !self.parked.is_empty() || !self.delayed.is_empty() || self.drain_until.is_some() {
            return Some(IMPATIENT_MILLIS);
        }
        let has_sockets = !self.connections.is_empty() || !self.streams.is_empty();
        let keeps_house = self.acceptor.is_some();
        // The moment at which this turn began: what is late by a turn is not late.
        let now = self.parts.now;
        let until_sweep = self.next_sweep.saturating_sub(now.millis);
        let until_expiry = self.streams.next_expiry().map(|second| (second * 1000).saturating_sub(now.unix_millis));
        (has_sockets || keeps_house || !self.is_at_rest).then(|| until_sweep.min(until_expiry.unwrap_or(u64::MAX)))
    }
}
