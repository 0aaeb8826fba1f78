//! The hub's lock: a mutex that counts how often threads had to wait for it, and for how long. Counting costs
//! nothing if the lock is free.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::clock;

/// How often threads had to wait for the lock since the start, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockWaits {
    /// Times that a thread found the lock taken.
    pub count: u64,
    /// The time that threads have waited, of all threads together. Those that still wait are not included.
    pub time: Duration,
}

/// Counts waits, on its own cache lines: threads that begin to wait should not slow down the one that holds the lock.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// A mutex that counts waits.
pub(super) struct Lock<T> {
    waits: Counters,
    value: Mutex<T>,
}

impl<T> Lock<T> {
    /// Creates a lock that is free.
    pub(super) fn new(value: T) -> Self {
        Self { waits: Counters::default(), value: Mutex::new(value) }
    }

    /// Takes the lock, even if a thread has panicked while it had it.
    pub(super) fn take(&self) -> MutexGuard<'_, T> {
        match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        }
    }

    /// Waits for the lock, and takes it.
    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.waits.count.fetch_add(1, Ordering::Relaxed);
        let began = clock::monotonic();
        let guard = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = clock::monotonic().saturating_sub(began);
        self.waits.nanos.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
        guard
    }

    /// Returns the waits so far. Does not take the lock.
    pub(super) fn waits(&self) -> LockWaits {
        let nanos = self.waits.nanos.load(Ordering::Relaxed);
        LockWaits { count: self.waits.count.load(Ordering::Relaxed), time: Duration::from_nanos(nanos) }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    #[test]
    fn only_threads_that_find_the_lock_taken_wait() {
        let lock = Lock::new(0);
        (0..3).for_each(|_| *lock.take() += 1);
        assert_eq!(lock.waits(), LockWaits::default());
        let guard = lock.take();
        thread::scope(|scope| {
            scope.spawn(|| *lock.take() += 1);
            while lock.waits().count == 0 {
                thread::yield_now();
            }
            assert_eq!(*guard, 3, "the thread waits");
            drop(guard);
        });
        assert_eq!((*lock.take(), lock.waits().count), (4, 1));
    }

    #[test]
    fn a_panic_does_not_prevent_taking_the_lock() {
        let lock = Lock::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.take();
            panic!("while it has the lock");
        }));
        assert!(panicked.is_err());
        assert_eq!((*lock.take(), lock.waits()), (1, LockWaits::default()));
    }
}
