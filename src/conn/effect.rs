//! What connections ask the worker to do, because it concerns what they do not own: streams, the store, the engine, and the limit
//! on connections.

use crate::api::Deferred;
use crate::api::subscribe::{Lookup, OpenStream};
use crate::metrics::Close;
use crate::net::ListenerRole;

/// Identifies a connection in replies that may arrive after it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    /// Its key in the slab, which another connection may have by then.
    pub(super) key: usize,
    /// Distinguishes it from others that had its key.
    pub(super) serial: u64,
}

/// Something for the worker to do. Effects are to be carried out in order, before the next connection is driven.
#[derive(Debug)]
pub(crate) enum Effect<S> {
    /// Have another thread answer a request; the reply goes to [`Connections::deliver`](super::Connections::deliver).
    Defer(ConnectionId, Deferred),
    /// Look up a stream's position; the reply goes to
    /// [`Connections::open_after_lookup`](super::Connections::open_after_lookup).
    LookUp(ConnectionId, Lookup),
    /// Prepare a stream whose opening is being written by the connection with this key.
    PrepareStream(usize, OpenStream),
    /// Begin the stream that was prepared for this key: its opening is written, and the socket is the subscriber's.
    BeginStream(usize, S, ListenerRole),
    /// Abandon the stream that was prepared for this key: its opening could not be written.
    AbandonStream(usize, Close),
    /// Close a connection's socket.
    Close(S, ListenerRole),
}
