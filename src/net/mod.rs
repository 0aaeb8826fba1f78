//! Sockets and readiness: the poller, the listeners, the acceptor and the limits on connections. Independent of HTTP, and
//! together with the binding of listeners in `broker` the only code that uses mio.

pub(crate) mod acceptor;
mod connection_limiter;
mod listener;
mod poller;
mod reactor;
mod socket;
#[cfg(test)]
pub(crate) mod testing;
mod token;

pub(crate) use connection_limiter::ConnectionLimiter;
pub(crate) use listener::{BoundListener, Listener, ListenerRole};
pub(crate) use poller::{MioPoller, VANISHED_MILLIS};
pub(crate) use socket::{ReadOutcome, read};
pub(crate) use token::SocketKey;

// What a simulation implements.
#[cfg(feature = "internals")]
pub use reactor::Listen;
pub use reactor::{Reactor, Readiness};
pub use socket::{Socket, Stream};
#[cfg(feature = "internals")]
pub use token::Token;
