//! A disk as all its connections share it, and the lives of those: each ends with a crash, and what was opened in it hears of
//! nothing but errors from then on, whatever it tries. Refuses to know files and SQLite's interface.

use std::ffi::c_int;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libsqlite3_sys::{SQLITE_IOERR, SQLITE_OK};

use crate::record::Call;
use crate::registry::Slot;
use crate::state::State;

type SyncHook = Arc<dyn Fn(usize) + Send + Sync>;
type SleepHook = Arc<dyn Fn(Duration) + Send + Sync>;

/// The state, and who is told of time that passes. They are called with nothing locked.
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

/// Whoever panicked with it locked has failed its test already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From one crash to the next, under a name that SQLite finds it by.
#[derive(Debug)]
pub(crate) struct Life {
    device: Arc<Device>,
    number: u64,
    slot: &'static Slot,
}

impl Life {
    /// The life that the device is in.
    pub fn begin(device: &Arc<Device>) -> Arc<Self> {
        let number = device.state().life;
        let slot = Slot::take();
        let life = Arc::new(Self { device: Arc::clone(device), number, slot });
        slot.serve(&life);
        life
    }

    pub fn name(&self) -> &str {
        self.slot.name()
    }

    pub fn is_over(&self) -> bool {
        self.device.state().life != self.number
    }

    /// A call that changes nothing that outlives the process.
    pub fn call<T>(&self, call: Call<'_>, work: impl FnOnce(&mut State) -> Result<T, c_int>) -> Result<T, c_int> {
        let mut state = self.state()?;
        let result = work(&mut state);
        state.record.note(call, code(&result));
        result
    }

    /// A call that does. It may be the one in which everything ends.
    pub fn change<T>(&self, call: Call<'_>, work: impl FnOnce(&mut State) -> Result<T, c_int>) -> Result<T, c_int> {
        let mut state = self.state()?;
        let Some(crash) = state.is_last_change() else {
            let result = work(&mut state);
            state.record.note(call, code(&result));
            return result;
        };
        if state.comes_through() {
            let _ = work(&mut state);
        }
        state.record.note(call, SQLITE_IOERR);
        state.crash(crash);
        Err(SQLITE_IOERR)
    }

    /// The state, as long as this life goes on.
    pub fn state(&self) -> Result<MutexGuard<'_, State>, c_int> {
        let state = self.device.state();
        if state.life == self.number { Ok(state) } else { Err(SQLITE_IOERR) }
    }

    /// Before something is written to the disk: so many bytes are to be.
    pub fn wait_for_sync(&self, bytes: usize) {
        let hook = lock(&self.device.on_sync).clone();
        hook.into_iter().for_each(|hook| hook(bytes));
    }

    /// Somebody wants to wait.
    pub fn sleep(&self, time: Duration) {
        let hook = lock(&self.device.on_sleep).clone();
        hook.into_iter().for_each(|hook| hook(time));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.slot.give_back();
    }
}

/// A result as SQLite has it.
pub(crate) fn code<T>(result: &Result<T, c_int>) -> c_int {
    result.as_ref().err().copied().unwrap_or(SQLITE_OK)
}
