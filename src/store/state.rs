//! How the store is, for all of its threads and whoever asks: ready, full, failed or closed, and counters.
//! Refuses to know why, beyond words.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::error::StoreError;
use super::shortage::Shortage;
use crate::engine::CoveredIds;
use crate::metrics::{Buckets, Histogram};

/// How it is, and counters since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether records can be inserted.
    pub health: Health,
    /// Transactions of inserts, each with one fsync.
    pub commits: u64,
    /// Records inserted.
    pub records: u64,
    /// Names there are.
    pub names: u64,
    /// Pages of histories read.
    pub pages: u64,
    /// Inserts that wait.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Records that the index does not have yet.
    pub unindexed: u64,
    /// Bytes of the log in use.
    pub log_bytes: u64,
    /// How often the log has begun anew.
    pub log_rounds: u64,
    /// Inserts that were not stored, by [`StoreError`].
    pub refused: [u64; StoreError::NAMES.len()],
    /// How long the transactions took, fsync and all.
    pub commit_time: Buckets,
}

/// Whether records can be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Ready,
    /// Not until there is room again.
    Full(Shortage),
    /// Not before the next start.
    Failed {
        /// What failed, in SQLite's words.
        why: String,
    },
    /// No longer.
    Closed,
}

/// The same as one word. The order is that in which one gives way to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    Ready,
    Full,
    Failed,
    Closed,
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where the files are, for messages.
    pub path: Arc<Path>,
    mode: AtomicU8,
    why: OnceLock<String>,
    /// What was last found to be short.
    shortage: Mutex<Option<Shortage>>,
    /// Whether another program held the database when it was last written to.
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
    pub log_bytes: AtomicU64,
    pub log_rounds: AtomicU64,
    pub refused: [AtomicU64; StoreError::NAMES.len()],
    /// The writer's.
    pub commit_time: Histogram,
}

impl Shared {
    /// A store in this place that is ready.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            mode: AtomicU8::default(),
            why: OnceLock::default(),
            shortage: Mutex::default(),
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

    /// Becomes so, unless it is worse already: what has failed or is closed stays so.
    pub fn enter(&self, mode: Mode) {
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
    }

    /// No room.
    pub fn fill(&self, shortage: Shortage) {
        *self.last_shortage() = Some(shortage);
        if self.change(Mode::Ready, Mode::Full) {
            let path = self.path.display();
            log::warn!("inserts are rejected until there is space in {path}: {shortage}; reads and streams continue");
        }
    }

    /// There is room again.
    pub fn recover(&self) {
        if self.change(Mode::Full, Mode::Ready) {
            log::info!("there is space in {} again; inserts resume", self.path.display());
        }
    }

    /// Returns what was last found to be short.
    pub fn shortage(&self) -> Shortage {
        self.last_shortage().unwrap_or(Shortage::Disk)
    }

    fn last_shortage(&self) -> MutexGuard<'_, Option<Shortage>> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another program holds the database; logs when that begins.
    pub fn note_locked(&self, what: &str) {
        if !self.is_locked.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            log::warn!(
                "another program has locked the database in {path}: {what} and all other writes wait until it \
                 releases the lock"
            );
        }
    }

    /// The database could be written to; logs it if another program held it before.
    pub fn note_unlocked(&self) {
        if self.is_locked.swap(false, Ordering::Relaxed) {
            log::info!("the database in {} is unlocked again; inserts resume", self.path.display());
        }
    }

    fn change(&self, from: Mode, to: Mode) -> bool {
        self.mode.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Nothing may be written any more. Says so once.
    pub fn fail(&self, what: &str, error: &str) {
        if self.why.set(format!("{what}: {error}")).is_ok() {
            log::error!("the store has failed and rejects inserts until the broker is restarted; {what}: {error}");
        }
        self.enter(Mode::Failed);
    }

    pub fn has_failed(&self) -> bool {
        self.why.get().is_some()
    }

    /// Publishes up to which id the high-water mark need not be raised.
    pub fn set_covered(&self, through: u64) {
        self.covered.set(through);
    }

    /// Returns whether the writer must be woken to raise the high-water mark because of this id.
    pub fn must_raise_mark(&self, id: u64) -> bool {
        !self.covered.contains(id) && self.mode() == Mode::Ready && self.covered.request_raise()
    }

    /// An insert is not stored, for this.
    pub fn count_refusal(&self, error: StoreError) {
        self.counters.refused[error.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// What an insert is told at once.
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
            log_bytes: count(&counters.log_bytes),
            log_rounds: count(&counters.log_rounds),
            refused: std::array::from_fn(|kind| count(&counters.refused[kind])),
            commit_time: counters.commit_time.get(),
        }
    }

    fn health(&self) -> Health {
        match (self.mode(), self.why.get()) {
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
    fn what_has_failed_stays_so() {
        let shared = Shared::new(Path::new("here"));
        let quota = Shortage::Quota;
        shared.fill(quota);
        assert_eq!((shared.status().health, shared.refusal()), (Health::Full(quota), Some(StoreError::Full(quota))));
        shared.recover();
        assert_eq!(shared.refusal(), None);
        shared.fail("a commit", "disk I/O error");
        shared.fill(quota);
        shared.recover();
        assert_eq!(shared.refusal(), Some(StoreError::Failed));
        shared.fail("a checkpoint", "later");
        assert_eq!(shared.status().health, Health::Failed { why: "a commit: disk I/O error".into() });
    }
}
