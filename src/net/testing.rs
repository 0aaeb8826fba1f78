//! A socket and a reactor for tests.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use super::reactor::{Listen, Reactor, Readiness};
use super::socket::{Socket, Stream};
use super::token::Token;
use crate::hub::WakeFn;

/// A socket whose first write accepts up to `room` bytes, and whose later writes block.
#[derive(Debug, Default)]
pub(crate) struct TestSocket {
    room: usize,
    input: VecDeque<u8>,
    descriptor: RawFd,
}

impl TestSocket {
    /// Creates a socket whose first write accepts up to `room` bytes.
    pub(crate) fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Creates a socket with this descriptor that accepts nothing.
    pub(crate) fn with_descriptor(descriptor: RawFd) -> Self {
        Self { descriptor, ..Self::default() }
    }

    /// Adds bytes to be read from it.
    pub(crate) fn receiving(mut self, bytes: &[u8]) -> Self {
        self.input.extend(bytes);
        self
    }
}

impl Read for TestSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.input.read(buffer) }
    }
}

impl Write for TestSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(std::mem::take(&mut self.room));
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for TestSocket {
    fn set_patient(&self, _: bool) {}
}

impl Stream for TestSocket {
    fn shutdown_write(&self) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> RawFd {
        self.descriptor
    }
}

/// A reactor and a listener that never report anything.
#[derive(Debug)]
pub(crate) struct IdleReactor;

impl Listen for IdleReactor {
    type Stream = TestSocket;

    fn accept(&self) -> io::Result<(TestSocket, Option<IpAddr>)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn has_pending(&self) -> bool {
        false
    }
}

impl Reactor for IdleReactor {
    type Stream = TestSocket;
    type Listener = Self;

    fn waker(&self) -> WakeFn {
        Box::new(|| {})
    }

    fn wait(&mut self, _: Option<Duration>, _: &mut Vec<Readiness>) -> io::Result<()> {
        Ok(())
    }

    fn listen(&self, _: &mut Self, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn register(&self, _: &mut TestSocket, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn register_both(&self, _: &mut TestSocket, _: Token) -> io::Result<()> {
        Ok(())
    }
}
