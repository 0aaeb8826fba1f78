//! The workers: a fixed pool of threads, each with one poll, and each the only owner of its sockets. Every step of a loop
//! iteration is bounded, so that no socket can delay the others for long.
//!
//! ```text
//! wait ─► events ─► messages ─► accept ─► drive connections ─► end expired and revoked streams
//!      ─► take the inbox ─► serve streams ─► sweep ─► drain ─► update metrics ─► close sockets
//! ```
//! The inbox is taken after the iteration's connections are driven, because they subscribe, and before any stream is served:
//! only then is the replica complete up to its newest id, which every cursor relies on.

mod drain;
mod effects;
mod events;
mod mailbox;
mod maintenance;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use mailbox::{Mailbox, Message};
use maintenance::{LifePhase, Maintenance};

use crate::api::Service;
use crate::clock::Clock;
use crate::conn::{Connections, IterationContext};
use crate::hub::{Inbox, WorkerId};
use crate::net::acceptor::Acceptor;
use crate::net::{BoundListener, ConnectionLimiter, Reactor, Readiness};
use crate::stream::{BUDGET_PER_ITERATION, PendingSubscription, Streams};

/// The longest wait for events while publishes wait for room or tokens to be verified, and while draining.
const RETRY_MILLIS: u64 = 2;

/// The parts of a worker, in addition to its reactor.
pub(crate) struct WorkerParams<K: Reactor> {
    /// Its index.
    pub(crate) id: WorkerId,
    /// What all workers share.
    pub(crate) service: Arc<Service>,
    /// The limit on connections.
    pub(crate) limiter: Arc<ConnectionLimiter>,
    /// The broker's clock.
    pub(crate) clock: Clock,
    /// Frames from the hub.
    pub(crate) inbox: Inbox,
    /// Connections from the acceptor, and replies from other threads.
    pub(crate) mailbox: Mailbox<K::Stream>,
    /// The listeners; only the first worker has them.
    pub(crate) listeners: Vec<BoundListener<K::Listener>>,
}

/// One worker: an event loop and its sockets.
pub(crate) struct Worker<K: Reactor> {
    cx: IterationContext,
    reactor: K,
    /// What the poller reported in this iteration.
    events: Vec<Readiness>,
    mailbox: Mailbox<K::Stream>,
    /// Only the first worker accepts.
    acceptor: Option<Acceptor<K::Listener>>,
    limiter: Arc<ConnectionLimiter>,
    connections: Connections<K::Stream>,
    streams: Streams<K::Stream>,
    /// Streams whose opening is being written, by their connection's key.
    pending: HashMap<usize, PendingSubscription>,
    maintenance: Maintenance,
    phase: LifePhase,
}

impl<K: Reactor> Worker<K> {
    /// Creates a worker on a reactor.
    pub(crate) fn new(reactor: K, params: WorkerParams<K>) -> io::Result<Self> {
        let WorkerParams { id, service, limiter, clock, inbox, mailbox, listeners } = params;
        let acceptor = match id {
            0 => Some(Acceptor::new(listeners, mailbox.workers(), &reactor)?),
            _ => None,
        };
        Ok(Self {
            acceptor,
            connections: Connections::new(mailbox.workers()),
            streams: Streams::new(Arc::clone(&service.hub), id, inbox),
            maintenance: Maintenance::new(&service.settings),
            cx: IterationContext::new(id, service, clock),
            reactor,
            events: Vec::new(),
            mailbox,
            limiter,
            pending: HashMap::new(),
            phase: LifePhase::Serving,
        })
    }

    /// Runs the loop until the broker has drained.
    pub(crate) fn run(mut self) {
        while !self.is_over() {
            self.iterate();
        }
    }

    /// Runs one loop iteration.
    pub(crate) fn iterate(&mut self) {
        self.wait();
        self.cx.advance();
        self.cx.metrics().iteration_began.set(self.cx.now.millis + 1);
        self.streams.clear_wake();
        self.handle_events();
        self.take_messages();
        self.accept();
        self.drive_connections();
        // Before any stream is served: a stream must not receive what is published after its token has expired.
        self.revoke_streams();
        self.expire_streams();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_ITERATION, self.cx.timestamp(), &|| {
            self.cx.service.event_time(self.cx.clock.id_micros_now())
        });
        self.sweep();
        self.drain();
        // Before sockets are closed, so that an observer of a closed socket never sees a stale count.
        self.update_metrics();
        self.close_left();
        self.note_end();
    }

    /// Records how long the iteration took, and that it has ended.
    fn note_end(&self) {
        let metrics = self.cx.metrics();
        metrics.longest_iteration_micros.raise_to(self.cx.elapsed_micros());
        metrics.iteration_began.set(0);
    }

    fn wait(&mut self) {
        let timeout = self.timeout().map(Duration::from_millis);
        self.events.clear();
        match self.reactor.wait(timeout, &mut self.events) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A broker can't work without readiness; a supervisor starts a new one.
            Err(error) => panic!("polling failed: {error}"),
        }
    }

    /// Returns the milliseconds until the worker has something to do even without an event.
    pub(crate) fn timeout(&self) -> Option<u64> {
        let can_accept = self.acceptor.as_ref().is_some_and(Acceptor::has_more);
        let has_streams = self.streams.has_work() || self.streams.has_closed();
        let has_queued = self.connections.has_work() || !self.mailbox.is_empty() || has_streams;
        if has_queued || self.maintenance.has_more() || self.phase.is_ending() || can_accept {
            return Some(0);
        }
        if self.connections.must_retry() || self.phase.is_draining() {
            return Some(RETRY_MILLIS);
        }
        let has_sockets = !self.connections.is_empty() || !self.streams.is_empty();
        let is_first_worker = self.acceptor.is_some();
        // Relative to the moment at which this iteration began: a delay by the length of one iteration does not matter.
        let now = self.cx.now;
        let until_sweep = self.maintenance.until_sweep(now.millis);
        let until_end = self.streams.next_end().map(|second| (second * 1000).saturating_sub(now.unix_millis));
        (has_sockets || is_first_worker || !self.maintenance.is_idle)
            .then(|| until_sweep.min(until_end.unwrap_or(u64::MAX)))
    }
}
