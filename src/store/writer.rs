//! The writer's thread: a group commit stores all inserts that are queued and accepted, in one transaction with one fsync.
//! Between commits it indexes slices, forgets idempotency keys, raises the high-water mark, maintains the WAL, and tries a
//! full disk again. Independent of SQL.

mod erasures;
mod other_programs;
mod revocations;
mod tidying;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::checkpointer::{self, Checkpointer};
use super::disk::open_files::OpenFiles;
use super::disk::shortage::Shortage;
use super::disk::space::DiskSpace;
use super::error::{Fault, StoreError};
use super::judgement::{self, Verdict};
use super::queue::{Batch, Insert, InsertReceiver};
use super::state::{Mode, Shared};
use super::tables::Tables;
use super::tables::idempotency::NewKey;
use super::tables::schema::PAGE_BYTES;
use super::tuning::Tuning;
use crate::ids::{HighWaterMark, Order};
use crate::records::Record;
use crate::records::insert::InsertRequest;
use erasures::Erasures;
use tidying::{Pace, is_awaited};

/// How often the newest id is compared with the high-water mark while nothing else happens.
const MARK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// After this long without an insert the store is idle, and the index is brought up to date.
const IDLE: Duration = Duration::from_millis(250);
/// How long the last writes and the last checkpoint wait for other programs.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// The pause between two slices of removing versions while no inserts arrive: as long as a slice, so that the thread does not
/// take a core from what else the machine does.
const TIDY_PAUSE: Duration = Duration::from_millis(4);
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
    erasures: Erasures,
    /// When the high-water mark was last checked, in milliseconds; `None` if it must be checked now.
    mark_checked_at: Option<u64>,
    /// Whether more is to be removed right after this iteration: see [`tidying`].
    must_tidy: bool,
    /// When the next slice of that may begin.
    pace: Pace,
    /// Whether a write of this iteration found the database locked by another program, or requests are refused because of it.
    is_locked: bool,
    /// When it was last tried whether the lock was released, in milliseconds.
    lock_probed_at: u64,
    files: OpenFiles,
    /// When it was last checked that the files are still there, in milliseconds.
    files_checked_at: u64,
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
        let writer = Self {
            tables,
            mark,
            checkpointer,
            space,
            queue,
            shared,
            order,
            tuning,
            erasures: Erasures::default(),
            mark_checked_at: None,
            must_tidy: false,
            pace: Pace::default(),
            is_locked: false,
            lock_probed_at: 0,
            files: OpenFiles::default(),
            files_checked_at: 0,
        };
        writer.update_gauges();
        writer
    }

    /// Makes the writer notice when one of the files is removed or replaced.
    pub fn watch(&mut self, files: OpenFiles) {
        self.files = files;
    }

    /// Runs until the store is closed. Returns the high-water mark that is then in the database; `None` if it is unknown.
    pub fn run(mut self) -> Option<u64> {
        while self.step(self.timeout()).is_continue() {}
        self.finish()
    }

    /// Runs one iteration: waits for inserts, stores them, and does the maintenance that is due. Returns `Break` when the
    /// store is closed and the last inserts are stored.
    pub fn step(&mut self, timeout: Duration) -> ControlFlow<()> {
        let batch = self.queue.receive(timeout);
        self.is_locked = self.shared.is_locked();
        self.check_files();
        self.store_revocations();
        self.begin_erasures();
        match batch {
            Batch::Inserts(inserts) => {
                self.insert(inserts);
                // A request to check the mark may have been among them.
                self.mark_checked_at = None;
            }
            Batch::CheckMark => self.mark_checked_at = None,
            // The wait was short: this does not mean that the store is idle.
            Batch::Timeout if self.must_tidy || self.is_erasing() => {
                if timeout >= TIDY_PAUSE {
                    self.pace.end_rest();
                }
            }
            Batch::Timeout => self.tables.begin_indexing(),
            Batch::Last(inserts) => {
                self.insert(inserts);
                return ControlFlow::Break(());
            }
        }
        self.probe_lock();
        for maintenance in [Self::maintain_mark, Self::retry_full_disk, Self::maintain, Self::maintain_erasures] {
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
            _ if self.shared.is_locked() => self.tuning.lock_probe,
            _ if self.queue.has_erasures() => Duration::ZERO,
            Mode::Ready if self.tables.is_indexing() || self.must_forget_keys() => Duration::ZERO,
            Mode::Ready => {
                let idle = match (self.must_tidy, self.tables.pending()) {
                    (true, _) => TIDY_PAUSE,
                    (false, 1..) => IDLE,
                    (false, 0) => MARK_CHECK_INTERVAL,
                };
                self.erasures.next_due(self.now_millis()).map_or(idle, |due| due.min(idle))
            }
            _ => MARK_CHECK_INTERVAL,
        }
    }

    fn now_millis(&self) -> u64 {
        self.tables.clock().now().millis
    }

    /// Returns the time of ids. The store's clock does not know that ids may be ahead of it after the system clock was set back.
    fn id_time(&self) -> u64 {
        self.tables.clock().now().id_micros.max(self.order.newest())
    }

    /// Returns whether a write succeeded; if not, changes the store's state accordingly.
    fn check(&mut self, what: &str, result: rusqlite::Result<()>) -> bool {
        match result.map_err(Fault::from) {
            Ok(()) => return true,
            Err(Fault::Locked) => drop(self.note_locked()),
            Err(Fault::Full(shortage)) => self.set_full(shortage),
            Err(Fault::Broken(error)) => self.shared.fail(what, &error),
        }
        false
    }

    /// Returns why the last write has failed, according to [`Writer::check`].
    fn write_error(&self) -> StoreError {
        match self.shared.failure() {
            Some(failure) => failure,
            None if self.is_locked => StoreError::Locked,
            None => StoreError::Full(self.shared.shortage()),
        }
    }

    /// Notes that a write found the database locked by another program. Returns whether requests are refused because of it.
    fn note_locked(&mut self) -> bool {
        (self.is_locked, self.must_tidy) = (true, false);
        self.shared.note_locked(self.tuning.lock_attempts)
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
        let (requests, completions): (Vec<_>, Vec<_>) =
            inserts.into_iter().map(|Insert { request, completion }| (request, completion)).unzip();
        match self.carry_out(requests) {
            Ok((verdicts, first)) => {
                let outcomes = verdicts.into_iter().map(|verdict| verdict.outcome(first));
                completions.into_iter().zip(outcomes).for_each(|(completion, outcome)| completion.send(Ok(outcome)));
            }
            Err(error) => completions.into_iter().for_each(|completion| completion.send(Err(error))),
        }
    }

    /// Judges requests, in order, and stores and publishes the records of those that are accepted. Returns the verdicts and the
    /// id of the first record. After an error there are no verdicts, because they may depend on records that are not stored.
    fn carry_out(&mut self, requests: Vec<InsertRequest>) -> Result<(Vec<Verdict>, u64), StoreError> {
        self.refuse_if_unable()?;
        let verdicts = judgement::judge(&requests, &*self.order, self.tables.keys(), self.id_time());
        let is_accepted = |verdict: &Verdict| matches!(verdict, Verdict::Accepted(_));
        let accepted = requests.iter().zip(&verdicts).filter(|(_, verdict)| is_accepted(verdict));
        let sizes = accepted.map(|(request, _)| request.record.data.len() as u64);
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        if count == 0 {
            return Ok((verdicts, 0));
        }
        let first = self.admit(count, bytes)?;
        let (mut records, keys) = judgement::accepted(requests, &verdicts, first);
        self.commit(&mut records, &keys)?;
        self.publish(records);
        Ok((verdicts, first))
    }

    /// Returns why nothing can be stored at present. Inserts that were queued before the store was closed are stored.
    fn refuse_if_unable(&self) -> Result<(), StoreError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        if self.shared.is_locked() {
            return Err(StoreError::Locked);
        }
        if self.shared.mode() == Mode::Full {
            return Err(StoreError::Full(self.shared.shortage()));
        }
        Ok(())
    }

    /// Returns the first id of this many records with this many bytes of data, if there is space for them.
    fn admit(&mut self, count: usize, bytes: u64) -> Result<u64, StoreError> {
        match self.space.check(bytes, self.checkpointer.status().remaining(), self.now_millis()) {
            None => self.reserve(count).ok_or(StoreError::Busy),
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

    fn commit(&mut self, records: &mut [Record], keys: &[NewKey]) -> Result<(), StoreError> {
        let ceiling = self.mark.raise_due(self.order.newest());
        let begin = self.tables.clock().elapsed_micros();
        let committed = loop {
            let committed = self.tables.commit(records, keys, ceiling).map_err(Fault::from);
            let is_locked = matches!(committed, Err(Fault::Locked));
            if !is_locked || self.note_locked() {
                break committed;
            }
        };
        match committed {
            Ok(()) => {
                self.shared.clear_locked();
                let micros = self.tables.clock().elapsed_micros().saturating_sub(begin);
                self.shared.counters.commit_time.add(micros);
                ceiling.into_iter().for_each(|ceiling| self.mark.set(ceiling));
                self.shared.set_covered(self.mark.covered_through());
                Ok(())
            }
            Err(Fault::Locked) => Err(StoreError::Locked),
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

    /// Publishes committed records.
    fn publish(&self, records: Vec<Record>) {
        debug_assert!(records.windows(2).all(|pair| pair[0].id + 1 == pair[1].id), "ids are consecutive");
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.update_gauges();
        self.order.publish(records);
    }

    fn update_gauges(&self) {
        let counters = &self.shared.counters;
        counters.names.store(self.tables.names() as u64, Ordering::Relaxed);
        counters.unindexed.store(self.tables.unindexed() as u64, Ordering::Relaxed);
        let (pages, free) = self.tables.pages();
        counters.pruned.store(self.tables.pruned(), Ordering::Relaxed);
        counters.database_bytes.store(pages * PAGE_BYTES, Ordering::Relaxed);
        counters.free_bytes.store(free * PAGE_BYTES, Ordering::Relaxed);
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

    /// Indexes a slice, or removes one, forgets some idempotency keys, and maintains the WAL.
    fn maintain(&mut self) {
        self.must_tidy = false;
        if self.shared.mode() == Mode::Ready {
            self.index_slice();
            self.tidy();
            self.forget_keys();
            let maintained = self.checkpointer.maintain(self.tables.connection(), &self.tuning);
            self.check("checkpointing the database", maintained);
        }
    }

    fn must_forget_keys(&self) -> bool {
        // Without keys, the time need not be asked for, which takes the hub's lock.
        let keys = self.tables.keys();
        !keys.is_empty() && keys.must_forget(self.id_time())
    }

    fn forget_keys(&mut self) {
        if self.must_forget_keys() && !self.is_locked && self.shared.mode() == Mode::Ready {
            let forgotten = self.tables.forget_keys(self.id_time());
            self.check("forgetting idempotency keys", forgotten);
        }
    }

    fn index_slice(&mut self) {
        // A pass makes it necessary to clear pages again.
        let patience = if self.tables.is_scrubbing() { 2 } else { 1 };
        if self.tables.pending() >= self.tuning.max_unindexed * patience {
            self.tables.begin_indexing();
        }
        let shared = Arc::clone(&self.shared);
        let sliced = self.tables.index_slice(self.tuning.index_slice, &|| is_awaited(&shared));
        self.check("indexing", sliced);
        self.update_gauges();
    }

    /// Completes the index, writes the exact newest id, and empties the WAL. After a failure it leaves everything as it is
    /// for the next opening. Returns the high-water mark in the database; `None` after a failure.
    pub fn finish(mut self) -> Option<u64> {
        self.find_changed_file();
        // A backup may just be starting. A program that has kept its lock for longer is not waited for.
        if !self.shared.is_locked() {
            let set = self.tables.connection().busy_timeout(CLOSE_WAIT);
            self.check("preparing the last writes", set);
        }
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
        Ok(false) => {
            log::info!("another program is using the database, so the write-ahead log is kept until the next start");
        }
        Err(error) => log::error!("the store's log can't be merged into its database: {error}"),
    }
}
