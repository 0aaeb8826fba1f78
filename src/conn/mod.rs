//! All HTTP connections of one worker: their sockets, state machines, time limits and buffers, and the queues in which they
//! are driven. Independent of topics and streams: what concerns anything but a connection is an [`Effect`], which the worker
//! carries out.
//!
//! ```text
//! add ─► ready ─► drive: flush ─► read ─► exchange ─► flush ─► wait for an edge
//!          ▲                                 │
//!          │                                 ├─ more input, or share of the budget spent ─► ready
//!          ├─ next iteration ◄── parked ◄────┤  no room in the hub
//!          ├─ allowance ◄────── delayed ◄────┤  token may not be verified yet
//!          ├─ others had theirs ◄ working ◄──┤  a slice of a large publish
//!          └─ reply ◄──── other thread ◄─────┤  Defer, LookUp
//!                                            ├─ PrepareStream ─► opening flushed ─► BeginStream
//!                                            └─ Close
//! ```

mod budget;
mod buffers;
mod connection;
mod deadlines;
mod delayed;
mod drive;
mod effect;
pub(crate) mod exchange;
mod iteration;
mod min_rate;
#[cfg(test)]
mod tests;
pub(crate) mod timeout;

use std::collections::VecDeque;

pub(crate) use budget::Budget;
pub(crate) use effect::{ConnectionId, Effect};
pub(crate) use iteration::IterationContext;

use crate::metrics::Close;
use crate::net::acceptor::Accepted;
use crate::net::{Reactor, Readiness, SocketKey, Stream};
use crate::util::paged_slab::PagedSlab;
use crate::util::shrink::Shrink;
use buffers::BufferMemory;
use connection::{Connection, Phase};
use delayed::Delayed;
use timeout::TimeoutKind;

/// Bytes read at once; also the maximum of unparsed input that a connection keeps, in addition to one head.
const READ_BUFFER: usize = 64 << 10;
/// The maximum number of reads from one socket in one loop iteration.
pub(crate) const READS_PER_ITERATION: usize = 4;

/// All connections of one worker.
pub(crate) struct Connections<S> {
    slab: PagedSlab<Connection<S>>,
    /// The serial of the newest connection.
    serials: u64,
    /// Connections that have something to do, in the order in which they are driven.
    ready: VecDeque<usize>,
    /// Connections whose publish is processed in slices. They are driven after those in `ready`, so that a small request does
    /// not wait for the slices of large ones.
    working: VecDeque<usize>,
    /// Connections whose publish waits for room in the hub.
    parked: VecDeque<usize>,
    /// Connections whose token waits to be verified.
    delayed: Delayed,
    memory: BufferMemory,
    /// What is left for driving connections in this part of the loop iteration.
    budget: Budget,
    read_buffer: Box<[u8]>,
    /// Gathers the output of the connection that is being driven.
    output: Vec<u8>,
    /// What the worker has not carried out yet.
    effects: VecDeque<Effect<S>>,
    is_draining: bool,
}

impl<S: Stream> Connections<S> {
    /// Creates an empty set for one of `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            slab: PagedSlab::default(),
            serials: 0,
            ready: VecDeque::new(),
            working: VecDeque::new(),
            parked: VecDeque::new(),
            delayed: Delayed::default(),
            memory: BufferMemory::for_one_of(workers),
            budget: Budget::new(0, 0),
            read_buffer: vec![0; READ_BUFFER].into(),
            output: Vec::new(),
            effects: VecDeque::new(),
            is_draining: false,
        }
    }

    /// Returns whether there are no connections.
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Returns whether all connections are the administration's.
    pub(crate) fn has_only_administration(&self) -> bool {
        self.slab.iter().all(|(_, connection)| connection.is_admin())
    }

    /// Returns whether connections are queued to be driven.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || !self.working.is_empty()
    }

    /// Returns whether connections wait for room in the hub, or for the permission to verify a token. Nothing reports these.
    pub(crate) fn must_retry(&self) -> bool {
        !self.parked.is_empty() || !self.delayed.is_empty()
    }

    /// Returns the bytes of all buffers together.
    pub(crate) fn buffered(&self) -> usize {
        self.memory.bytes()
    }

    /// Returns the buffer for one read, which keeps nothing.
    pub(crate) fn read_buffer(&mut self) -> &mut [u8] {
        &mut self.read_buffer
    }

    /// Takes the next effect to be carried out.
    pub(crate) fn next_effect(&mut self) -> Option<Effect<S>> {
        self.effects.pop_front()
    }

    /// Registers a new connection, and queues it: its first request may be here already. Returns it if the reactor refuses
    /// its socket.
    pub(crate) fn add<K: Reactor<Stream = S>>(
        &mut self,
        mut accepted: Accepted<S>,
        cx: &IterationContext,
        reactor: &K,
    ) -> Result<(), Accepted<S>> {
        let key = self.slab.vacant_key();
        if reactor.register(&mut accepted.socket, SocketKey::Connection(key).token()).is_err() {
            return Err(accepted);
        }
        let Accepted { socket, role, address } = accepted;
        let limit = TimeoutKind::First.limit(&cx.service.settings, role, self.is_draining);
        self.serials += 1;
        self.slab.insert(Connection::new(self.serials, socket, role, address, cx.now.millis + limit.millis));
        self.enqueue(key);
        Ok(())
    }

    /// Queues a connection that the poller reported.
    pub(crate) fn notify(&mut self, key: usize, readiness: Readiness) {
        if let Some(connection) = self.slab.get_mut(key) {
            connection.notify(readiness);
            self.enqueue(key);
        }
    }

    /// Queues a connection to be driven after those that are queued already; one that is queued keeps its place.
    fn enqueue(&mut self, key: usize) {
        if !std::mem::replace(&mut self.slab[key].queues.is_ready, true) {
            self.queue_of(key).push_back(key);
        }
    }

    fn queue_of(&mut self, key: usize) -> &mut VecDeque<usize> {
        let is_working = self.slab[key].exchange.awaited() == TimeoutKind::Work;
        if is_working { &mut self.working } else { &mut self.ready }
    }

    fn id_of(&self, key: usize) -> ConnectionId {
        ConnectionId { key, serial: self.slab[key].serial }
    }

    /// Returns a connection unless it was closed since.
    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        self.slab.get_mut(id.key).filter(|connection| connection.serial == id.serial)
    }

    /// Hands the socket of a connection whose opening is written over to the stream.
    fn begin_stream(&mut self, key: usize) {
        let connection = self.slab.remove(key);
        self.memory.forget(connection.memory.counted);
        self.effects.push_back(Effect::BeginStream(key, connection.socket, connection.role));
    }

    fn close(&mut self, key: usize, cx: &IterationContext) {
        let connection = self.slab.remove(key);
        self.memory.forget(connection.memory.counted);
        if connection.phase == Phase::Opening {
            let is_late = connection.timer.deadline() <= cx.now.millis;
            self.effects.push_back(Effect::AbandonStream(key, if is_late { Close::Stalled } else { Close::Peer }));
        }
        self.effects.push_back(Effect::Close(connection.socket, connection.role));
    }
}

impl<S> Shrink for Connections<S> {
    fn shrink_if_sparse(&mut self) {
        self.ready.shrink_if_sparse();
        self.working.shrink_if_sparse();
        self.parked.shrink_if_sparse();
        self.delayed.shrink_if_sparse();
        self.effects.shrink_if_sparse();
    }
}
