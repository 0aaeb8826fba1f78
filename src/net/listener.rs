//! Listeners, and what is served on their connections. A Unix socket's connection is kept in a `TcpStream` like any other:
//! reading, writing, shutting down and polling are the same system calls, and a failure to set TCP's options is ignored.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::net::reactor::Listen;

/// Makes a poll return at once.
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What is served on a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRole {
    /// Everything.
    All,
    /// Everything except the administration's routes, which have a listener of their own.
    Public,
    /// The administration's routes.
    Administration,
}

/// A bound listener and its role.
#[derive(Debug)]
pub struct BoundListener<L = Listener> {
    /// The listening socket.
    pub listener: L,
    /// What is served on its connections.
    pub role: ListenerRole,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Listens on a TCP port.
    Tcp(TcpListener),
    /// Listens on a path in the file system.
    Unix(UnixListener),
}

impl Listen for Listener {
    type Stream = TcpStream;

    /// Reports an IPv4 peer of a dual-stack socket as IPv4.
    fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(socket, peer)| (socket, Some(peer.ip().to_canonical()))),
            Self::Unix(listener) => listener.accept().map(|(socket, _)| (TcpStream::from(OwnedFd::from(socket)), None)),
        }
    }

    fn has_pending(&self) -> bool {
        let listener = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        };
        poll(&mut [PollFd::from_borrowed_fd(listener, PollFlags::IN)], Some(&NO_WAIT)).is_ok_and(|ready| ready > 0)
    }
}

impl Listener {
    /// Returns the socket for registration with mio.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}
