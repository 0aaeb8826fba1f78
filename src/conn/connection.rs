//! A connection that speaks HTTP: its socket, its exchange, and the bytes that could not yet be parsed or written. Buffers
//! exist only while they hold something.

use std::io;
use std::net::IpAddr;

use crate::conn::exchange::Exchange;
use crate::conn::timeout::{TimeoutKind, Timer};
use crate::net::{ListenerRole, ReadOutcome, Readiness, Stream, read};
use crate::quota::PageReservation;

/// Bytes of unwritten output from which on no further request is parsed.
pub(crate) const MAX_OUTPUT: usize = 64 << 10;
/// Bytes that are read and dropped after a response that ends the connection, so that the client receives the response
/// instead of a reset.
const MAX_LINGER_BYTES: usize = 64 << 20;

/// A phase in a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are parsed and responses are written.
    Exchanging,
    /// The opening of a stream is being written.
    Opening,
    /// The last response is being written.
    Ending,
    /// The writing side is shut down; up to this many bytes are still read and dropped.
    Lingering(usize),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    /// Distinguishes the connection from others that had its key.
    pub(super) serial: u64,
    pub(super) socket: S,
    /// What is served on it.
    pub(super) role: ListenerRole,
    /// The peer's IP address; `None` for a Unix socket.
    pub(super) address: Option<IpAddr>,
    pub(super) phase: Phase,
    pub(super) exchange: Exchange,
    /// Bytes that were read and not yet parsed.
    pub(super) input: Vec<u8>,
    /// Bytes that are not yet written.
    pub(super) output: Vec<u8>,
    pub(super) readability: Readability,
    pub(super) queues: QueueFlags,
    pub(super) timer: Timer,
    pub(super) memory: MemoryUse,
}

/// What is known of a socket's receive buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readability {
    /// Whether a read may return something.
    pub(super) is_readable: bool,
    /// Whether the poller has reported the end of the input. No further edge follows, so even a short read does not mean
    /// that the buffer is empty.
    pub(super) has_ended: bool,
}

/// The queues that have a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueFlags {
    /// One of the two queues of connections to drive.
    pub(super) is_ready: bool,
    /// The queue of publishes that wait for room in the hub.
    pub(super) is_parked: bool,
    /// The queue of tokens that wait to be verified.
    pub(super) is_delayed: bool,
}

/// How a connection's buffers are accounted for.
#[derive(Debug, Default)]
pub(super) struct MemoryUse {
    /// The reservation for the output, if that is a page of a record's history.
    pub(super) page: Option<PageReservation>,
    /// The part of [`Connection::buffered`] that is included in the count of all buffers.
    pub(super) counted: usize,
}

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlushOutcome {
    /// Everything is written.
    All,
    /// The socket is full; an edge will report room.
    Blocked,
    /// The connection is broken.
    Gone,
}

impl<S: Stream> Connection<S> {
    /// Creates a connection that has just been accepted, and that must send its first request by the deadline.
    pub(super) fn new(serial: u64, socket: S, role: ListenerRole, address: Option<IpAddr>, deadline: u64) -> Self {
        Self {
            serial,
            socket,
            role,
            address,
            phase: Phase::Exchanging,
            exchange: Exchange::default(),
            input: Vec::new(),
            output: Vec::new(),
            readability: Readability { is_readable: true, has_ended: false },
            queues: QueueFlags::default(),
            timer: Timer::new(TimeoutKind::First, deadline),
            memory: MemoryUse::default(),
        }
    }

    /// Returns the address of the client whose head was read last: the peer's, unless the peer is a trusted proxy.
    pub(super) fn client_address(&self) -> Option<IpAddr> {
        self.exchange.client_address(self.address)
    }

    /// Returns whether it belongs to the administration.
    pub(super) fn is_admin(&self) -> bool {
        self.role == ListenerRole::Administration
    }

    /// Returns what is being waited for now; the timer has what was waited for when the connection was last driven.
    pub(super) fn awaited(&self) -> TimeoutKind {
        match self.phase {
            Phase::Lingering(_) => TimeoutKind::Linger,
            _ if !self.output.is_empty() => TimeoutKind::Output,
            _ => self.exchange.awaited(),
        }
    }

    /// Returns how many bytes its buffers take, except a page, which has a budget of its own.
    pub(super) fn buffered(&self) -> usize {
        self.input.capacity() + if self.memory.page.is_some() { 0 } else { self.output.capacity() }
    }

    /// Returns whether nothing of its next request was read, and nothing of its responses is left to send.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Exchanging
            && matches!(self.awaited(), TimeoutKind::First | TimeoutKind::Next)
            // Its next request may be here already.
            && !self.queues.is_ready
            && self.input.is_empty()
    }

    /// Notes what the poller reported.
    pub(super) fn notify(&mut self, readiness: Readiness) {
        self.readability.is_readable |= readiness.is_readable || readiness.has_ended;
        self.readability.has_ended |= readiness.has_ended;
    }

    /// Returns whether to read before parsing. Complete requests that wait for room in the output are parsed first, so that the
    /// input stays bounded and the end of the input is not noticed before the requests are handled.
    pub(super) fn wants_read(&self) -> bool {
        let is_part_of_a_head = self.exchange.awaited() == TimeoutKind::Head;
        self.readability.is_readable && (self.input.is_empty() || is_part_of_a_head)
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket: an edge will report more.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let outcome = read(&mut self.socket, buffer);
        self.readability.is_readable = match outcome {
            ReadOutcome::Bytes(count) => {
                self.timer.count_read(count);
                count == buffer.len() || self.readability.has_ended
            }
            ReadOutcome::Nothing | ReadOutcome::End => false,
        };
        outcome
    }

    /// Writes what is left of earlier output, and then `fresh`. What the socket does not accept is kept.
    pub(super) fn flush(&mut self, fresh: &mut Vec<u8>) -> FlushOutcome {
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
        self.timer.count_written(written);
        if written < bytes.len() {
            self.output = bytes[written..].to_vec();
            return FlushOutcome::Blocked;
        }
        self.memory.page = None;
        FlushOutcome::All
    }

    /// Shuts down the writing side after the last response; from then on input is read and dropped.
    pub(super) fn begin_lingering(&mut self) -> io::Result<()> {
        self.socket.shutdown_write()?;
        self.phase = Phase::Lingering(MAX_LINGER_BYTES);
        Ok(())
    }
}
