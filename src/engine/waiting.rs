//! Publishes and barriers that wait until the tail has passed an id.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an acknowledgement waits for the tail, in milliseconds. It is then sent nevertheless: the log has the events.
pub(super) const MAX_WAIT_MILLIS: u64 = 1_000;

/// Called with whether the tail has passed the id in time.
type Done = Box<dyn FnOnce(bool) + Send>;

#[derive(Default)]
struct State {
    /// The id up to which the tail has applied everything.
    applied: u64,
    /// By id, and by the order in which they came.
    waiters: BTreeMap<(u64, u64), (u64, Done)>,
    count: u64,
}

/// What waits for the tail. It is bounded by the queue, and by the connections.
#[derive(Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `done` when the tail has passed the id, possibly at once.
    pub fn wait(&self, id: u64, now: u64, done: impl FnOnce(bool) + Send + 'static) {
        let mut state = self.lock();
        if state.applied >= id {
            drop(state);
            return done(true);
        }
        state.count += 1;
        let key = (id, state.count);
        state.waiters.insert(key, (now, Box::new(done)));
    }

    /// Notes that the tail has applied everything up to this id.
    pub fn advance(&self, id: u64) {
        let mut state = self.lock();
        state.applied = state.applied.max(id);
        let next = (state.applied.saturating_add(1), 0);
        let after = state.waiters.split_off(&next);
        let passed = std::mem::replace(&mut state.waiters, after);
        drop(state);
        passed.into_values().for_each(|(_, done)| done(true));
    }

    /// Calls those that have waited for too long.
    pub fn expire(&self, now: u64) {
        let mut state = self.lock();
        let is_late = |since: u64| since + MAX_WAIT_MILLIS <= now;
        let late: Vec<_> =
            state.waiters.iter().filter(|(_, (since, _))| is_late(*since)).map(|(&key, _)| key).collect();
        let late: Vec<_> = late.iter().filter_map(|key| state.waiters.remove(key)).collect();
        drop(state);
        late.into_iter().for_each(|(_, done)| done(false));
    }

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.lock().waiters.len()
    }
}
