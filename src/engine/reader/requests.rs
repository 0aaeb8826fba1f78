//! Pages and lookups that wait for the reader. Lookups come first: a stream that resumes must not wait behind pages.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::EngineError;
use crate::quota::{Client, PageReservation};
use crate::records::Page;
use crate::records::page::PageBuilder;
use crate::records::schedule::Schedule;

/// The maximum number of waiting pages.
const MAX_PAGES: usize = 1024;
/// The maximum number of waiting lookups. Each takes about 200 bytes.
const MAX_LOOKUPS: usize = 16_384;

/// Delivers the result of a request.
type Done<T> = Box<dyn FnOnce(Result<T, EngineError>) + Send>;

/// A request to look up an id.
pub(in crate::engine) struct Lookup {
    pub id: u64,
    pub done: Done<bool>,
}

/// A request for a page, which the reader builds slice by slice.
pub(in crate::engine) struct PageRequest {
    pub page: PageBuilder,
    /// Gets the page with the reservation for its memory, which is held until the page is sent.
    pub done: Done<(Page, PageReservation)>,
}

/// What the reader has to do next.
pub(super) enum Next {
    /// Look up an id.
    Lookup(Lookup),
    /// Read a slice of a page for this client.
    Page(Client, PageRequest),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    Closed,
}

/// The waiting requests.
pub(in crate::engine) struct Requests {
    waiting: Mutex<Waiting>,
    /// Notified when a request is added, and when it is closed.
    has_more: Condvar,
}

struct Waiting {
    lookups: VecDeque<Lookup>,
    pages: Schedule<PageRequest>,
    is_closed: bool,
}

impl Default for Requests {
    fn default() -> Self {
        let waiting = Waiting { lookups: VecDeque::new(), pages: Schedule::new(MAX_PAGES), is_closed: false };
        Self { waiting: Mutex::new(waiting), has_more: Condvar::new() }
    }
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lookup, or refuses it.
    pub fn look_up(&self, lookup: Lookup) {
        let mut waiting = self.lock();
        let refusal = match waiting.is_closed {
            true => EngineError::Closed,
            false if waiting.lookups.len() >= MAX_LOOKUPS => EngineError::Busy,
            false => {
                waiting.lookups.push_back(lookup);
                drop(waiting);
                return self.has_more.notify_one();
            }
        };
        drop(waiting);
        (lookup.done)(Err(refusal));
    }

    /// Adds a page that is not begun, or refuses it.
    pub fn read(&self, client: Client, request: PageRequest) {
        let mut waiting = self.lock();
        let refused = match waiting.is_closed {
            true => Err((request, EngineError::Closed)),
            false => waiting.pages.add(client, request).map_err(|request| (request, EngineError::Busy)),
        };
        drop(waiting);
        match refused {
            Ok(()) => self.has_more.notify_one(),
            Err((request, refusal)) => request.refuse(refusal),
        }
    }

    /// Adds a page that needs another slice, or refuses it because the broker is shutting down.
    pub(super) fn resume(&self, client: Client, request: PageRequest) {
        let mut waiting = self.lock();
        if waiting.is_closed {
            drop(waiting);
            return request.refuse(EngineError::Closed);
        }
        waiting.pages.add_begun(client, request);
    }

    /// Removes and returns what is to be done next. Waits for it for up to `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Next {
        let waiting = self.lock();
        let is_idle =
            |waiting: &mut Waiting| waiting.lookups.is_empty() && waiting.pages.is_empty() && !waiting.is_closed;
        let (mut waiting, _) =
            self.has_more.wait_timeout_while(waiting, timeout, is_idle).unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = waiting.lookups.pop_front() {
            return Next::Lookup(lookup);
        }
        match waiting.pages.next() {
            Some((client, request)) => Next::Page(client, request),
            None if waiting.is_closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// Refuses what waits, and what comes from now on.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let lookups = std::mem::take(&mut waiting.lookups);
        let mut pages = std::mem::replace(&mut waiting.pages, Schedule::new(MAX_PAGES));
        drop(waiting);
        self.has_more.notify_one();
        lookups.into_iter().for_each(|lookup| (lookup.done)(Err(EngineError::Closed)));
        while let Some((_, request)) = pages.next() {
            request.refuse(EngineError::Closed);
        }
    }
}

impl PageRequest {
    /// Ends the request. The page's memory is free again before the client hears of it.
    pub(super) fn refuse(self, error: EngineError) {
        drop(self.page);
        (self.done)(Err(error));
    }
}
