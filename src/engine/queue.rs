//! Publishes and barriers that wait for the appender. Bounded by number, by bytes and by time, so that publishers get an honest
//! refusal while the engine is away or slow.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::blob::Part;
use super::handle::{EngineError, Sequenced};
use super::state::Shared;
use crate::records::insert::{InsertOutcome, InsertRequest};

/// The maximum number of waiting publishes, and of waiting inserts: each kind has a queue of its own.
const MAX_QUEUED: usize = 1 << 16;
/// The maximum bytes of waiting publishes, and of waiting inserts, unless a single one is larger.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// The maximum number of events or records in an entry, unless a single publish has more.
pub(super) const MAX_BATCH_EVENTS: usize = 4096;
/// The maximum bytes of an entry, unless a single publish or insert is larger.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// The maximum number of revocations that are stored at once.
const MAX_REVOKES: usize = 64;
/// The longest time in milliseconds that a publish, an insert or a barrier waits to be sent.
pub(super) const MAX_WAIT_MILLIS: u64 = 2_000;

/// Delivers the result of a publish.
pub(super) type PublishDone = Box<dyn FnOnce(Result<Sequenced, EngineError>) + Send>;
/// Delivers the result of an insert.
pub(super) type InsertDone = Box<dyn FnOnce(Result<InsertOutcome, EngineError>) + Send>;
/// Delivers the result of a revocation: its time, in microseconds of the engine.
pub(super) type RevokeDone = Box<dyn FnOnce(Result<u64, EngineError>) + Send>;

/// A publish that waits.
pub(super) struct Publish {
    pub part: Part,
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: PublishDone,
}

/// An insert that waits.
pub(super) struct Insert {
    pub request: InsertRequest,
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: InsertDone,
}

/// A barrier that waits.
pub(super) struct Barrier {
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: Box<dyn FnOnce(bool) + Send>,
}

/// A revocation of tokens that waits to be stored.
pub(super) struct Revoke {
    /// What is revoked.
    pub text: String,
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: RevokeDone,
}

/// A request to erase versions of a name.
pub(super) struct Erase {
    pub name: Arc<str>,
    /// Only versions with smaller ids; `None` for all.
    pub before: Option<u64>,
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: EraseDone,
}

/// Delivers the result of an erasure: the number of versions that are gone.
pub(super) type EraseDone = Box<dyn FnOnce(Result<u64, EngineError>) + Send>;

/// A request that becomes a part of an entry.
pub(super) trait Request {
    /// Returns how many events or records it has.
    fn count(&self) -> usize;
    /// Returns about how many bytes of memory it takes.
    fn cost(&self) -> usize;
    /// Returns when it was queued, in milliseconds.
    fn queued(&self) -> u64;
    /// Delivers an error.
    fn fail(self, error: EngineError);
}

impl Request for Publish {
    fn count(&self) -> usize {
        self.part.events()
    }

    fn cost(&self) -> usize {
        self.part.cost()
    }

    fn queued(&self) -> u64 {
        self.queued
    }

    fn fail(self, error: EngineError) {
        (self.done)(Err(error));
    }
}

impl Request for Insert {
    fn count(&self) -> usize {
        1
    }

    fn cost(&self) -> usize {
        self.request.cost()
    }

    fn queued(&self) -> u64 {
        self.queued
    }

    fn fail(self, error: EngineError) {
        (self.done)(Err(error));
    }
}

/// Requests of one kind that wait.
struct Lane<T> {
    waiting: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Request> Lane<T> {
    /// Returns whether a request that takes this many bytes is to be refused.
    fn is_full_for(&self, cost: usize) -> bool {
        let is_full = self.waiting.len() >= MAX_QUEUED || self.bytes + cost > MAX_QUEUED_BYTES;
        is_full && !self.waiting.is_empty()
    }

    fn push(&mut self, request: T) {
        self.bytes += request.cost();
        self.waiting.push_back(request);
    }

    fn pop(&mut self) -> Option<T> {
        let request = self.waiting.pop_front()?;
        self.bytes -= request.cost();
        Some(request)
    }

    /// Returns when the oldest request was queued.
    fn since(&self) -> Option<u64> {
        self.waiting.front().map(Request::queued)
    }

    /// Removes as many requests as make up one entry.
    fn take_batch(&mut self) -> Vec<T> {
        let (mut batch, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = self.waiting.front() {
            count += next.count();
            bytes += next.cost();
            if !batch.is_empty() && (count > MAX_BATCH_EVENTS || bytes > MAX_BATCH_BYTES) {
                break;
            }
            batch.extend(self.pop());
        }
        batch
    }

    /// Removes those that have waited for too long.
    fn take_late(&mut self, now: u64) -> Vec<T> {
        let mut late = Vec::new();
        while self.since().is_some_and(|queued| is_late(queued, now)) {
            late.extend(self.pop());
        }
        late
    }
}

fn is_late(queued: u64, now: u64) -> bool {
    queued + MAX_WAIT_MILLIS <= now
}

#[derive(Default)]
struct State {
    publishes: Lane<Publish>,
    inserts: Lane<Insert>,
    /// Whether the previous batch consisted of inserts.
    were_inserts: bool,
    barriers: Vec<Barrier>,
    revokes: Vec<Revoke>,
    erases: VecDeque<Erase>,
    is_closed: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        let is_empty = self.publishes.waiting.is_empty() && self.inserts.waiting.is_empty();
        is_empty && self.revokes.is_empty() && self.erases.is_empty()
    }

    /// Removes the requests of the next entry: of the kind that has waited longer. If both have waited
    /// equally long, they take turns.
    fn take_requests(&mut self) -> Requests {
        let takes_inserts = match (self.publishes.since(), self.inserts.since()) {
            (None, None) => return Requests::None,
            (publishes, None) => publishes.is_none(),
            (None, Some(_)) => true,
            (Some(publishes), Some(inserts)) => (inserts, self.were_inserts) < (publishes, true),
        };
        self.were_inserts = takes_inserts;
        match takes_inserts {
            true => Requests::Inserts(self.inserts.take_batch()),
            false => Requests::Publishes(self.publishes.take_batch()),
        }
    }
}

/// The requests of one entry, in the order in which they were queued.
pub(super) enum Requests {
    None,
    Publishes(Vec<Publish>),
    Inserts(Vec<Insert>),
}

impl Requests {
    /// Delivers an error to all.
    pub fn fail(self, error: &EngineError) {
        match self {
            Self::None => {}
            Self::Publishes(publishes) => publishes.into_iter().for_each(|publish| publish.fail(error.clone())),
            Self::Inserts(inserts) => inserts.into_iter().for_each(|insert| insert.fail(error.clone())),
        }
    }
}

/// What the appender finds in the queue.
pub(super) struct Work {
    pub requests: Requests,
    /// All barriers.
    pub barriers: Vec<Barrier>,
    /// The oldest revocations.
    pub revokes: Vec<Revoke>,
    /// Whether the queue is closed, and empty from now on.
    pub is_last: bool,
}

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    is_filled: Condvar,
    shared: Arc<Shared>,
}

impl Queue {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { state: Mutex::default(), is_filled: Condvar::new(), shared }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a publish, or refuses it.
    pub fn publish(&self, publish: Publish) {
        self.push(publish, |state| &mut state.publishes);
    }

    /// Queues an insert, or refuses it.
    pub fn insert(&self, insert: Insert) {
        self.push(insert, |state| &mut state.inserts);
    }

    fn push<T: Request>(&self, request: T, lane: impl Fn(&mut State) -> &mut Lane<T>) {
        let mut state = self.lock();
        let refusal = match (state.is_closed, lane(&mut state).is_full_for(request.cost())) {
            (true, _) => EngineError::Closed,
            (false, true) => EngineError::Busy,
            (false, false) => {
                let was_empty = state.is_empty();
                lane(&mut state).push(request);
                drop(state);
                // Otherwise the appender is busy, or has been notified. A notification is a system call.
                if was_empty {
                    self.is_filled.notify_one();
                }
                return;
            }
        };
        drop(state);
        request.fail(refusal);
    }

    /// Queues a barrier. Their number is bounded by the connections, each of which waits for one at most.
    pub fn push_barrier(&self, barrier: Barrier) {
        if let Err(barrier) = self.add(barrier, |state, barrier| state.barriers.push(barrier)) {
            (barrier.done)(false);
        }
    }

    /// Queues a revocation. Their number is bounded by the connections and threads, each of which waits for one at most.
    pub fn push_revoke(&self, revoke: Revoke) {
        if let Err(revoke) = self.add(revoke, |state, revoke| state.revokes.push(revoke)) {
            (revoke.done)(Err(EngineError::Closed));
        }
    }

    /// Queues an erasure. Their number is bounded by the connections, each of which waits for one at most.
    pub fn push_erase(&self, erase: Erase) {
        if let Err(erase) = self.add(erase, |state, erase| state.erases.push_back(erase)) {
            (erase.done)(Err(EngineError::Closed));
        }
    }

    /// Adds a request, and wakes the appender. Returns the request if the queue is closed: the lock is released before anyone is
    /// told.
    fn add<T>(&self, request: T, add: impl FnOnce(&mut State, T)) -> Result<(), T> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(request);
        }
        add(&mut state, request);
        drop(state);
        self.is_filled.notify_one();
        Ok(())
    }

    /// Removes the oldest erasure.
    pub fn take_erase(&self) -> Option<Erase> {
        self.lock().erases.pop_front()
    }

    /// Waits for work, and takes as much as makes up one entry. Leaves erasures to [`Queue::take_erase`].
    pub fn take(&self, timeout: Duration) -> Work {
        let state = self.lock();
        let is_idle = |state: &mut State| state.is_empty() && state.barriers.is_empty() && !state.is_closed;
        let (mut state, _) =
            self.is_filled.wait_timeout_while(state, timeout, is_idle).unwrap_or_else(PoisonError::into_inner);
        let requests = state.take_requests();
        let barriers = mem::take(&mut state.barriers);
        let count = state.revokes.len().min(MAX_REVOKES);
        let revokes = state.revokes.drain(..count).collect();
        Work { requests, barriers, revokes, is_last: state.is_closed && state.is_empty() }
    }

    /// Refuses what has waited for too long.
    pub fn expire(&self, now: u64) {
        let mut state = self.lock();
        let late =
            [Requests::Publishes(state.publishes.take_late(now)), Requests::Inserts(state.inserts.take_late(now))];
        let (late_barriers, barriers): (Vec<_>, Vec<_>) =
            mem::take(&mut state.barriers).into_iter().partition(|barrier| is_late(barrier.queued, now));
        state.barriers = barriers;
        let (late_revokes, revokes): (Vec<_>, Vec<_>) =
            mem::take(&mut state.revokes).into_iter().partition(|revoke| is_late(revoke.queued, now));
        state.revokes = revokes;
        let (late_erases, erases): (Vec<_>, Vec<_>) =
            mem::take(&mut state.erases).into_iter().partition(|erase| is_late(erase.queued, now));
        state.erases = erases.into();
        drop(state);
        let error = EngineError::Unavailable(self.shared.reason());
        late.into_iter().for_each(|requests| requests.fail(&error));
        late_barriers.into_iter().for_each(|barrier| (barrier.done)(false));
        late_revokes.into_iter().for_each(|revoke| (revoke.done)(Err(error.clone())));
        late_erases.into_iter().for_each(|erase| (erase.done)(Err(error.clone())));
    }

    /// Refuses what comes from now on.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.is_filled.notify_one();
    }

    /// Returns the number of publishes and inserts that wait, and their bytes.
    pub fn len(&self) -> (usize, usize) {
        let State { publishes, inserts, .. } = &*self.lock();
        (publishes.waiting.len() + inserts.waiting.len(), publishes.bytes + inserts.bytes)
    }
}
