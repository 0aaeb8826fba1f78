//! One subscriber of the load: a socket, the number of the next event, and the position in its marker.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::marker::Reader;
use super::{Histogram, TIMEOUT, connect_to, is_whole};
use crate::servers::Failure;

/// Counters of all subscribers of a load.
#[derive(Default)]
pub struct Counters {
    /// Streams that began.
    pub opened: u64,
    /// Events that arrived once and in order.
    pub delivered: u64,
    /// Events that were skipped.
    pub lost: u64,
    /// Events that arrived again or too late.
    pub duplicated: u64,
    /// Streams that ended.
    pub ended: u64,
    /// Latency from when an event was due until it was read.
    pub latency: Histogram,
    /// Time from connect(2) until a stream began, and until its first event.
    pub opening: Histogram,
    pub first_event: Histogram,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, delivered, lost, duplicated, ended, .. } = self;
        write!(f, "{opened} opened, {delivered} delivered, {lost} lost, {duplicated} duplicated, {ended} ended")
    }
}

impl Counters {
    /// Fails if an event arrived again or too late, or a stream ended.
    pub fn check(&self) -> Result<(), Failure> {
        if self.duplicated + self.ended == 0 { Ok(()) } else { Err(format!("unexpected: {self}").into()) }
    }
}

/// A subscriber with an open stream.
pub struct Subscriber {
    socket: TcpStream,
    /// The number of the next event, once it is known.
    next: Option<NonZeroU32>,
    reader: Reader,
    /// When it began to connect: the time from the load's epoch, in microseconds.
    connected: u32,
    stage: Stage,
}

/// What a subscriber waits for.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Response,
    FirstEvent,
    MoreEvents,
}

/// Sends a request for a stream.
pub fn open(mut socket: net::TcpStream, request: &str) -> Result<TcpStream, Failure> {
    socket.write_all(request.as_bytes())?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket))
}

/// Sends a request for a stream on a new connection.
pub fn open_stream(server: SocketAddr, request: &str) -> Result<TcpStream, Failure> {
    open(connect_to(server)?, request)
}

/// Sends a request on a new connection, and waits for the complete response.
pub fn send_request(server: SocketAddr, request: &str) -> Result<String, Failure> {
    respond(&mut connect(server)?, request)
}

/// Sends requests on a new connection, each after the previous one's response.
pub fn send_requests(server: SocketAddr, requests: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut socket = connect(server)?;
    requests.into_iter().try_for_each(|request| respond(&mut socket, &request).map(drop))
}

fn connect(server: SocketAddr) -> io::Result<net::TcpStream> {
    let socket = connect_to(server)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// Sends a request, and waits for the complete response.
fn respond(socket: &mut net::TcpStream, request: &str) -> Result<String, Failure> {
    socket.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    while !is_whole(&response)? {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes)?;
        if count == 0 {
            return Err(format!("the connection ended after {:?}", String::from_utf8_lossy(&response)).into());
        }
        response.extend_from_slice(&bytes[..count]);
    }
    Ok(String::from_utf8(response)?)
}

impl Subscriber {
    /// Creates the subscriber for a stream requested on this socket, which began to connect this long after the load's epoch.
    /// The first event must be `next`, if given.
    pub fn new(socket: TcpStream, begin: Duration, next: Option<NonZeroU32>) -> Self {
        let connected = begin.as_micros() as u32;
        Self { socket, next, reader: Reader::default(), connected, stage: Stage::Response }
    }

    /// Reads everything that has arrived.
    pub fn handle_readable(
        &mut self,
        scratch: &mut [u8],
        epoch: Instant,
        counters: &mut Counters,
    ) -> Result<(), Failure> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => {
                    counters.ended += 1;
                    return Ok(());
                }
                Ok(count) => {
                    self.take(&scratch[..count], epoch, counters)?;
                    // All bytes have been read; new ones cause another edge.
                    if count < scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    counters.ended += 1;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], epoch: Instant, counters: &mut Counters) -> Result<(), Failure> {
        let now = epoch.elapsed().as_nanos() as u64;
        let waited = now.saturating_sub(u64::from(self.connected) * 1000);
        if self.stage == Stage::Response {
            if !bytes.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned()).into());
            }
            self.stage = Stage::FirstEvent;
            counters.opened += 1;
            counters.opening.add(waited);
        }
        let (next, stage) = (&mut self.next, &mut self.stage);
        self.reader.read(bytes, |sequence, due| {
            if *stage == Stage::FirstEvent {
                *stage = Stage::MoreEvents;
                counters.first_event.add(waited);
            }
            counters.latency.add(now.saturating_sub(due));
            match sequence.checked_sub(next.map_or(sequence, NonZeroU32::get)) {
                Some(left_out) => {
                    counters.delivered += 1;
                    counters.lost += u64::from(left_out);
                    *next = NonZeroU32::new(sequence + 1);
                }
                None => counters.duplicated += 1,
            }
        });
        Ok(())
    }
}
