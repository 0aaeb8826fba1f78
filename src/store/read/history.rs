//! Reads pages of histories, on a thread and a connection of its own. Every page is read in slices, and other requests have
//! their turns in between.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::page::{self, PageError, SliceOutcome};
use crate::quota::{Client, PageReservation};
use crate::records::page::PageBuilder;
use crate::records::schedule::Schedule;
use crate::records::{Page, PageQuery};
use crate::store::error::{Fault, StoreError};
use crate::store::queue::Completion;
use crate::store::state::Shared;

/// The maximum number of waiting requests.
const MAX_WAITING: usize = 1024;

/// Delivers a page with the reservation for its memory, which is held until the page is sent.
pub(in crate::store) type PageCompletion = Completion<(Page, PageReservation)>;

/// Submits requests to the [`HistoryReader`].
pub(in crate::store) struct HistoryHandle {
    requests: Arc<Requests>,
}

/// Reads the requested pages.
pub(in crate::store) struct HistoryReader {
    connection: Connection,
    requests: Arc<Requests>,
    shared: Arc<Shared>,
    /// The maximum number of rows in a slice.
    slice_rows: usize,
}

/// The waiting requests, shared by both ends.
struct Requests {
    waiting: Mutex<Waiting>,
    /// Notified when a request is added, and when the reader is closed.
    has_more: Condvar,
}

struct Waiting {
    schedule: Schedule<Request>,
    is_closed: bool,
}

struct Request {
    page: Box<PageBuilder>,
    completion: PageCompletion,
}

/// Returns a reader with the handle to it.
pub(in crate::store) fn history(
    connection: Connection,
    shared: &Arc<Shared>,
    slice_rows: usize,
) -> (HistoryHandle, HistoryReader) {
    let waiting = Waiting { schedule: Schedule::new(MAX_WAITING), is_closed: false };
    let requests = Arc::new(Requests { waiting: Mutex::new(waiting), has_more: Condvar::new() });
    let handle = HistoryHandle { requests: Arc::clone(&requests) };
    (handle, HistoryReader { connection, requests, shared: Arc::clone(shared), slice_rows })
}

impl HistoryHandle {
    /// Submits a request for a page, or completes it with an error if that is not possible.
    pub fn submit(&self, query: PageQuery, client: Client, reservation: PageReservation, completion: PageCompletion) {
        let request = Request { page: Box::new(PageBuilder::new(query, reservation)), completion };
        match self.requests.add(client, request) {
            Ok(()) => self.requests.has_more.notify_one(),
            Err((request, error)) => request.completion.send(Err(error)),
        }
    }

    /// Ends the reader once it has read the pages requested so far.
    pub fn close(&self) {
        self.requests.close();
    }
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, client: Client, request: Request) -> Result<(), (Request, StoreError)> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err((request, StoreError::Closed));
        }
        waiting.schedule.add(client, request).map_err(|request| (request, StoreError::Busy))
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.has_more.notify_all();
    }

    /// Removes and returns the request whose turn it is; waits for one if `must_wait`. `None`: none is waiting, or the
    /// reader is closed and all are read.
    fn next(&self, must_wait: bool) -> Option<(Client, Request)> {
        let mut waiting = self.lock();
        loop {
            let next = waiting.schedule.next();
            if next.is_some() || !must_wait || waiting.is_closed {
                return next;
            }
            waiting = self.has_more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl HistoryReader {
    /// Runs until the store is closed.
    pub fn run(mut self) {
        while let Some((client, request)) = self.requests.next(true) {
            self.read_slice(client, request);
        }
    }

    /// Reads a slice for one request, if one is waiting.
    #[cfg(feature = "internals")]
    pub fn step(&mut self) {
        if let Some((client, request)) = self.requests.next(false) {
            self.read_slice(client, request);
        }
    }

    fn read_slice(&mut self, client: Client, request: Request) {
        let Request { page, completion } = request;
        let result = match page::read_slice(page, &mut self.connection, self.slice_rows) {
            Ok(SliceOutcome::Incomplete(page)) => {
                return self.requests.lock().schedule.add_begun(client, Request { page, completion });
            }
            Ok(SliceOutcome::Complete(page, reservation)) => Ok((page, reservation)),
            Err(error) => Err(to_store_error(error)),
        };
        self.shared.counters.pages.fetch_add(1, Ordering::Relaxed);
        completion.send(result);
    }
}

impl Drop for HistoryReader {
    /// Drops the waiting requests, which completes them with [`StoreError::Closed`].
    fn drop(&mut self) {
        self.requests.close();
        while let Some(request) = self.requests.next(false) {
            drop(request);
        }
    }
}

fn to_store_error(error: PageError) -> StoreError {
    match error {
        PageError::Memory => StoreError::Busy,
        PageError::Sqlite(error) => Fault::into_read_error(error, "the versions of a record"),
    }
}
