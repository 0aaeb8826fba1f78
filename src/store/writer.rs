//! The writer's thread: a group commit stores all inserts that are queued, in one transaction with one fsync. Between
//! commits it indexes slices, raises the high-water mark, maintains the WAL, and tries a full disk again. Independent of
//! SQL.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::checkpointer::{self, Checkpointer};
use super::disk::shortage::Shortage;
use super::disk::space::DiskSpace;
use super::error::{Fault, StoreError};
use super::queue::{Batch, Completion, Insert, InsertReceiver, Revoke};
use super::state::{Mode, Shared};
use super::tables::Tables;
use super::tuning::Tuning;
use crate::auth::MAX_REVOCATIONS;
use crate::ids::{HighWaterMark, Order};
use crate::records::Record;

/// How often the newest id is compared with the high-water mark while nothing else happens.
const MARK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// After this long without an insert the store is idle, and the index is brought up to date.
const IDLE: Duration = Duration::from_millis(250);
/// The pause between two requests for ids.
const RESERVE_PAUSE: Duration = Duration::from_millis(1);

/// The only writer of the database.
pub(super) struct Writer {
    tables: Tables,
    mark: HighWaterMark,
    checkpointer: Checkpointer,
    space: DiskSpace,
    queue: InsertReceiver,
    shared: Arc<Shared>,
    order: Box<dyn Order<Record>>,
    tuning: Tuning,
    /// When the high-water mark was last checked, in milliseconds; `None` if it must be checked now.
    mark_checked_at: Option<u64>,
    /// Whether a write of this iteration found the database locked by another program.
    is_locked: bool,
}

impl Writer {
    pub fn new(
        tables: Tables,
        mark: HighWaterMark,
        checkpointer: Checkpointer,
        space: DiskSpace,
        queue: InsertReceiver,
        order: Box<dyn Order<Record>>,
        tuning: Tuning,
    ) -> Self {
        let shared = Arc::clone(queue.shared());
        let (mark_checked_at, is_locked) = (None, false);
        let writer =
            Self { tables, mark, checkpointer, space, queue, shared, order, tuning, mark_checked_at, is_locked };
        writer.update_gauges();
        writer
    }

    /// Runs until the store is closed. Returns the high-water mark that is then in the database; `None` if it is unknown.
    pub fn run(mut self) -> Option<u64> {
        while self.step(self.timeout()).is_continue() {}
        self.finish()
    }

    /// Runs one iteration: waits for inserts, stores them, and does the maintenance that is due. Returns `Break` when the
    /// store is closed and the last inserts are stored.
    pub fn step(&mut self, timeout: Duration) -> ControlFlow<()> {
        self.is_locked = false;
        let batch = self.queue.receive(timeout);
        self.store_revocations();
        match batch {
            Batch::Inserts(inserts) => {
                self.insert(inserts);
                // A request to check the mark may have been among them.
                self.mark_checked_at = None;
            }
            Batch::CheckMark => self.mark_checked_at = None,
            Batch::Timeout => self.tables.begin_indexing(),
            Batch::Last(inserts) => {
                self.insert(inserts);
                return ControlFlow::Break(());
            }
        }
        for maintenance in [Self::maintain_mark, Self::retry_full_disk, Self::maintain] {
            // While another program holds the lock, each write would wait for it until the timeout and delay the replies to
            // inserts.
            if !self.is_locked {
                maintenance(self);
            }
        }
        ControlFlow::Continue(())
    }

    fn timeout(&self) -> Duration {
        match self.shared.mode() {
            Mode::Ready if self.tables.is_indexing() => Duration::ZERO,
            Mode::Ready if self.tables.pending() > 0 => IDLE,
            _ => MARK_CHECK_INTERVAL,
        }
    }

    fn now_millis(&self) -> u64 {
        self.tables.clock().now().millis
    }

    /// Returns whether a write succeeded; if not, changes the store's state accordingly.
    fn check(&mut self, what: &str, result: rusqlite::Result<()>) -> bool {
        match result.map_err(Fault::from) {
            Ok(()) => return true,
            Err(Fault::Locked) => self.set_locked(what),
            Err(Fault::Full(shortage)) => self.set_full(shortage),
            Err(Fault::Broken(error)) => self.shared.fail(what, &error),
        }
        false
    }

    fn set_locked(&mut self, what: &str) {
        self.is_locked = true;
        self.shared.set_locked(what);
    }

    fn set_full(&mut self, shortage: Shortage) {
        // Writes that fail while the disk is known to be full must not postpone the next try.
        if self.shared.mode() == Mode::Ready {
            self.space.defer_retry(self.now_millis());
        }
        self.shared.set_full(shortage);
    }
}

// Commits.
impl Writer {
    fn insert(&mut self, inserts: Vec<Insert>) {
        if inserts.is_empty() {
            return;
        }
        let first = match self.admit(&inserts) {
            Ok(first) => first,
            Err(error) => return inserts.into_iter().for_each(|insert| insert.completion.send(Err(error))),
        };
        let with_ids = (first..).zip(inserts);
        let (mut records, completions): (Vec<_>, Vec<_>) = with_ids.map(|(id, insert)| insert.with_id(id)).unzip();
        match self.commit(&mut records) {
            Ok(()) => self.notify(first, records, completions),
            Err(error) => completions.into_iter().for_each(|completion| completion.send(Err(error))),
        }
    }

    /// Returns the first of the inserts' ids if they may be stored. Inserts that were queued before the store was closed may.
    fn admit(&mut self, inserts: &[Insert]) -> Result<u64, StoreError> {
        if self.shared.has_failed() {
            return Err(StoreError::Failed);
        }
        if self.shared.mode() == Mode::Full {
            return Err(StoreError::Full(self.shared.shortage()));
        }
        let bytes = inserts.iter().map(|insert| insert.data.len() as u64).sum();
        match self.space.check(bytes, self.checkpointer.status().remaining(), self.now_millis()) {
            None => self.reserve(inserts.len()).ok_or(StoreError::Busy),
            Some(shortage) => {
                self.set_full(shortage);
                Err(StoreError::Full(shortage))
            }
        }
    }

    fn reserve(&self, count: usize) -> Option<u64> {
        for _ in 0..self.tuning.reserve_attempts {
            let first = self.order.reserve(count);
            if first.is_some() {
                return first;
            }
            self.tables.clock().sleep(RESERVE_PAUSE);
        }
        None
    }

    fn commit(&mut self, records: &mut [Record]) -> Result<(), StoreError> {
        let ceiling = self.mark.raise_due(self.order.newest());
        let begin = self.tables.clock().elapsed_micros();
        let committed = self.tables.commit(records, ceiling);
        match committed.map_err(Fault::from) {
            Ok(()) => {
                self.shared.clear_locked();
                let micros = self.tables.clock().elapsed_micros().saturating_sub(begin);
                self.shared.counters.commit_time.add(micros);
                ceiling.into_iter().for_each(|ceiling| self.mark.set(ceiling));
                self.shared.set_covered(self.mark.covered_through());
                Ok(())
            }
            Err(Fault::Locked) => {
                self.set_locked("a commit");
                Err(StoreError::Locked)
            }
            Err(Fault::Full(shortage)) => {
                self.set_full(shortage);
                Err(StoreError::Full(shortage))
            }
            Err(Fault::Broken(error)) => {
                self.shared.fail("a commit", &error);
                Err(StoreError::Failed)
            }
        }
    }

    /// Publishes committed records, whose ids begin with `first`, and then completes their inserts.
    fn notify(&self, first: u64, records: Vec<Record>, completions: Vec<Completion<u64>>) {
        debug_assert!(records.iter().map(|record| record.id).eq((first..).take(completions.len())));
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.update_gauges();
        self.order.publish(records);
        for (completion, id) in completions.into_iter().zip(first..) {
            completion.send(Ok(id));
        }
    }

    fn update_gauges(&self) {
        let counters = &self.shared.counters;
        counters.names.store(self.tables.names() as u64, Ordering::Relaxed);
        counters.unindexed.store(self.tables.unindexed() as u64, Ordering::Relaxed);
    }
}

// Revocations.
impl Writer {
    /// Stores the revocations that are queued. On a full disk as well: they fit into the space that inserts leave free.
    fn store_revocations(&mut self) {
        loop {
            let revokes = self.queue.take_revokes();
            if revokes.is_empty() {
                return;
            }
            let new: Vec<_> = revokes.iter().map(|Revoke { text, second, .. }| (text.clone(), *second)).collect();
            let stored = self.write_revocations(&new);
            revokes.into_iter().for_each(|revoke| revoke.completion.send(stored));
        }
    }

    fn write_revocations(&mut self, new: &[(String, u64)]) -> Result<(), StoreError> {
        if self.shared.has_failed() {
            return Err(StoreError::Failed);
        }
        let written = self.tables.revoke(new, MAX_REVOCATIONS);
        if self.check("storing a revocation", written) {
            self.shared.clear_locked();
            return Ok(());
        }
        Err(match (self.shared.has_failed(), self.is_locked) {
            (true, _) => StoreError::Failed,
            (false, true) => StoreError::Locked,
            (false, false) => StoreError::Full(self.shared.shortage()),
        })
    }
}

// Maintenance.
impl Writer {
    /// Raises the high-water mark if ids were assigned that no commit has covered. On a full disk as well: this write fits into
    /// the space that inserts leave free.
    fn maintain_mark(&mut self) {
        let now = self.now_millis();
        let interval = MARK_CHECK_INTERVAL.as_millis() as u64;
        let is_early = self.mark_checked_at.is_some_and(|last| now - last < interval);
        if is_early || self.shared.mode() > Mode::Full {
            return;
        }
        self.mark_checked_at = Some(now);
        self.raise_mark();
    }

    /// Raises the high-water mark if it must be raised to cover every id assigned so far.
    pub fn raise_mark(&mut self) {
        if let Some(ceiling) = self.mark.raise_due(self.order.newest()) {
            self.write_mark(ceiling);
        }
        self.shared.set_covered(self.mark.covered_through());
    }

    /// Writes the mark. Returns whether that succeeded.
    fn write_mark(&mut self, ceiling: u64) -> bool {
        let written = self.tables.set_ceiling(ceiling);
        let is_written = self.check("storing the newest id", written);
        if is_written {
            self.shared.clear_locked();
            self.mark.set(ceiling);
        }
        is_written
    }

    /// Tries a full disk again, with writes that are useful anyway: a checkpoint and the high-water mark.
    fn retry_full_disk(&mut self) {
        let now = self.now_millis();
        if self.shared.mode() != Mode::Full || !self.space.is_retry_due(now) {
            return;
        }
        self.space.defer_retry(now);
        let checkpointed = self.checkpointer.checkpoint_now(self.tables.connection());
        if !self.check("checkpointing the database", checkpointed) {
            return;
        }
        self.space.invalidate();
        if let Some(shortage) = self.space.check(0, self.checkpointer.status().remaining(), now) {
            return self.shared.set_full(shortage);
        }
        if self.write_mark(self.mark.probe_value(self.order.newest())) {
            self.shared.recover();
        }
    }

    /// Indexes a slice and maintains the WAL.
    fn maintain(&mut self) {
        if self.shared.mode() == Mode::Ready {
            self.index_slice();
            let maintained = self.checkpointer.maintain(self.tables.connection(), &self.tuning);
            self.check("checkpointing the database", maintained);
        }
    }

    fn index_slice(&mut self) {
        if self.tables.pending() >= self.tuning.max_unindexed {
            self.tables.begin_indexing();
        }
        let sliced = self.tables.index_slice(self.tuning.index_slice);
        self.check("indexing", sliced);
        self.update_gauges();
    }

    /// Completes the index, writes the exact newest id, and empties the WAL. After a failure it leaves everything as it is
    /// for the next opening. Returns the high-water mark in the database; `None` after a failure.
    pub fn finish(mut self) -> Option<u64> {
        if !self.shared.has_failed() {
            let completed = self.tables.index_all();
            self.check("indexing", completed);
        }
        if let Some(newest) = self.mark.final_value(self.order.newest()).filter(|_| !self.shared.has_failed()) {
            self.write_mark(newest);
        }
        self.checkpointer.stop();
        if self.shared.has_failed() {
            return None;
        }
        empty_wal(&self.tables);
        Some(self.mark.found_at_start())
    }
}

fn empty_wal(tables: &Tables) {
    match checkpointer::checkpoint_truncate(tables.connection()) {
        Ok(true) => (),
        Ok(false) => log::info!("another program is reading the database; its log is kept until the next start"),
        Err(error) => log::error!("the store's log can't be merged into its database: {error}"),
    }
}
