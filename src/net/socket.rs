//! What a worker needs of a socket. The real one is mio's `TcpStream`; a simulation has its own.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

/// A socket that a stream of events is written to.
pub trait Socket: Write {
    /// Reports that the socket is full, or has room again. While it is full the kernel must not give up on the peer:
    /// its user timeout also runs while a peer that reads steadily keeps its window closed. The sweep finds peers that accept
    /// no bytes.
    fn set_patient(&self, is_patient: bool);
}

/// A connection's socket.
pub trait Stream: Socket + Read + Debug + Send + 'static {
    /// Shuts down the writing side: the peer reads to the end.
    fn shutdown_write(&self) -> io::Result<()>;

    /// Returns the descriptor, which no other open socket has.
    fn descriptor(&self) -> RawFd;
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// This many bytes were read.
    Bytes(usize),
    /// There is nothing to read now.
    Nothing,
    /// The peer has closed its side, or the connection is broken.
    End,
}

/// Reads once from a socket.
pub(crate) fn read(socket: &mut impl Read, buffer: &mut [u8]) -> ReadOutcome {
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
