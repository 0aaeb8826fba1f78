//! The memory of all buffers of connections together: answers that clients have not taken, and requests that wait behind
//! them. Each connection has bounds of its own, but thousands of clients that ask and read nothing would reach them all.
//!
//! Each worker keeps its connections within an equal part of one bound, so that no thread asks another. At its bound it
//! closes those that have taken nothing for longest, as their deadlines tell: a client that reads is among the last. Bodies
//! and pages of histories are not counted here; they have budgets of their own.

use super::{Reactor, Worker};
use crate::conn::connection::Connection;
use crate::metrics::Unread;

/// Bytes of all connections' buffers together.
const MAX_BYTES: usize = 64 << 20;
/// A worker's part is never smaller: some of the largest answers fit into it.
const MIN_BYTES_PER_WORKER: usize = 1 << 20;

/// What one worker's connections have in their buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    bytes: usize,
    limit: usize,
}

impl Buffers {
    /// Nothing yet, of one of so many workers.
    pub(crate) fn of_one_of(workers: usize) -> Self {
        Self { bytes: 0, limit: (MAX_BYTES / workers).max(MIN_BYTES_PER_WORKER) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A connection that was counted with this much is closed.
    pub(crate) fn forget(&mut self, counted: usize) {
        self.bytes -= counted;
    }

    /// The bytes to be left when the bound is exceeded: less than the bound, so that not every connection from then on has
    /// to look for one to close.
    fn target(&self) -> usize {
        self.limit / 8 * 7
    }
}

impl<K: Reactor> Worker<K> {
    /// Counts a connection's buffers anew, and closes connections if all have too much.
    pub(crate) fn count_buffers(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let now = connection.buffered();
        let before = std::mem::replace(&mut connection.counted, now);
        self.buffers.bytes = self.buffers.bytes + now - before;
        if now > before && self.buffers.bytes > self.buffers.limit {
            self.close_unread();
        }
    }

    /// Closes the connections whose answers have not been taken for longest, until the rest has room.
    fn close_unread(&mut self) {
        // What has only input goes last: it may be a part of a request whose sender does nothing wrong.
        let order = |connection: &Connection<K::Stream>| (connection.output.is_empty(), connection.deadline);
        let counted = self.connections.iter().filter(|(_, connection)| connection.counted > 0);
        let mut keys: Vec<_> = counted.map(|(key, connection)| (order(connection), key)).collect();
        keys.sort_unstable();
        let target = self.buffers.target();
        for (_, key) in keys {
            if self.buffers.bytes <= target {
                return;
            }
            self.parts.service.metrics.worker(self.parts.id).unread_closed.count(Unread::Memory as usize);
            self.close(key);
        }
    }
}
