//! The state that the store's threads share: whether the store is ready, locked by another program, full, failed or closed, and
//! its counters.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::disk::holder;
use super::disk::shortage::Shortage;
use super::report::{Health, HeldBy, LockHolder, Status, StoreError};
use super::tables::schema::LOCK_SLICE;
use crate::clock::Clock;
use crate::ids::CoveredIds;
use crate::metrics::Histogram;
use crate::util::outage::Outages;
use crate::util::units::seconds;

/// How often the program that holds a lock is looked up, in milliseconds.
const HOLDER_MILLIS: u64 = 10_000;

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
    /// What failed first, and how requests are refused because of it.
    failure: OnceLock<(StoreError, String)>,
    /// The last shortage.
    shortage: Mutex<Option<Shortage>>,
    /// What was logged of shortages.
    shortages: Mutex<Outages>,
    clock: Clock,
    /// Whether another program holds a lock on the database for so long that requests are refused.
    is_locked: AtomicBool,
    /// What is known of that lock.
    lock: Mutex<ForeignLock>,
    /// The ids that the high-water mark covers.
    covered: CoveredIds,
    pub counters: Counters,
}

/// Another program's lock on the database.
#[derive(Debug, Default)]
struct ForeignLock {
    /// How many attempts to write have failed in a row.
    attempts: u32,
    /// When the first of them failed, in milliseconds.
    since: u64,
    /// When the last of them failed.
    last: u64,
    /// When the holder was last looked up.
    looked_up_at: u64,
    holder: Option<LockHolder>,
    /// What was logged of locks.
    log: Outages,
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
    pub pruned: AtomicU64,
    pub database_bytes: AtomicU64,
    pub free_bytes: AtomicU64,
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
            lock: Mutex::default(),
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

    /// Records that an attempt to write found the database locked by another program. From the last of this many attempts on,
    /// requests are refused, or earlier if the attempts took longer; logs when that begins. Returns whether they are.
    pub fn note_locked(&self, max_attempts: u32) -> bool {
        let now = self.clock.now().millis;
        let mut lock = self.lock();
        let is_first = !self.is_locked();
        let limit = u64::from(max_attempts) * LOCK_SLICE.as_millis() as u64;
        // A lock that was met long ago was another one: not every write that succeeds is noted.
        if lock.attempts == 0 || is_first && now - lock.last >= 10 * limit {
            (lock.attempts, lock.since) = (0, now);
        }
        (lock.attempts, lock.last) = (lock.attempts.saturating_add(1), now);
        if is_first && lock.attempts < max_attempts && now - lock.since < limit {
            return false;
        }
        let must_look_up = is_first || now - lock.looked_up_at >= HOLDER_MILLIS;
        drop(lock);
        // Without the mutex, which the workers need for the status: it may take a while.
        let holder = must_look_up.then(|| holder::find(&self.path));
        let mut lock = self.lock();
        if let Some(holder) = holder {
            (lock.looked_up_at, lock.holder) = (now, holder);
        }
        self.is_locked.store(true, Ordering::Release);
        let why = format!("{} ({})", HeldBy(lock.holder), self.path.display());
        if let Some(why) = lock.log.fail(&why, now) {
            log::warn!("{why}; inserts are rejected until it releases its lock; streams continue");
        }
        true
    }

    /// Records that the database could be written to; logs it if requests were refused because of another program's lock.
    pub fn clear_locked(&self) {
        let mut lock = self.lock();
        lock.attempts = 0;
        if self.is_locked.swap(false, Ordering::AcqRel)
            && let Some(time) = lock.log.succeed(self.clock.now().millis)
        {
            log::warn!("the database in {} is free again after {}; inserts resume", self.path.display(), seconds(time));
        }
    }

    /// Returns whether requests are refused because another program holds a lock on the database.
    pub fn is_locked(&self) -> bool {
        self.is_locked.load(Ordering::Acquire)
    }

    /// Returns why a full queue refuses an insert: the writer may still be waiting for another program's lock.
    pub fn overflow(&self) -> StoreError {
        if self.lock().attempts > 0 { StoreError::Locked } else { StoreError::Busy }
    }

    fn lock(&self) -> MutexGuard<'_, ForeignLock> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, from: Mode, to: Mode) -> bool {
        self.mode.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Stops all writes until the broker is restarted. Logs only the first failure.
    pub fn fail(&self, what: &str, error: &str) {
        if self.failure.set((StoreError::Failed, format!("{what}: {error}"))).is_ok() {
            log::error!("the store has failed and rejects inserts until the broker is restarted; {what}: {error}");
        }
        self.raise_mode(Mode::Failed);
    }

    /// Stops all writes until the broker is restarted, because a file was removed or replaced. `copies` says what can be copied as
    /// long as the broker runs.
    pub fn lose(&self, what: String, copies: &[String]) {
        let message = format!(
            "the data directory was removed, renamed or replaced: {what}; inserts are rejected, and streams continue. If it \
             was renamed, rename it back and restart the broker. Otherwise {}",
            rescue(copies)
        );
        if self.failure.set((StoreError::Removed, what)).is_ok() {
            log::error!("{message}");
        }
        self.raise_mode(Mode::Failed);
    }

    /// Returns how requests are refused because the store has failed; `None` if it has not.
    pub fn failure(&self) -> Option<StoreError> {
        self.failure.get().map(|(error, _)| *error)
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
            Mode::Ready => self.is_locked().then_some(StoreError::Locked),
            Mode::Full => Some(StoreError::Full(self.shortage())),
            Mode::Failed => Some(self.failure().unwrap_or(StoreError::Failed)),
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
            pruned: count(&counters.pruned),
            database_bytes: count(&counters.database_bytes),
            free_bytes: count(&counters.free_bytes),
            wal_bytes: count(&counters.wal_bytes),
            wal_restarts: count(&counters.wal_restarts),
            refused: std::array::from_fn(|kind| count(&counters.refused[kind])),
            commit_time: counters.commit_time.get(),
        }
    }

    fn health(&self) -> Health {
        match (self.mode(), self.failure.get()) {
            (_, Some((StoreError::Removed, why))) => Health::Removed { why: why.clone() },
            (_, Some((_, why))) => Health::Failed { why: why.clone() },
            (Mode::Full, None) => Health::Full(self.shortage()),
            (Mode::Closed, None) => Health::Closed,
            (_, None) if self.is_locked() => {
                let lock = self.lock();
                Health::Locked { holder: lock.holder, millis: self.clock.now().millis.saturating_sub(lock.since) }
            }
            (_, None) => Health::Ready,
        }
    }
}

/// Returns what can be done if the files are gone.
fn rescue(copies: &[String]) -> String {
    if copies.is_empty() {
        return "restore a backup, and restart the broker".into();
    }
    format!("save the records before you stop the broker: copy {} in a new directory", copies.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_still_open_can_be_copied() {
        let copies = ["/proc/1/fd/7 to records.db", "/proc/1/fd/8 to records.db-wal"].map(str::to_owned);
        let advice = "save the records before you stop the broker: copy /proc/1/fd/7 to records.db, and \
                      /proc/1/fd/8 to records.db-wal in a new directory";
        assert_eq!(rescue(&copies), advice);
        assert_eq!(rescue(&[]), "restore a backup, and restart the broker");
    }

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
