//! A connection while it speaks HTTP: its socket, its exchange, and what could not yet be
//! understood or written. Buffers exist only while they hold something.

use std::io::{self, Read};
use std::net::IpAddr;

use crate::api::ListenerRole;
use crate::conn::exchange::Exchange;
use crate::conn::min_rate::Progress;
use crate::net::reactor::Stream;
use crate::quota::PageReservation;
use crate::stream::PendingSubscription;

/// So much unwritten output, and no further request is looked at before it is written.
pub const MAX_OUTPUT: usize = 64 << 10;
/// So much is read and dropped after an answer that ends the connection, so that the client sees the
/// answer and not a reset.
pub const MAX_LINGER_BYTES: usize = 64 << 20;

/// What a connection's peer is being waited for; each has its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutKind {
    /// The first request on a new connection.
    First,
    /// Another request.
    Next,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The broker's own work on a large publish.
    Work,
    /// The rest of a body that is dropped.
    Drop,
    /// Room in the hub for a publish.
    Room,
    /// The store's answer.
    Store,
    /// The store's answer to whether a stream's position exists.
    Lookup,
    /// That a token from its address may be verified.
    Verification,
    /// Room in the socket for output.
    Output,
    /// The peer's end, after ours.
    Linger,
}

/// Where a connection is.
#[derive(Debug)]
pub enum Phase {
    /// Requests and answers.
    Talking,
    /// The opening of a stream is being written.
    Opening(PendingSubscription),
    /// The last answer is being written.
    Ending,
    /// Our side is closed; so many bytes more are read and dropped.
    Lingering(usize),
}

/// See the module's page.
#[derive(Debug)]
pub struct Connection<S> {
    /// No other connection of the worker has or had this number.
    pub serial: u64,
    /// Where bytes come from and go to.
    pub socket: S,
    /// What it may ask for.
    pub role: ListenerRole,
    /// The IP address it comes from; `None` through a Unix socket.
    pub address: Option<IpAddr>,
    /// Where it is.
    pub phase: Phase,
    /// What it is saying.
    pub exchange: Exchange,
    /// Bytes read and not yet understood.
    pub input: Vec<u8>,
    /// Bytes not yet written.
    pub output: Vec<u8>,
    /// The memory that is reserved for the output, if that is an audit page.
    pub held: Option<PageReservation>,
    /// Whether a read may find something.
    pub is_readable: bool,
    /// Whether its end has been reported: whatever is read, there is more to read until the end itself is.
    pub has_ended: bool,
    /// Whether one of the worker's queues of connections to drive has it.
    pub is_queued: bool,
    /// Whether the queue of connections whose publish waits has it.
    pub is_parked: bool,
    /// Whether the queue of connections whose token waits to be verified has it.
    pub is_delayed: bool,
    /// Bytes written since the deadline was last set.
    pub bytes_written: usize,
    /// Bytes read since then.
    pub bytes_read: usize,
    /// What is being waited for.
    pub patience: TimeoutKind,
    /// Until when, in the worker's milliseconds.
    pub deadline: u64,
    /// How far ahead of its least rate the transfer is that is being waited for.
    pub progress: Progress,
    /// What the worker has counted of [`Connection::buffered`].
    pub counted: usize,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The peer has closed its side, or the connection is broken.
    End,
}

/// What flushing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    /// Nothing is left to write.
    All,
    /// The socket is full; an edge will tell of room.
    Blocked,
    /// The peer is gone.
    Gone,
}

impl<S: Stream> Connection<S> {
    /// A connection that has just been accepted.
    pub fn new(serial: u64, socket: S, role: ListenerRole, address: Option<IpAddr>, deadline: u64) -> Self {
        Self {
            serial,
            socket,
            role,
            address,
            phase: Phase::Talking,
            exchange: Exchange::default(),
            input: Vec::new(),
            output: Vec::new(),
            held: None,
            is_readable: true,
            has_ended: false,
            is_queued: false,
            is_parked: false,
            is_delayed: false,
            bytes_written: 0,
            bytes_read: 0,
            patience: TimeoutKind::First,
            deadline,
            progress: Progress::default(),
            counted: 0,
        }
    }

    /// Whether it came through the administration's door.
    pub fn is_admins(&self) -> bool {
        self.role == ListenerRole::Administration
    }

    /// What it waits for.
    pub fn patience_now(&self) -> TimeoutKind {
        match self.phase {
            Phase::Lingering(_) => TimeoutKind::Linger,
            _ if !self.output.is_empty() => TimeoutKind::Output,
            _ => self.exchange.patience(),
        }
    }

    /// Returns how much memory its buffers take, beside what is held in a ledger.
    pub fn buffered(&self) -> usize {
        self.input.capacity() + if self.held.is_some() { 0 } else { self.output.capacity() }
    }

    /// Returns whether nothing of its next request has been read, and nothing of its answers is left to send.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Talking)
            && matches!(self.patience_now(), TimeoutKind::First | TimeoutKind::Next)
            // Its next request may be here already.
            && !self.is_queued
            && self.input.is_empty()
    }

    /// Whether to read before going on. Whole requests that wait for room in the output come first: what is
    /// kept of the input stays bounded, and the peer's end is not noticed before they are answered.
    pub fn wants_more(&self) -> bool {
        let is_part_of_a_head = self.exchange.patience() == TimeoutKind::Head;
        self.is_readable && (self.input.is_empty() || is_part_of_a_head)
    }

    /// Reads once. A buffer that is not filled has emptied the socket: an edge will tell of more.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        match read(&mut self.socket, buffer) {
            ReadOutcome::Bytes(count) => {
                self.is_readable = count == buffer.len() || self.has_ended;
                self.bytes_read += count;
                ReadOutcome::Bytes(count)
            }
            got => {
                self.is_readable = false;
                got
            }
        }
    }

    /// Writes what has gathered in `fresh`; what the socket does not take is kept.
    pub fn flush(&mut self, fresh: &mut Vec<u8>) -> FlushOutcome {
        let mut pending = std::mem::take(&mut self.output);
        let bytes = if pending.is_empty() {
            fresh
        } else {
            pending.append(fresh);
            &mut pending
        };
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.write(&bytes[written..]) {
                Ok(0) => return FlushOutcome::Gone,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return FlushOutcome::Gone,
            }
        }
        self.bytes_written += written;
        if written < bytes.len() {
            self.output = bytes[written..].to_vec();
            return FlushOutcome::Blocked;
        }
        self.held = None;
        FlushOutcome::All
    }
}

/// Reads once from any socket.
pub fn read(socket: &mut impl Read, buffer: &mut [u8]) -> ReadOutcome {
    loop {
        match socket.read(buffer) {
            Ok(0) => return ReadOutcome::End,
            Ok(count) => return ReadOutcome::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ReadOutcome::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return ReadOutcome::End,
        }
    }
}
