//! The disk that all connections share, and its sessions. A session ends with a crash; every later call on a file that was
//! opened in it returns an error.

use std::ffi::c_int;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use errno::{errno, set_errno};
use libsqlite3_sys::{SQLITE_IOERR, SQLITE_OK};

use crate::registry::Slot;
use crate::state::State;
use crate::trace::Call;

type SyncHook = Arc<dyn Fn(usize) + Send + Sync>;
type SleepHook = Arc<dyn Fn(Duration) + Send + Sync>;

/// The state, and hooks that simulate the passing of time. Hooks are called without any lock.
pub(crate) struct Device {
    state: Mutex<State>,
    pub on_sync: Mutex<Option<SyncHook>>,
    pub on_sleep: Mutex<Option<SleepHook>>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Device {
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(State::new(seed)), on_sync: Mutex::default(), on_sleep: Mutex::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Locks a mutex, even a poisoned one: the thread that panicked has already failed its test. Keeps errno, which waiting for
/// another thread can change: the store reads it after a failed write and the calls that roll it back.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let before = errno();
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    set_errno(before);
    guard
}

/// The period from one crash to the next, with the name by which SQLite finds the disk.
#[derive(Debug)]
pub(crate) struct Session {
    device: Arc<Device>,
    number: u64,
    slot: &'static Slot,
}

impl Session {
    /// Returns the current session.
    pub fn begin(device: &Arc<Device>) -> Arc<Self> {
        let number = device.state().session;
        let slot = Slot::acquire();
        let session = Arc::new(Self { device: Arc::clone(device), number, slot });
        slot.register(&session);
        session
    }

    pub fn name(&self) -> &str {
        self.slot.name()
    }

    pub fn is_over(&self) -> bool {
        self.device.state().session != self.number
    }

    /// Makes a call that changes nothing outside the process.
    pub fn call<T>(&self, call: Call<'_>, work: impl FnOnce(&mut State) -> Result<T, c_int>) -> Result<T, c_int> {
        let mut state = self.state()?;
        let result = work(&mut state);
        state.trace.record(call, code(&result));
        result
    }

    /// Makes a call that changes the disk, unless a planned crash happens in it.
    pub fn change<T>(&self, call: Call<'_>, work: impl FnOnce(&mut State) -> Result<T, c_int>) -> Result<T, c_int> {
        let mut state = self.state()?;
        let Some(crash) = state.planned_crash() else {
            let result = work(&mut state);
            state.trace.record(call, code(&result));
            return result;
        };
        if state.survives_crash() {
            let _ = work(&mut state);
        }
        state.trace.record(call, SQLITE_IOERR);
        state.crash(crash);
        Err(SQLITE_IOERR)
    }

    /// Returns the state, or an error if the session is over.
    pub fn state(&self) -> Result<MutexGuard<'_, State>, c_int> {
        let state = self.device.state();
        if state.session == self.number { Ok(state) } else { Err(SQLITE_IOERR) }
    }

    /// Simulates the duration of an fsync of this many bytes.
    pub fn wait_for_sync(&self, bytes: usize) {
        let hook = lock(&self.device.on_sync).clone();
        hook.into_iter().for_each(|hook| hook(bytes));
    }

    /// Simulates waiting.
    pub fn sleep(&self, time: Duration) {
        let hook = lock(&self.device.on_sleep).clone();
        hook.into_iter().for_each(|hook| hook(time));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.slot.release();
    }
}

/// Returns the result code for SQLite.
pub(crate) fn code<T>(result: &Result<T, c_int>) -> c_int {
    result.as_ref().err().copied().unwrap_or(SQLITE_OK)
}

#[cfg(test)]
mod tests {
    use errno::Errno;

    use super::*;

    #[test]
    fn waiting_for_a_lock_keeps_errno() {
        let mutex = Mutex::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 1..=1_000_000 {
                        set_errno(Errno(turn));
                        *lock(&mutex) += 1;
                        assert_eq!(errno(), Errno(turn));
                    }
                });
            }
        });
        assert_eq!(*lock(&mutex), 4_000_000);
    }
}
