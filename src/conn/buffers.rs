//! The memory of all buffers of connections together: responses that clients have not read, and requests that wait behind
//! them. Each connection has limits of its own, but thousands of clients that send requests and read nothing would reach them
//! all.
//!
//! Each worker keeps its connections within an equal part of one limit, so that threads need not coordinate. At its limit it
//! closes the connections that have accepted nothing for longest, judged by their deadlines; a client that reads is among the
//! last. Bodies and pages of histories are not counted here; they have budgets of their own.

use super::connection::Connection;
use super::{Connections, IterationContext};
use crate::metrics::Unread;
use crate::net::Stream;
use crate::quota::Limit;

/// Bytes of all connections' buffers together.
const MAX_BYTES: usize = 64 << 20;
/// A worker's part is never smaller: some of the largest responses fit into it.
const MIN_BYTES_PER_WORKER: usize = 1 << 20;

/// The bytes in the buffers of one worker's connections.
#[derive(Debug)]
pub(super) struct BufferMemory {
    bytes: usize,
    limit: usize,
}

impl BufferMemory {
    /// Creates an empty count with the limit of one of `workers` workers.
    pub(super) fn for_one_of(workers: usize) -> Self {
        Self { bytes: 0, limit: (MAX_BYTES / workers).max(MIN_BYTES_PER_WORKER) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Subtracts what was counted of a connection that is closed.
    pub(super) fn forget(&mut self, counted: usize) {
        self.bytes -= counted;
    }

    /// Returns the bytes to get below when the limit is exceeded. Less than the limit, so that not every connection from then
    /// on has to look for one to close.
    fn target(&self) -> usize {
        self.limit / 8 * 7
    }
}

impl<S: Stream> Connections<S> {
    /// Updates the count of a connection's buffers, and closes connections if all buffers together exceed the limit.
    pub(super) fn count_buffers(&mut self, key: usize, cx: &IterationContext) {
        let connection = &mut self.slab[key];
        let buffered = connection.buffered();
        let before = std::mem::replace(&mut connection.memory.counted, buffered);
        self.memory.bytes = self.memory.bytes + buffered - before;
        if buffered > before && self.memory.bytes > self.memory.limit {
            self.close_unread(cx);
        }
    }

    /// Closes the connections that have accepted no output for longest, until the others have room.
    fn close_unread(&mut self, cx: &IterationContext) {
        // Those with nothing but input go last: it may be part of a request whose sender does nothing wrong.
        let order = |connection: &Connection<S>| (connection.output.is_empty(), connection.timer.deadline());
        let counted = self.slab.iter().filter(|(_, connection)| connection.memory.counted > 0);
        let mut keys: Vec<_> = counted.map(|(key, connection)| (order(connection), key)).collect();
        keys.sort_unstable();
        let target = self.memory.target();
        for (_, key) in keys {
            if self.memory.bytes <= target {
                return;
            }
            cx.metrics().unread_closed.count(Unread::Memory as usize);
            let context = cx.request_context(self.slab[key].role, self.slab[key].client_address());
            cx.service.limits.refuse(Limit::Unread, cx.now.millis, || Some(context.client()));
            self.close(key, cx);
        }
    }
}
