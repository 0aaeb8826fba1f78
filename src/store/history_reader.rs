//! The thread that reads histories on a connection of its own, so that no writer waits for it nor it for one. It reads every page
//! in slices, and other requests have their turns in between.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::error::{Fault, StoreError};
use super::page::{Page, PageError, PageQuery, PageReading, Progress};
use super::queue::Completion;
use super::schedule::Schedule;
use super::state::Shared;
use crate::quota::{Client, PageReservation};

/// At most so many wait for their pages.
const MAX_WAITING: usize = 1024;

/// A page, and the memory that it takes until it is sent.
pub(super) type PageReply = Completion<(Page, PageReservation)>;

/// The end of those who ask.
pub(super) struct HistoryReader {
    requests: Arc<Requests>,
}

/// The reader's end.
pub(super) struct Reader {
    connection: Connection,
    requests: Arc<Requests>,
    shared: Arc<Shared>,
    /// At most so many rows are a slice.
    rows: usize,
}

/// What waits, for both ends.
struct Requests {
    waiting: Mutex<Waiting>,
    has_more: Condvar,
}

struct Waiting {
    schedule: Schedule<Request>,
    is_closed: bool,
}

struct Request {
    page: Box<PageReading>,
    reply: PageReply,
}

/// Makes both ends.
pub(super) fn auditor(connection: Connection, shared: &Arc<Shared>, rows: usize) -> (HistoryReader, Reader) {
    let waiting = Waiting { schedule: Schedule::new(MAX_WAITING), is_closed: false };
    let requests = Arc::new(Requests { waiting: Mutex::new(waiting), has_more: Condvar::new() });
    let auditor = HistoryReader { requests: Arc::clone(&requests) };
    (auditor, Reader { connection, requests, shared: Arc::clone(shared), rows })
}

impl HistoryReader {
    pub fn ask(&self, query: PageQuery, client: Client, reservation: PageReservation, reply: PageReply) {
        let request = Request { page: Box::new(PageReading::new(query, reservation)), reply };
        match self.requests.add(client, request) {
            Ok(()) => self.requests.has_more.notify_one(),
            Err((request, error)) => request.reply.send(Err(error)),
        }
    }

    /// What waits by now is the last.
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

    /// Takes the next one, and waits for it if `waits`; `None`: there is none, or none will come.
    fn next(&self, waits: bool) -> Option<(Client, Request)> {
        let mut waiting = self.lock();
        loop {
            let next = waiting.schedule.next();
            if next.is_some() || !waits || waiting.is_closed {
                return next;
            }
            waiting = self.has_more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Reader {
    /// Until the store is closed.
    pub fn run(mut self) {
        while let Some((client, request)) = self.requests.next(true) {
            self.read(client, request);
        }
    }

    /// Reads a slice for one of those who wait, if somebody does.
    pub fn turn(&mut self) {
        if let Some((client, request)) = self.requests.next(false) {
            self.read(client, request);
        }
    }

    fn read(&mut self, client: Client, request: Request) {
        let Request { page, reply } = request;
        let answer = match page.slice(&mut self.connection, self.rows) {
            Ok(Progress::Begun(page)) => {
                return self.requests.lock().schedule.add_begun(client, Request { page, reply });
            }
            Ok(Progress::Done(page, reservation)) => Ok((page, reservation)),
            Err(error) => Err(judge(error)),
        };
        self.shared.counters.pages.fetch_add(1, Ordering::Relaxed);
        reply.send(answer);
    }
}

impl Drop for Reader {
    /// Nobody reads for those who still wait; dropped replies say so.
    fn drop(&mut self) {
        self.requests.close();
        while let Some(request) = self.requests.next(false) {
            drop(request);
        }
    }
}

fn judge(error: PageError) -> StoreError {
    match error {
        PageError::Memory => StoreError::Busy,
        PageError::Sqlite(error) => Fault::answer_read(error, "the versions of a record"),
    }
}
