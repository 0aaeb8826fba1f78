//! What a worker stands on: sockets, listeners and readiness. The real one is the [`MioPoller`](super::MioPoller) on mio; a
//! simulation brings one of its own, so that a whole worker is driven from a seed. Refuses to know what is said.

use std::fmt::Debug;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::Token;

use crate::hub::WakeFn;
use crate::stream::subscriber::Socket;

/// A connection's socket.
pub trait Stream: Socket + Read + Debug + Send + 'static {
    /// Nothing more will be written: the peer reads to the end.
    fn shut(&self) -> io::Result<()>;

    /// No other open socket has this number.
    fn number(&self) -> RawFd;
}

/// A listening socket.
pub trait Listen: Debug + Send {
    /// What its connections are.
    type Stream: Stream;

    /// The next connection, and the IP address it comes from.
    fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Whether a connection waits to be accepted.
    fn has_pending(&self) -> bool;
}

/// See the module's page. Readiness is edge-triggered.
pub trait Reactor: Send {
    /// The sockets.
    type Stream: Stream;
    /// The listeners.
    type Listener: Listen<Stream = Self::Stream>;

    /// What wakes the worker from any other thread.
    fn bell(&self) -> WakeFn;

    /// Waits until something is ready, the bell rings or the time is over, and tells what is ready.
    fn wait(&mut self, timeout: Option<Duration>, seen: &mut Vec<Readiness>) -> io::Result<()>;

    /// From now on what comes to this listener is told.
    fn listen(&self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;

    /// A connection's socket: only what it says matters, until its output blocks.
    fn register(&self, socket: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// A socket whose output is blocked, or that becomes a subscriber's: room matters, too.
    fn register_both(&self, socket: &mut Self::Stream, token: Token) -> io::Result<()>;
}

/// One event of the poll, copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What it is about.
    pub token: Token,
    /// A read may find something.
    pub is_readable: bool,
    /// A write may find room.
    pub is_writable: bool,
    /// The peer has ended its side, or the connection is broken.
    pub has_ended: bool,
}
