//! A door: a listener, and for what those who come through it may ask. A connection of a Unix socket is kept in a
//! `TcpStream` like any other: reading, writing, shutting down and polling are the same system calls, and TCP's options, which
//! such a socket refuses, are wishes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::api::ListenerRole;
use crate::net::reactor::Listen;

/// The system is asked, and not waited for.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// See the module's page.
#[derive(Debug)]
pub struct BoundListener<L = Listener> {
    /// What is listened on.
    pub listener: L,
    /// What is served to those who come through it.
    pub role: ListenerRole,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener),
}

impl Listen for Listener {
    type Stream = TcpStream;

    /// IPv4 through a dual-stack socket is IPv4.
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
        poll(&mut [PollFd::from_borrowed_fd(listener, PollFlags::IN)], Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }
}

impl Listener {
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}
