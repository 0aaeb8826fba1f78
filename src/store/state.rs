//! The state that the store's threads share: whether the store is ready, full, failed or closed, and its counters.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::disk::shortage::Shortage;
use super::report::{Health, Status, StoreError};
use crate::clock::Clock;
use crate::ids::CoveredIds;
use crate::metrics::Histogram;
use crate::util::outage::Outages;
use crate::util::units::seconds;

/// The state of a store, as a number that fits an atomic. A greater mode overrides a smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Ready,
    Full,
    Failed,
    Closed,
}

/// What the store's threads share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The data directory.
    pub path: Arc<Path>,
    mode: AtomicU8,
    /// What failed first.
    failure: OnceLock<String>,
    /// The last shortage.
    shortage: Mutex<Option<Shortage>>,
    /// What was logged of shortages.
    shortages: Mutex<Outages>,
    clock: Clock,
    /// Whether another program held a lock on the database at the last write.
    is_locked: AtomicBool,
    /// The ids that the high-water mark covers.
    covered: CoveredIds,
    pub counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub commits: AtomicU64,
    pub records: AtomicU64,
    pub names: AtomicU64,
    pub pages: AtomicU64,
    pub queued: AtomicU64,
    pub queued_bytes: AtomicU64,
    pub unindexed: AtomicU64,
    pub wal_bytes: AtomicU64,
    pub wal_restarts: AtomicU64,
    pub refused: [AtomicU64; StoreError::NAMES.len()],
    pub commit_time: Histogram,
}

impl Counters {
    /// Counts inserts that have left the queue.
    pub fn dequeue(&self, inserts: u64, bytes: u64) {
        let queued = self.queued.fetch_sub(inserts, Ordering::AcqRel);
        let queued_bytes = self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(
            queued >= inserts && queued_bytes >= bytes,
            "{inserts} of {queued}, {bytes} of {queued_bytes} bytes"
        );
    }
}

impl Shared {
    /// Returns the state of a store that is ready.
    pub fn new(path: &Path, clock: Clock) -> Self {
        Self {
            path: path.into(),
            mode: AtomicU8::default(),
            failure: OnceLock::default(),
            shortage: Mutex::default(),
            shortages: Mutex::default(),
            clock,
            is_locked: AtomicBool::default(),
            covered: CoveredIds::default(),
            counters: Counters::default(),
        }
    }

    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Ready,
            1 => Mode::Full,
            2 => Mode::Failed,
            _ => Mode::Closed,
        }
    }

    /// Changes to a greater mode. A store that has failed or is closed stays so.
    pub fn raise_mode(&self, mode: Mode) {
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
    }

    /// Refuses inserts until space is freed; logs when that begins.
    pub fn set_full(&self, shortage: Shortage) {
        *self.last_shortage() = Some(shortage);
        if self.change(Mode::Ready, Mode::Full)
            && let Some(why) = self.shortages().fail(&shortage.to_string(), self.clock.now().millis)
        {
            let path = self.path.display();
            log::warn!("inserts are rejected until there is space in {path}: {why}; reads and streams continue");
        }
    }

    /// Accepts inserts again after the disk was full.
    pub fn recover(&self) {
        if self.change(Mode::Full, Mode::Ready)
            && let Some(time) = self.shortages().succeed(self.clock.now().millis)
        {
            let path = self.path.display();
            log::warn!("there is space in {path} again after {}; inserts resume", seconds(time));
        }
    }

    /// Returns the last shortage.
    pub fn shortage(&self) -> Shortage {
        self.last_shortage().unwrap_or(Shortage::Disk)
    }

    fn shortages(&self) -> MutexGuard<'_, Outages> {
        self.shortages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_shortage(&self) -> MutexGuard<'_, Option<Shortage>> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that another program holds a lock on the database; logs when that begins.
    pub fn set_locked(&self, what: &str) {
        if !self.is_locked.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            log::warn!(
                "another program has locked the database in {path}: {what} and all other writes wait until it releases the lock"
            );
        }
    }

    /// Records that the database could be written to; logs it if another program held a lock before.
    pub fn clear_locked(&self) {
        if self.is_locked.swap(false, Ordering::Relaxed) {
            log::info!("the database in {} is unlocked again; inserts resume", self.path.display());
        }
    }

    fn change(&self, from: Mode, to: Mode) -> bool {
        self.mode.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Stops all writes until the broker is restarted. Logs only the first failure.
    pub fn fail(&self, what: &str, error: &str) {
        if self.failure.set(format!("{what}: {error}")).is_ok() {
            log::error!("the store has failed and rejects inserts until the broker is restarted; {what}: {error}");
        }
        self.raise_mode(Mode::Failed);
    }

    pub fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Publishes up to which id the high-water mark need not be raised.
    pub fn set_covered(&self, through: u64) {
        self.covered.set(through);
    }

    /// Returns whether the writer must be woken to raise the high-water mark because of this id.
    pub fn must_raise_mark(&self, id: u64) -> bool {
        !self.covered.contains(id) && self.mode() == Mode::Ready && self.covered.request_raise()
    }

    /// Counts an insert that was refused with this error.
    pub fn count_refusal(&self, error: StoreError) {
        self.counters.refused[error.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns why an insert is refused without being queued.
    pub fn refusal(&self) -> Option<StoreError> {
        match self.mode() {
            Mode::Ready => None,
            Mode::Full => Some(StoreError::Full(self.shortage())),
            Mode::Failed => Some(StoreError::Failed),
            Mode::Closed => Some(StoreError::Closed),
        }
    }

    pub fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Status {
            health: self.health(),
            commits: count(&counters.commits),
            records: count(&counters.records),
            names: count(&counters.names),
            pages: count(&counters.pages),
            queued: count(&counters.queued),
            queued_bytes: count(&counters.queued_bytes),
            unindexed: count(&counters.unindexed),
            wal_bytes: count(&counters.wal_bytes),
            wal_restarts: count(&counters.wal_restarts),
            refused: std::array::from_fn(|kind| count(&counters.refused[kind])),
            commit_time: counters.commit_time.get(),
        }
    }

    fn health(&self) -> Health {
        match (self.mode(), self.failure.get()) {
            (_, Some(why)) => Health::Failed { why: why.clone() },
            (Mode::Full, None) => Health::Full(self.shortage()),
            (Mode::Closed, None) => Health::Closed,
            (_, None) => Health::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_store_stays_failed() {
        let shared = Shared::new(Path::new("here"), Clock::new());
        let quota = Shortage::Quota;
        shared.set_full(quota);
        assert_eq!((shared.status().health, shared.refusal()), (Health::Full(quota), Some(StoreError::Full(quota))));
        shared.recover();
        assert_eq!(shared.refusal(), None);
        shared.fail("a commit", "disk I/O error");
        shared.set_full(quota);
        shared.recover();
        assert_eq!(shared.refusal(), Some(StoreError::Failed));
        shared.fail("a checkpoint", "later");
        assert_eq!(shared.status().health, Health::Failed { why: "a commit: disk I/O error".into() });
    }
}
