//! Looks up whether records exist, on a thread and a connection of its own: a stream that resumes must not wait behind pages
//! of histories.

use std::ops::ControlFlow;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::Connection;

use crate::store::error::{Fault, StoreError};
use crate::store::queue::Completion;
use crate::store::state::{Mode, Shared};
use crate::store::tables::schema;

/// The maximum number of waiting lookups. Each takes about 200 bytes and a few microseconds.
const MAX_WAITING: usize = 16_384;

enum Request {
    Find { id: u64, completion: Completion<bool> },
    Close,
}

/// Submits lookups to the [`LookupReader`].
pub(in crate::store) struct LookupHandle {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

/// Runs lookups.
pub(in crate::store) struct LookupReader {
    connection: Connection,
    requests: Receiver<Request>,
}

/// Returns a reader with the handle to it.
pub(in crate::store) fn lookup(connection: Connection, shared: &Arc<Shared>) -> (LookupHandle, LookupReader) {
    let (sender, requests) = bounded(MAX_WAITING);
    (LookupHandle { requests: sender, shared: Arc::clone(shared) }, LookupReader { connection, requests })
}

impl LookupHandle {
    /// Submits a lookup, or completes it with an error if that is not possible.
    pub fn submit(&self, id: u64, completion: Completion<bool>) {
        if self.shared.mode() == Mode::Closed {
            return completion.send(Err(StoreError::Closed));
        }
        // If the reader has ended, this drops the request, which completes it with `Closed`.
        if let Err(TrySendError::Full(Request::Find { completion, .. })) =
            self.requests.try_send(Request::Find { id, completion })
        {
            completion.send(Err(StoreError::Busy));
        }
    }

    /// Ends the reader once it has run the lookups submitted so far.
    pub fn close(&self) {
        let _ = self.requests.send(Request::Close);
    }
}

impl LookupReader {
    /// Runs until the store is closed.
    pub fn run(self) {
        while let Ok(request) = self.requests.recv()
            && self.look_up(request).is_continue()
        {}
    }

    /// Runs one lookup, if one is waiting.
    #[cfg(feature = "internals")]
    pub fn step(&self) {
        if let Ok(request) = self.requests.try_recv() {
            let _ = self.look_up(request);
        }
    }

    fn look_up(&self, request: Request) -> ControlFlow<()> {
        let Request::Find { id, completion } = request else { return ControlFlow::Break(()) };
        let exists = exists(&self.connection, id);
        completion.send(exists.map_err(|error| Fault::into_read_error(error, "whether a record exists")));
        ControlFlow::Continue(())
    }
}

fn exists(connection: &Connection, id: u64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM records WHERE id = ?1")?.exists([schema::to_sql(id)])
}
