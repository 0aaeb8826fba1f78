//! The reactor a worker runs on: listeners and readiness. The real one is [`MioPoller`](super::MioPoller); a simulation
//! has its own, so that a whole worker can be driven from a seed.

use std::fmt::Debug;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::hub::WakeFn;
use crate::net::socket::Stream;
use crate::net::token::Token;

/// A listening socket.
pub trait Listen: Debug + Send {
    /// The sockets of its connections.
    type Stream: Stream;

    /// Accepts the next connection. Returns its socket and the peer's IP address; `None` for a Unix socket.
    fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)>;

    /// Returns whether a connection waits to be accepted.
    fn has_pending(&self) -> bool;
}

/// Waits for readiness, which is edge-triggered.
pub trait Reactor: Send {
    /// The sockets of connections and subscribers.
    type Stream: Stream;
    /// The listeners.
    type Listener: Listen<Stream = Self::Stream>;

    /// Returns a function that wakes the worker from any other thread.
    fn waker(&self) -> WakeFn;

    /// Waits until a socket is ready, the waker is called or the timeout is over. Appends what is ready to `events`.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()>;

    /// Registers a listener.
    fn listen(&self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;

    /// Registers a new connection's socket for reading. Room for writing matters only once its output blocks.
    fn register(&self, socket: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Registers a known socket for reading and writing: its output is blocked, or it becomes a subscriber's.
    fn register_both(&self, socket: &mut Self::Stream, token: Token) -> io::Result<()>;
}

/// One event of the poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Names the socket.
    pub token: Token,
    /// Whether a read may return something.
    pub is_readable: bool,
    /// Whether a write may find room.
    pub is_writable: bool,
    /// Whether the peer has ended its side, or the connection is broken.
    pub has_ended: bool,
}
