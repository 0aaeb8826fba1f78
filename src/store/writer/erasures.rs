//! Erasures: removes versions, and then everything that is left of them in the files. All in slices between the commits.
//!
//! ```text
//! begin (durable; a name is gone at once) ──► index complete ──► remove rows ──► clear all pages ──► empty the WAL ──► reply
//!                                             └─ each erasure in its turn ────┘  └─ purge: shared by those that wait ┘
//! ```
//!
//! What is not done yet is in the database: `erasures` has the versions to be removed, and `purge_due` in `meta` says that files
//! may contain erased text. So a start after a crash continues, though nobody waits for the reply.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::Writer;
use crate::store::checkpointer::Emptying;
use crate::store::error::{StoreError, Unerased};
use crate::store::queue::{Completion, Erase, MAX_ERASURES};
use crate::store::tables::commit::NameKey;
use crate::store::tables::erasure::Erasure;
use crate::store::tables::recovery::DuePurge;

/// The pause between two tries while an erasure waits for readers.
const RETRY_MILLIS: u64 = 20;
/// The maximum number of erasures that are begun between two commits, each with an fsync.
const MAX_BEGUN: usize = 4;
/// The pause while nobody waits for the erasure.
const IDLE_RETRY_MILLIS: u64 = 5_000;

/// An erasure that waits for the purge, and the number of versions that it has removed.
struct Waiter {
    erased: u64,
    completion: Completion<u64, Unerased>,
}

/// An erasure whose versions are being removed.
struct Removal {
    erasure: Erasure,
    /// The index must have all records up to this id, because it leads to the versions.
    through: i64,
    /// Whether it has them.
    is_indexed: bool,
    erased: u64,
    /// `None` if nobody waits: the erasure is of an earlier run, or was answered with an error.
    completion: Option<Completion<u64, Unerased>>,
}

/// A purge that is under way.
struct Purge {
    /// The next page to be cleared; `None` if all are.
    next: Option<u32>,
    waiters: Vec<Waiter>,
    /// Whether the checkpointer's thread may do its part first.
    may_delegate: bool,
}

/// The erasures that are under way.
#[derive(Default)]
pub(super) struct Erasures {
    /// In the order of their requests. With `removed` and the waiters of the purge at most [`MAX_ERASURES`], and those of
    /// earlier runs.
    removals: VecDeque<Removal>,
    /// Waiting for the next purge.
    removed: Vec<Waiter>,
    /// Whether another purge is due, even if nobody waits for it.
    is_purge_due: bool,
    purge: Option<Purge>,
    /// When to continue, in milliseconds.
    due: u64,
    /// Since when readers of other programs have been in the way.
    blocked_since: Option<u64>,
}

impl Erasures {
    /// Returns when there is something to do, unless there is nothing.
    pub fn next_due(&self, now_millis: u64) -> Option<Duration> {
        let is_idle = self.removals.is_empty() && self.removed.is_empty() && !self.is_purge_due && self.purge.is_none();
        (!is_idle).then(|| Duration::from_millis(self.due.saturating_sub(now_millis)))
    }

    /// Returns whether there is something to do now.
    pub fn is_due(&self, now_millis: u64) -> bool {
        self.next_due(now_millis).is_some_and(|due| due.is_zero())
    }

    fn has_room(&self) -> bool {
        let in_purge = self.purge.as_ref().map_or(0, |purge| purge.waiters.len());
        self.removals.len() + self.removed.len() + in_purge < MAX_ERASURES
    }

    /// Returns whether anybody waits.
    fn is_awaited(&self) -> bool {
        self.purge.as_ref().is_some_and(|purge| !purge.waiters.is_empty())
            || !self.removed.is_empty()
            || self.removals.iter().any(|removal| removal.completion.is_some())
    }

    /// Completes all erasures with an error. Those that have begun are continued nevertheless.
    fn fail(&mut self, error: Unerased) {
        let in_purge = self.purge.as_mut().map(|purge| mem::take(&mut purge.waiters)).unwrap_or_default();
        let waiting = mem::take(&mut self.removed).into_iter().chain(in_purge).map(|waiter| waiter.completion);
        let removing = self.removals.iter_mut().filter_map(|removal| removal.completion.take());
        waiting.chain(removing).for_each(|completion| completion.send(Err(error)));
    }

    /// Notes that readers of other programs are in the way. Erasures wait for them no longer than `patience`, in milliseconds.
    fn wait_for_readers(&mut self, now_millis: u64, patience: u64) {
        if now_millis.saturating_sub(*self.blocked_since.get_or_insert(now_millis)) >= patience {
            self.fail(Unerased::Reading);
        }
        self.due = now_millis + if self.is_awaited() { RETRY_MILLIS } else { IDLE_RETRY_MILLIS };
    }
}

// Erasures.
impl Writer {
    /// Continues what an earlier run has left. To be called once, before the first iteration.
    pub fn resume_erasures(&mut self, due: DuePurge) {
        let DuePurge { erasures, is_due } = due;
        if is_due {
            log::info!("completing an erasure that an earlier run began");
        }
        self.erasures.is_purge_due = is_due;
        erasures.into_iter().for_each(|erasure| self.add_removal(erasure, None));
    }

    fn add_removal(&mut self, erasure: Erasure, completion: Option<Completion<u64, Unerased>>) {
        let through = self.tables.newest_unindexed();
        self.erasures.is_purge_due = true;
        self.erasures.removals.push_back(Removal { erasure, through, is_indexed: false, erased: 0, completion });
    }

    /// Begins some of the erasures that are queued. Refuses all, and those that wait, while no requests are accepted.
    pub(super) fn begin_erasures(&mut self) {
        if let Some(refusal) = self.shared.refusal() {
            self.erasures.fail(refusal.into());
        }
        let mut begun = 0;
        while begun < MAX_BEGUN
            && let Some(Erase { name, before, completion }) = self.queue.take_erase()
        {
            if !self.erasures.has_room() {
                completion.send(Err(StoreError::Busy.into()));
                continue;
            }
            self.erasures.due = 0;
            if !self.erasures.is_awaited() {
                self.erasures.blocked_since = None;
            }
            match self.begin_erasure(&name, before) {
                Ok(Some(erasure)) => {
                    self.add_removal(erasure, Some(completion));
                    begun += 1;
                }
                // It waits for the purge of erasures before it, which may have been of the same name.
                Ok(None) => self.erasures.removed.push(Waiter { erased: 0, completion }),
                Err(error) => {
                    completion.send(Err(error.into()));
                    if error == StoreError::Busy {
                        self.refuse_queued_erasures();
                    }
                }
            }
        }
    }

    /// Refuses the erasures that are queued. None of them would get an id, and each would hold up the inserts until it is known.
    fn refuse_queued_erasures(&self) {
        while let Some(Erase { completion, .. }) = self.queue.take_erase() {
            completion.send(Err(StoreError::Busy.into()));
        }
    }

    /// Stores what is to be erased. `None` if nothing is.
    fn begin_erasure(&mut self, name: &str, before: Option<u64>) -> Result<Option<Erasure>, StoreError> {
        let log_bytes = self.checkpointer.status().remaining();
        if let Some(shortage) = self.space.check(0, log_bytes, self.now_millis()) {
            self.set_full(shortage);
        }
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        let (key, newest) = match self.tables.newest_version(name) {
            Ok(Some(newest)) => newest,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.check("reading the newest version", Err(error));
                return Err(self.write_error());
            }
        };
        let is_whole = before.is_none_or(|before| i64::try_from(before).map_or(true, |before| before > newest));
        let id = if is_whole { Some(self.reserve(1).ok_or(StoreError::Busy)?) } else { None };
        let ceiling = self.mark.raise_due(self.order.newest());
        let erasure = self.store_erasure((name, key), id.or(before).unwrap_or(0), id, ceiling)?;
        ceiling.into_iter().for_each(|ceiling| self.mark.set(ceiling));
        self.shared.set_covered(self.mark.covered_through());
        if let Some(id) = id {
            self.order.publish_erasure(name, id);
        }
        self.update_gauges();
        Ok(Some(erasure))
    }

    /// Stores an erasure: see [`Tables::begin_erasure`](crate::store::tables::Tables::begin_erasure). Waits for another program's
    /// lock as long as inserts do.
    fn store_erasure(
        &mut self,
        name: (&str, NameKey),
        before: u64,
        id: Option<u64>,
        ceiling: Option<u64>,
    ) -> Result<Erasure, StoreError> {
        while !self.shared.is_locked() {
            self.is_locked = false;
            match self.tables.begin_erasure(name, before, id, ceiling) {
                Ok(erasure) => {
                    self.shared.clear_locked();
                    return Ok(erasure);
                }
                Err(error) => self.check("beginning an erasure", Err(error)),
            };
            if !self.is_locked {
                return Err(self.write_error());
            }
        }
        Err(StoreError::Locked)
    }

    /// Continues the erasures that are under way with one slice.
    pub(super) fn maintain_erasures(&mut self) {
        if self.shared.refusal().is_some() {
            return;
        }
        let continued = self.continue_erasures();
        // A lock of another program may be released soon. If not, the next iteration refuses those that wait.
        if !self.check("erasing versions", continued) && !self.is_locked {
            let error = self.write_error();
            self.erasures.fail(error.into());
            // So that inserts have their turn if the disk is full again.
            self.erasures.due = self.now_millis() + IDLE_RETRY_MILLIS;
        }
    }

    fn continue_erasures(&mut self) -> rusqlite::Result<()> {
        let now = self.now_millis();
        if !self.erasures.is_due(now) {
            return Ok(());
        }
        if self.checkpointer.status().remaining() > self.tuning.wal_limit / 2 {
            if self.checkpointer.is_running() {
                // How far it has come shows when it ends.
                self.erasures.due = now + RETRY_MILLIS;
            } else {
                // The log would grow and grow: checkpoints make no progress.
                self.erasures.wait_for_readers(now, self.patience());
            }
            return Ok(());
        }
        // Removing rows makes it necessary to clear pages again.
        if self.erasures.removals.is_empty() || self.tables.is_scrubbing() {
            self.purge_slice(now)
        } else {
            self.remove_slice()
        }
    }

    /// Returns whether an erasure has something to do now, or its pages are being cleared.
    pub(super) fn is_erasing(&self) -> bool {
        self.erasures.is_due(self.now_millis()) || self.tables.is_scrubbing()
    }

    fn patience(&self) -> u64 {
        self.tuning.erase_patience.as_millis() as u64
    }

    /// Removes the next versions of the first erasure.
    fn remove_slice(&mut self) -> rusqlite::Result<()> {
        let Some(removal) = self.erasures.removals.front_mut() else { return Ok(()) };
        removal.is_indexed |= self.tables.is_indexed_through(removal.through);
        if !removal.is_indexed {
            self.tables.begin_indexing();
            return Ok(());
        }
        let removed = self.tables.remove_slice(removal.erasure, self.tuning.erase_slice)?;
        self.erasures.blocked_since = None;
        match removed {
            Some(erased) => removal.erased += erased,
            None => {
                if let Some(Removal { erased, completion: Some(completion), .. }) = self.erasures.removals.pop_front() {
                    self.erasures.removed.push(Waiter { erased, completion });
                }
            }
        }
        Ok(())
    }

    /// Continues the purge, or begins one.
    fn purge_slice(&mut self, now: u64) -> rusqlite::Result<()> {
        let erasures = &mut self.erasures;
        // A purge for which nobody waits any more covers none of those that were removed since it began.
        let is_unawaited = erasures.purge.as_ref().is_some_and(|purge| purge.waiters.is_empty());
        let must_repeat = is_unawaited && !erasures.removed.is_empty() && erasures.removals.is_empty();
        if erasures.purge.is_none() || must_repeat {
            if self.tables.is_indexing() {
                // That ends soon, and would make it necessary to clear pages again.
                return Ok(());
            }
            erasures.is_purge_due |= must_repeat;
            let waiters = mem::take(&mut erasures.removed);
            if !mem::take(&mut erasures.is_purge_due) {
                // Nothing was removed since the last purge.
                waiters.into_iter().for_each(|waiter| waiter.completion.send(Ok(waiter.erased)));
                return Ok(());
            }
            erasures.purge = Some(Purge { next: Some(1), waiters, may_delegate: true });
        }
        match erasures.purge.as_mut() {
            Some(Purge { next: next @ Some(_), .. }) => {
                *next = self.tables.scrub_slice(next.unwrap_or(1), self.tuning.erase_slice)?;
                self.erasures.blocked_since = None;
                Ok(())
            }
            _ => self.empty_wal_for_purge(now),
        }
    }

    /// Empties the WAL, which ends the purge. Other programs that are reading the database may prevent it.
    fn empty_wal_for_purge(&mut self, now: u64) -> rusqlite::Result<()> {
        let may_delegate = self.erasures.purge.as_mut().is_some_and(|purge| mem::take(&mut purge.may_delegate));
        match self.checkpointer.empty(self.tables.connection(), may_delegate)? {
            Emptying::Done => self.end_purge(),
            Emptying::Delegated => {
                self.erasures.due = now + RETRY_MILLIS;
                Ok(())
            }
            Emptying::Blocked => {
                self.erasures.wait_for_readers(now, self.patience());
                Ok(())
            }
        }
    }

    /// Completes the erasures whose purge has ended.
    fn end_purge(&mut self) -> rusqlite::Result<()> {
        self.erasures.blocked_since = None;
        let waiters = self.erasures.purge.take().map(|purge| purge.waiters).unwrap_or_default();
        // Whether or not that can be stored, the text is gone: at worst, the next start purges again.
        let ended = if self.erasures.is_purge_due { Ok(()) } else { self.tables.end_purge() };
        waiters.into_iter().for_each(|waiter| waiter.completion.send(Ok(waiter.erased)));
        ended
    }
}
