//! Sockets and readiness: the poller, the listeners, the acceptor and the limits on connections. Independent of HTTP.

pub(crate) mod acceptor;
pub(crate) mod connection_limiter;
pub(crate) mod listener;
pub(crate) mod poller;
pub(crate) mod reactor;

pub use connection_limiter::ConnectionLimiter;
pub use listener::{BoundListener, Listener};
pub use poller::{MioPoller, VANISHED_MILLIS};
pub use reactor::{Listen, Reactor, Readiness, Stream};
