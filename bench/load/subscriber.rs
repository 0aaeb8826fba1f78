//! One listener of the load: a socket, the number of the event it waits for, and how far into it the stream is.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::num::NonZeroU32;
use std::time::Instant;

use mio::net::TcpStream;

use super::marker::Reader;
use super::{Histogram, PATIENCE, connect_to, is_whole};
use crate::servers::Failure;

/// What all subscribers of a load saw.
#[derive(Default)]
pub struct Tally {
    /// Streams that began.
    pub opened: u64,
    /// Events that came, each once and in order.
    pub delivered: u64,
    /// Events that were left out.
    pub lost: u64,
    /// Events that came again or too late.
    pub doubled: u64,
    /// Streams that ended.
    pub ended: u64,
    /// From when an event was due until it was read.
    pub latency: Histogram,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, delivered, lost, doubled, ended, .. } = self;
        write!(f, "{opened} opened, {delivered} delivered, {lost} lost, {doubled} doubled, {ended} ended")
    }
}

impl Tally {
    /// An error if an event came again or too late, or a stream ended.
    pub fn check(&self) -> Result<(), Failure> {
        if self.doubled + self.ended == 0 { Ok(()) } else { Err(format!("this should not be: {self}").into()) }
    }
}

/// See the module's page.
pub struct Subscriber {
    socket: TcpStream,
    /// The number of the event that comes next, once that is known.
    next: Option<NonZeroU32>,
    reader: Reader,
    is_open: bool,
}

/// Asks for a stream.
pub fn open(mut socket: net::TcpStream, request: &str) -> Result<TcpStream, Failure> {
    socket.write_all(request.as_bytes())?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket))
}

/// Sends a request on a connection of its own, and waits for the whole answer.
pub fn ask(server: SocketAddr, request: &str) -> Result<String, Failure> {
    let mut socket = connect_to(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    while !is_whole(&answer)? {
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes)?;
        if count == 0 {
            return Err(format!("the connection ended after {:?}", String::from_utf8_lossy(&answer)).into());
        }
        answer.extend_from_slice(&bytes[..count]);
    }
    Ok(String::from_utf8(answer)?)
}

impl Subscriber {
    /// Whoever asked for a stream on this socket; its first event is `next`, or whichever comes.
    pub fn new(socket: TcpStream, next: Option<NonZeroU32>) -> Self {
        Self { socket, next, reader: Reader::default(), is_open: false }
    }

    /// Reads all that is there.
    pub fn handle_readable(&mut self, scratch: &mut [u8], epoch: Instant, tally: &mut Tally) -> Result<(), Failure> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => {
                    tally.ended += 1;
                    return Ok(());
                }
                Ok(count) => {
                    self.take(&scratch[..count], epoch, tally)?;
                    // All that was there: more would be told by another edge.
                    if count < scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    tally.ended += 1;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], epoch: Instant, tally: &mut Tally) -> Result<(), Failure> {
        if !self.is_open {
            if !bytes.starts_with(b"HTTP/1.1 200") {
                return Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned()).into());
            }
            self.is_open = true;
            tally.opened += 1;
        }
        let now = epoch.elapsed().as_nanos() as u64;
        let next = &mut self.next;
        self.reader.read(bytes, |sequence, due| {
            tally.latency.add(now.saturating_sub(due));
            match sequence.checked_sub(next.map_or(sequence, NonZeroU32::get)) {
                Some(left_out) => {
                    tally.delivered += 1;
                    tally.lost += u64::from(left_out);
                    *next = NonZeroU32::new(sequence + 1);
                }
                None => tally.doubled += 1,
            }
        });
        Ok(())
    }
}
