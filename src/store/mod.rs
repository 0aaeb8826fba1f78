//! Records: stored by an insert, and kept until the retention removes them or somebody erases them. An embedded SQLite database
//! in WAL mode with one thread that writes, one that checkpoints, one that reads histories and one that looks up ids.
//! Independent of HTTP, topics and subscribers.
//!
//! ```text
//! record           a record, the rule for its name, and a page of its history
//! report           the state of a store, and why it refuses a request
//! absent           takes the place of all this in a build without records
//! disk/            location   the data directory and the lock on it
//!                  files      its files: private, no symbolic links, the user's own
//!                  history_file  the history of topics between two runs
//!                  space      free space
//!                  shortage   why the disk is full
//! tables/          schema     the tables, their version, and connections to them
//!                  commit     one transaction, one fsync
//!                  index      the versions of each name, added after the commits
//!                  idempotency keys by which a repeated request is recognized
//!                  pruning    removes versions that exceed the retention
//!                  vacuum     gives free pages back to the file system
//!                  slice      how long work between commits may take
//!                  revocations revocations of tokens
//!                  erasure    the removal of versions
//!                  scrub      clears what SQLite leaves behind of removed rows
//!                  recovery   what is read when the store is opened
//! opening          from a location to a running store
//! queue            queued inserts, and completions that are never lost
//! judgement        which requests of a batch are stored: by their keys and conditions
//! writer           the thread that commits, and maintains index, mark and WAL in between, and removes versions
//! writer/          erasures   erases versions in slices between the commits
//!                  tidying    removes versions and gives pages back, with pauses
//!                  revocations stores revocations of tokens
//!                  other_programs notices locks on the database, and files that are removed
//! checkpointer     the thread that copies the WAL into the database
//! read/            history    the thread that reads histories
//!                  page       reads one page, slice by slice
//!                  lookup     the thread that looks up whether records exist
//! state            ready, full, failed or closed; counters
//! error            what can go wrong, and what SQLite's errors mean
//! tuning           limits and intervals
//! manual           a store without threads, for simulation
//! tools/           check, dump, erase and load, for a store that no broker has open
//! ```
//!
//! **Insert**: the queue → the writer takes all queued inserts → judges their keys and conditions, in order → ids for the
//! accepted ones from `Order::reserve` → one transaction that appends to `records` (a group commit) → one fsync →
//! `Order::publish` → completions, in commit order. Rejected requests get their replies then as well, because the judgement
//! may depend on what was accepted before them. The index `versions` is filled after the commits, sorted and in slices. It
//! only copies what `records` says, so its transactions need no fsync of their own.
//!
//! # Invariants
//!
//! 1. A record whose insert was completed with an id is on the disk, and a record that is not on the disk was never
//!    published, except for what 6 removes.
//! 2. `versions` is complete up to `indexed_through`, and contains nothing that `records` does not; except for the oldest
//!    versions of a name while they are being removed, which `meta` says.
//! 3. After a failed write or fsync nothing more is written until the next opening, which first checkpoints the WAL: pages
//!    of the WAL that are in the page cache but whose fsync failed may be lost with the next power cut.
//! 4. The id of an insert that failed is never assigned again.
//! 5. A record and its idempotency key are stored in the same transaction.
//! 6. Only versions that exceed the retention are removed, and never the newest of a name, unless it is erased.

mod checkpointer;
mod disk;
mod error;
mod judgement;
mod manual;
mod opening;
mod queue;
mod read;
mod report;
mod state;
mod tables;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the binary has commands for it"))]
mod tools;
mod tuning;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use crate::records::{Page, PageQuery, Record, check_name};
pub use disk::location::Location;
pub use disk::shortage::Shortage;
pub use error::OpenError;
#[cfg(feature = "internals")]
pub use manual::ManualStore;
pub use opening::Opening;
pub use report::{Health, StartWait, Status, StoreError, Unerased};
pub(crate) use report::{HeldBy, UNLOCK};
#[cfg_attr(not(feature = "cli"), allow(unused_imports, reason = "only the binary has commands for it"))]
pub use tools::{check, dump, erase, load};
pub use tuning::Tuning;

use disk::history_file;
use disk::location::DataDir;
use queue::{Completion, Erase, Insert, InsertQueue, Revoke};
use read::history::HistoryHandle;
use read::lookup::LookupHandle;
use state::{Mode, Shared};

use crate::quota::{Client, PageReservation};
use crate::records::insert::{InsertOutcome, InsertRequest};

/// Whether records can be stored: see the feature `records`.
pub const IS_AVAILABLE: bool = true;

/// A running store, to be shared between threads. Dropping it closes it.
pub struct Store {
    queue: InsertQueue,
    history: HistoryHandle,
    lookup: LookupHandle,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// What closing ends: first the threads, then the lock on the data directory.
struct Running {
    history: JoinHandle<()>,
    lookup: JoinHandle<()>,
    /// Ends with the high-water mark in the database; `None` if it is unknown.
    writer: JoinHandle<Option<u64>>,
    data_dir: DataDir,
}

impl Store {
    /// Opens the store in a location, checks it, and reads the newest record of every name.
    #[cfg(any(test, feature = "internals"))]
    pub fn open(location: &Location) -> Result<Opening, OpenError> {
        Self::open_tuned(location, Tuning::default())
    }

    /// Opens the store like [`Store::open`], but while another program holds the database, waits as long as `goes_on` says so,
    /// and logs that it waits. A copy is also checked only as long as `goes_on` says so.
    pub fn open_waiting(location: &Location, goes_on: &mut dyn FnMut(StartWait) -> bool) -> Result<Opening, OpenError> {
        opening::open(location, Tuning::default(), goes_on)
    }

    /// Opens the store in a location with other limits than the default.
    #[cfg(any(test, feature = "internals"))]
    pub fn open_tuned(location: &Location, tuning: Tuning) -> Result<Opening, OpenError> {
        opening::open(location, tuning, &mut |wait| wait == StartWait::Check)
    }

    /// Queues a request to insert a record, whose data is JSON text and stored as is. `reply` is called with the outcome once
    /// the record is stored and published, or the request is rejected because of its key or its condition, on the writer's
    /// thread; or immediately, on this one, if the request can't be queued. It must not block or close the store.
    pub fn insert(
        &self,
        request: InsertRequest,
        reply: impl FnOnce(Result<InsertOutcome, StoreError>) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        let completion = Completion::new(move |outcome: Result<InsertOutcome, StoreError>| {
            outcome.err().into_iter().for_each(|error| shared.count_refusal(error));
            reply(outcome);
        });
        match self.shared.refusal() {
            Some(refusal) => completion.send(Err(refusal)),
            None => self.queue.push(Insert { request, completion }),
        }
    }

    /// Stores a revocation of tokens in this second since the Unix epoch. `reply` is called when it is stored, on the writer's
    /// thread. It must not block or close the store.
    pub fn revoke(&self, text: String, second: u64, reply: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        self.queue.push_revoke(Revoke { text, second, completion: Completion::new(reply) });
    }

    /// Erases the versions of a name, from the files as well: those with a smaller id than `before`, or all of them. `reply` is
    /// called with their number when that is done, on the writer's thread, or immediately, on this one, if too many erasures
    /// wait. It must not block or close the store.
    ///
    /// An erasure that has begun is completed even if the store is closed or killed before: by the next run.
    pub fn erase(
        &self,
        name: Arc<str>,
        before: Option<u64>,
        reply: impl FnOnce(Result<u64, Unerased>) + Send + 'static,
    ) {
        let completion = Completion::new(reply);
        match self.shared.refusal() {
            Some(refusal) => completion.send(Err(refusal.into())),
            None => self.queue.push_erase(Erase { name, before, completion }),
        }
    }

    /// Reads a page of a name's history into reserved memory; the page is shorter if not enough can be reserved. `reply` is
    /// called with the page and its reservation on the reader's thread, or immediately, on this one, if too many requests
    /// are waiting. It must not block or close the store.
    pub fn read_history(
        &self,
        query: PageQuery,
        client: Client,
        reservation: PageReservation,
        reply: impl FnOnce(Result<(Page, PageReservation), StoreError>) + Send + 'static,
    ) {
        self.history.submit(query, client, reservation, Completion::new(reply));
    }

    /// Looks up whether a record with this id exists, whether or not it is the newest of its name. A published record
    /// exists. `reply` is called on the lookup thread, or immediately, on this one, if too many lookups are waiting. It must
    /// not block or close the store.
    pub fn contains(&self, id: u64, reply: impl FnOnce(Result<bool, StoreError>) + Send + 'static) {
        self.lookup.submit(id, Completion::new(reply));
    }

    /// Reports that this id was assigned to something that is not stored. If the high-water mark does not cover it, the writer
    /// raises the mark a moment later, so that no later run assigns the id again. The ids of records are covered by their
    /// commit.
    pub fn note_assigned_id(&self, id: u64) {
        if self.shared.must_raise_mark(id) {
            self.queue.request_mark_check();
        }
    }

    /// Returns the data directory.
    pub fn directory(&self) -> Arc<Path> {
        Arc::clone(&self.shared.path)
    }

    /// Returns the store's state and counters.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Commits the queued inserts, completes the index, writes the exact newest id, checkpoints the WAL and releases the
    /// data directory; returns when that is done. No more ids may be assigned: otherwise a crash at that moment and a clock
    /// that is set back could assign one twice.
    pub fn close(&self) {
        drop(self.stop());
    }

    /// Closes the store, as [`Store::close`] does, and then creates the file from which the next start continues the history,
    /// with what `write` writes for the high-water mark that is now in the database. If `is_late` says so in the end, or anything
    /// fails, there is no file. Returns its length; `None` if there is no data directory, or the store was already closed.
    pub fn close_with_history(
        &self,
        write: &mut dyn FnMut(u64, &mut dyn std::io::Write) -> std::io::Result<()>,
        is_late: &dyn Fn() -> bool,
    ) -> std::io::Result<Option<u64>> {
        let Some((data_dir, mark)) = self.stop() else { return Ok(None) };
        let Some(directory) = data_dir.directory_path() else { return Ok(None) };
        let mark = mark.ok_or_else(|| std::io::Error::other("the store has failed"))?;
        history_file::save(directory, &mut |output| write(mark, output), is_late).map(Some)
    }

    /// Ends the threads. Returns the data directory, which is released when it is dropped, and the high-water mark in the
    /// database, unless it is unknown. `None` if they have already ended.
    fn stop(&self) -> Option<(DataDir, Option<u64>)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Running { history, lookup, writer, data_dir } = running?;
        self.begin_close();
        let mark = writer.join();
        let ended = [history.join().is_ok(), lookup.join().is_ok(), mark.is_ok()];
        ended.iter().filter(|is_ok| !**is_ok).for_each(|_| log::error!("a thread of the store panicked"));
        Some((data_dir, mark.ok().flatten()))
    }

    fn set_running(&self, running: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Refuses new requests; those that are queued are still processed.
    fn begin_close(&self) {
        self.shared.raise_mode(Mode::Closed);
        self.history.close();
        self.lookup.close();
        self.queue.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
