//! The thread that commits: takes all inserts that wait, and in between brings the index up to date, raises the mark, looks
//! after the log and, when the disk is full, tries whether there is room again. Refuses to know SQL.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;

use super::checkpointer::{self, Checkpointer};
use super::commit::{self, Names, Version};
use super::disk_space::DiskSpace;
use super::error::{Fault, StoreError};
use super::index::Index;
use super::queue::{Completion, Insert, Taken, Waiting};
use super::schema::{self, CEILING};
use super::shortage::Shortage;
use super::state::{Mode, Shared};
use super::{Record, Tuning};
use crate::clock::Clock;
use crate::engine::{HighWaterMark, Order};

/// With nothing to do, the newest id is looked at so often.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without an insert the store is idle, and the index is brought up to date.
const IDLE: Duration = Duration::from_millis(250);
/// Whoever gives ids is asked again after so long.
const RESERVE_PAUSE: Duration = Duration::from_millis(1);

/// See the module's page.
pub(super) struct Writer {
    pub connection: Connection,
    pub names: Names,
    pub index: Index,
    pub mark: HighWaterMark,
    pub keeper: Checkpointer,
    pub room: DiskSpace,
    pub waiting: Waiting,
    pub shared: Arc<Shared>,
    pub order: Box<dyn Order<Record>>,
    pub tuning: Tuning,
    pub clock: Clock,
    /// When the newest id was last looked at; none: it is to be looked at now.
    pub looked_at: Option<u64>,
    /// When a full disk was last found so.
    pub full_at: u64,
    /// Whether another program was found to hold the database in this turn.
    pub is_locked_out: bool,
}

impl Writer {
    /// Until the store is closed.
    pub fn run(mut self) {
        while self.turn(self.patience()).is_continue() {}
        self.seal();
    }

    /// Waits for inserts, stores them, and does what else is due. Break: they were the last.
    pub fn turn(&mut self, patience: Duration) -> ControlFlow<()> {
        self.is_locked_out = false;
        match self.waiting.take(patience) {
            Taken::Inserts(inserts) => {
                self.insert(inserts);
                // News may have come with them.
                self.looked_at = None;
            }
            Taken::News => self.looked_at = None,
            Taken::Nothing => self.index.begin(),
            Taken::Last(inserts) => {
                self.insert(inserts);
                return ControlFlow::Break(());
            }
        }
        for upkeep in [Self::look, Self::retry, Self::tend] {
            // Each write would wait in vain for the same lock; those who insert are to hear of it soon.
            if !self.is_locked_out {
                upkeep(self);
            }
        }
        ControlFlow::Continue(())
    }

    fn patience(&self) -> Duration {
        match self.shared.mode() {
            Mode::Ready if self.index.is_in_pass() => Duration::ZERO,
            Mode::Ready if self.index.waiting() > 0 => IDLE,
            _ => LOOK,
        }
    }

    /// A write was tried. False: it came to nothing, and the store is what it now must be.
    fn holds(&mut self, what: &str, result: rusqlite::Result<()>) -> bool {
        match result.map_err(Fault::from) {
            Ok(()) => return true,
            Err(Fault::Locked) => self.be_locked_out(what),
            Err(Fault::Full(shortage)) => self.be_full(shortage),
            Err(Fault::Broken(error)) => self.shared.fail(what, &error),
        }
        false
    }

    fn be_locked_out(&mut self, what: &str) {
        self.is_locked_out = true;
        self.shared.note_locked(what);
    }

    fn be_full(&mut self, shortage: Shortage) {
        // What fails on a disk that is known to be full does not put the next try off.
        if self.shared.mode() == Mode::Ready {
            self.full_at = self.clock.now().millis;
        }
        self.shared.fill(shortage);
    }
}

// What goes on all the time.
impl Writer {
    fn insert(&mut self, inserts: Vec<Insert>) {
        if inserts.is_empty() {
            return;
        }
        let first = match self.admit(&inserts) {
            Ok(first) => first,
            Err(error) => return inserts.into_iter().for_each(|insert| insert.reply.send(Err(error))),
        };
        let with_ids = (first..).zip(inserts);
        let (mut records, replies): (Vec<_>, Vec<_>) = with_ids.map(|(id, insert)| insert.with(id)).unzip();
        match self.commit(&mut records) {
            Ok(versions) => self.tell(records, replies, &versions),
            Err(error) => replies.into_iter().for_each(|reply| reply.send(Err(error))),
        }
    }

    /// The first of the inserts' ids, if they may be stored.
    fn admit(&mut self, inserts: &[Insert]) -> Result<u64, StoreError> {
        self.check(inserts)?;
        self.reserve(inserts.len()).ok_or(StoreError::Busy)
    }

    fn commit(&mut self, records: &mut [Record]) -> Result<Vec<Version>, StoreError> {
        let ceiling = self.mark.raise_due(self.order.newest());
        let begin = self.clock.elapsed_micros();
        let committed = commit::commit(&mut self.connection, &mut self.names, records, ceiling);
        match committed.map_err(Fault::from) {
            Ok(versions) => {
                self.shared.note_unlocked();
                self.shared.counters.commit_time.add(self.clock.elapsed_micros().saturating_sub(begin));
                ceiling.into_iter().for_each(|ceiling| self.mark.set(ceiling));
                self.shared.set_covered(self.mark.covered_through());
                Ok(versions)
            }
            Err(Fault::Locked) => {
                self.be_locked_out("a commit");
                Err(StoreError::Locked)
            }
            Err(Fault::Full(shortage)) => {
                self.be_full(shortage);
                Err(StoreError::Full(shortage))
            }
            Err(Fault::Broken(error)) => {
                self.shared.fail("a commit", &error);
                Err(StoreError::Failed)
            }
        }
    }

    /// Whether it is worth trying. What was queued before the store was closed still is.
    fn check(&mut self, inserts: &[Insert]) -> Result<(), StoreError> {
        if self.shared.has_failed() {
            return Err(StoreError::Failed);
        }
        if self.shared.mode() == Mode::Full {
            return Err(StoreError::Full(self.shared.shortage()));
        }
        let bytes = inserts.iter().map(|insert| insert.data.len() as u64).sum();
        match self.room.lacks(bytes, self.keeper.log(), self.clock.now().millis) {
            None => Ok(()),
            Some(shortage) => {
                self.be_full(shortage);
                Err(StoreError::Full(shortage))
            }
        }
    }

    fn reserve(&self, count: usize) -> Option<u64> {
        for _ in 0..self.tuning.reserve_tries {
            let first = self.order.reserve(count);
            if first.is_some() {
                return first;
            }
            self.clock.sleep(RESERVE_PAUSE);
        }
        None
    }

    /// All see them, then those who inserted them hear of it.
    fn tell(&mut self, records: Vec<Record>, replies: Vec<Completion<u64>>, versions: &[Version]) {
        self.index.add(versions);
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        counters.records.fetch_add(versions.len() as u64, Ordering::Relaxed);
        self.count();
        self.order.publish(records);
        for (reply, (_, id)) in replies.into_iter().zip(versions) {
            reply.send(Ok(schema::from_sql(*id)));
        }
    }

    /// Tells how much there is.
    pub fn count(&self) {
        let counters = &self.shared.counters;
        counters.names.store(self.names.len() as u64, Ordering::Relaxed);
        counters.unindexed.store(self.index.behind() as u64, Ordering::Relaxed);
    }
}

// What must be done now and then.
impl Writer {
    /// Raises the mark if ids were given that no commit has covered. On a full disk, too: what inserts leave of it is for this.
    fn look(&mut self) {
        let now = self.clock.now().millis;
        let is_early = self.looked_at.is_some_and(|last| now - last < LOOK.as_millis() as u64);
        if is_early || self.shared.mode() > Mode::Full {
            return;
        }
        self.looked_at = Some(now);
        self.cover();
    }

    /// Whatever ids were given so far, no later start gives them again.
    pub fn cover(&mut self) {
        if let Some(ceiling) = self.mark.raise_due(self.order.newest()) {
            self.raise(ceiling);
        }
        self.shared.set_covered(self.mark.covered_through());
    }

    fn raise(&mut self, ceiling: u64) -> bool {
        let raised = schema::set_meta(&self.connection, CEILING, schema::to_sql(ceiling));
        let holds = self.holds("storing the newest id", raised);
        if holds {
            self.shared.note_unlocked();
            self.mark.set(ceiling);
        }
        holds
    }

    /// A full disk is tried again with what must be written anyway.
    fn retry(&mut self) {
        let now = self.clock.now().millis;
        if self.shared.mode() != Mode::Full || now - self.full_at < self.tuning.retry.as_millis() as u64 {
            return;
        }
        self.full_at = now;
        let relieved = self.keeper.relieve(&self.connection);
        if !self.holds("checkpointing the database", relieved) {
            return;
        }
        self.room.doubt();
        if let Some(shortage) = self.room.lacks(0, self.keeper.log(), now) {
            return self.shared.fill(shortage);
        }
        if self.raise(self.mark.probe_value(self.order.newest())) {
            self.shared.recover();
        }
    }

    /// A slice of the index, and the log.
    fn tend(&mut self) {
        if self.shared.mode() == Mode::Ready {
            self.slice();
            let attended = self.keeper.attend(&self.connection, &self.tuning);
            self.holds("checkpointing the database", attended);
        }
    }

    fn slice(&mut self) {
        if self.index.waiting() >= self.tuning.unindexed {
            self.index.begin();
        }
        let sliced = self.index.slice(&mut self.connection, self.tuning.slice, &self.clock);
        self.holds("indexing", sliced);
        self.count();
    }

    /// The end. After a failure everything stays as it is for the next opening.
    pub fn seal(mut self) {
        if !self.shared.has_failed() {
            let completed = self.index.complete(&mut self.connection, &self.clock);
            self.holds("indexing", completed);
        }
        if let Some(newest) = self.mark.final_value(self.order.newest()).filter(|_| !self.shared.has_failed()) {
            self.raise(newest);
        }
        self.keeper.end();
        if !self.shared.has_failed() {
            empty_log(&self.connection);
        }
    }
}

fn empty_log(connection: &Connection) {
    match checkpointer::empty(connection) {
        Ok(true) => (),
        Ok(false) => log::info!("another program is reading the database; its log is kept until the next start"),
        Err(error) => log::error!("the store's log can't be merged into its database: {error}"),
    }
}
