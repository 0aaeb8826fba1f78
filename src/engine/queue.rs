//! Publishes and barriers that wait for the appender. Bounded by number, by bytes and by time, so that publishers get an honest
//! refusal while the engine is away or slow.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::blob::Part;
use super::handle::{EngineError, Sequenced};
use super::state::Shared;

/// The maximum number of publishes that wait.
const MAX_QUEUED: usize = 1 << 16;
/// The maximum bytes of publishes that wait, unless a single one is larger.
const MAX_QUEUED_BYTES: usize = 64 << 20;
/// The maximum number of events in an entry, unless a single publish has more.
const MAX_BATCH_EVENTS: usize = 4096;
/// The maximum bytes of an entry, unless a single publish is larger.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// The longest time in milliseconds that a publish or a barrier waits to be sent.
pub(super) const MAX_WAIT_MILLIS: u64 = 2_000;

/// Delivers the result of a publish.
pub(super) type Done = Box<dyn FnOnce(Result<Sequenced, EngineError>) + Send>;

/// A publish that waits.
pub(super) struct Publish {
    pub part: Part,
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: Done,
}

/// A barrier that waits.
pub(super) struct Barrier {
    /// When it was queued, in milliseconds.
    pub queued: u64,
    pub done: Box<dyn FnOnce(bool) + Send>,
}

#[derive(Default)]
struct State {
    publishes: VecDeque<Publish>,
    bytes: usize,
    barriers: Vec<Barrier>,
    is_closed: bool,
}

/// What the appender finds in the queue.
pub(super) struct Work {
    /// Publishes for one entry, in the order in which they were queued.
    pub publishes: Vec<Publish>,
    /// All barriers.
    pub barriers: Vec<Barrier>,
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
    pub fn push(&self, publish: Publish) {
        let cost = publish.part.cost();
        let mut state = self.lock();
        let is_full = state.publishes.len() >= MAX_QUEUED || state.bytes + cost > MAX_QUEUED_BYTES;
        let refusal = match (state.is_closed, is_full && !state.publishes.is_empty()) {
            (true, _) => EngineError::Closed,
            (false, true) => EngineError::Busy,
            (false, false) => {
                let was_empty = state.publishes.is_empty();
                state.bytes += cost;
                state.publishes.push_back(publish);
                drop(state);
                // Otherwise the appender is busy, or has been notified. A notification is a system call.
                if was_empty {
                    self.is_filled.notify_one();
                }
                return;
            }
        };
        drop(state);
        (publish.done)(Err(refusal));
    }

    /// Queues a barrier. Their number is bounded by the connections, each of which waits for one at most.
    pub fn push_barrier(&self, barrier: Barrier) {
        let mut state = self.lock();
        if state.is_closed {
            drop(state);
            return (barrier.done)(false);
        }
        state.barriers.push(barrier);
        drop(state);
        self.is_filled.notify_one();
    }

    /// Waits for work, and takes as much as makes up one entry.
    pub fn take(&self, timeout: Duration) -> Work {
        let state = self.lock();
        let is_idle = |state: &mut State| state.publishes.is_empty() && state.barriers.is_empty() && !state.is_closed;
        let (mut state, _) =
            self.is_filled.wait_timeout_while(state, timeout, is_idle).unwrap_or_else(PoisonError::into_inner);
        let (mut publishes, mut events, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = state.publishes.front() {
            events += next.part.events();
            bytes += next.part.cost();
            if !publishes.is_empty() && (events > MAX_BATCH_EVENTS || bytes > MAX_BATCH_BYTES) {
                break;
            }
            publishes.extend(state.pop());
        }
        let barriers = mem::take(&mut state.barriers);
        Work { publishes, barriers, is_last: state.is_closed && state.publishes.is_empty() }
    }

    /// Refuses what has waited for too long.
    pub fn expire(&self, now: u64) {
        let is_late = |queued: u64| queued + MAX_WAIT_MILLIS <= now;
        let mut state = self.lock();
        let mut late = Vec::new();
        while state.publishes.front().is_some_and(|publish| is_late(publish.queued)) {
            late.extend(state.pop());
        }
        let (late_barriers, barriers): (Vec<_>, Vec<_>) =
            mem::take(&mut state.barriers).into_iter().partition(|barrier| is_late(barrier.queued));
        state.barriers = barriers;
        drop(state);
        let why = self.shared.reason();
        late.into_iter().for_each(|publish| (publish.done)(Err(EngineError::Unavailable(Arc::clone(&why)))));
        late_barriers.into_iter().for_each(|barrier| (barrier.done)(false));
    }

    /// Refuses what comes from now on.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.is_filled.notify_one();
    }

    /// Returns the number of publishes that wait, and their bytes.
    pub fn len(&self) -> (usize, usize) {
        let state = self.lock();
        (state.publishes.len(), state.bytes)
    }
}

impl State {
    fn pop(&mut self) -> Option<Publish> {
        let publish = self.publishes.pop_front()?;
        self.bytes -= publish.part.cost();
        Some(publish)
    }
}
