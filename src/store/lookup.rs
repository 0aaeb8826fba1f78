//! The thread that looks up whether records exist, on a connection of its own: a stream that resumes must not wait behind
//! pages of histories. Independent of why anybody asks.

use std::ops::ControlFlow;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::Connection;

use super::error::{Fault, StoreError};
use super::queue::Completion;
use super::schema;
use super::state::{Mode, Shared};

/// Lookups that wait at most. Each takes some 200 bytes and a few microseconds.
const MAX_WAITING: usize = 16_384;

enum Request {
    Find { id: u64, reply: Completion<bool> },
    Close,
}

/// The end of those who ask.
pub(super) struct Lookup {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

/// The thread's end.
pub(super) struct Finder {
    connection: Connection,
    requests: Receiver<Request>,
}

/// Makes both ends.
pub(super) fn lookup(connection: Connection, shared: &Arc<Shared>) -> (Lookup, Finder) {
    let (sender, requests) = bounded(MAX_WAITING);
    (Lookup { requests: sender, shared: Arc::clone(shared) }, Finder { connection, requests })
}

impl Lookup {
    pub fn ask(&self, id: u64, reply: Completion<bool>) {
        if self.shared.mode() == Mode::Closed {
            return reply.send(Err(StoreError::Closed));
        }
        // After the end nobody takes it, and its reply says so.
        if let Err(TrySendError::Full(Request::Find { reply, .. })) =
            self.requests.try_send(Request::Find { id, reply })
        {
            reply.send(Err(StoreError::Busy));
        }
    }

    /// What waits by now is the last.
    pub fn close(&self) {
        let _ = self.requests.send(Request::Close);
    }
}

impl Finder {
    /// Runs until the store is closed.
    pub fn run(self) {
        while let Ok(request) = self.requests.recv()
            && self.answer(request).is_continue()
        {}
    }

    /// Answers one of those who wait, if somebody does.
    pub fn turn(&self) {
        if let Ok(request) = self.requests.try_recv() {
            let _ = self.answer(request);
        }
    }

    fn answer(&self, request: Request) -> ControlFlow<()> {
        let Request::Find { id, reply } = request else { return ControlFlow::Break(()) };
        let exists = exists(&self.connection, id);
        reply.send(exists.map_err(|error| Fault::answer_read(error, "whether a record exists")));
        ControlFlow::Continue(())
    }
}

fn exists(connection: &Connection, id: u64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM records WHERE id = ?1")?.exists([schema::to_sql(id)])
}
