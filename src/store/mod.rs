//! Records: inserted once, kept for good, every version of every name. An embedded SQLite database with
//! one thread that writes, one that moves the log into place, one that reads histories and one that looks up ids.
//! Refuses to know who asks, how ids are made, and what HTTP, topics and subscribers are.
//!
//! ```text
//! place    where the files are, and who holds them
//! files    opens them: private, without links, their owner's alone
//! schema   the tables, their version, and connections to them
//! opening  from files to a store: locked, checked, the newest of every name read
//! queue    what waits to be written, and answers that are never lost
//! writer   the thread that commits, and whose spare moments go to index and log
//! commit   one transaction, one fsync
//! index    the versions of each name, noted behind the commits
//! keeper   the thread that moves the log into the database
//! room     how much the disk has left
//! shortage why there is no room
//! audit    the thread that reads histories
//! page     one page, slice by slice
//! schedule whose slice is next
//! lookup   the thread that looks up whether records exist
//! state    ready, full or failed; counters
//! hands    the same without threads, for simulation
//! tools    check, dump and load, for a store that nobody runs
//! ```
//!
//! **Insert**: queue → the writer takes all that wait → ids from `Order::reserve` → one transaction that appends to
//! `records` → one fsync → `Order::publish` → answers, in the order of commits. The index `versions` is filled in behind the
//! commits, sorted, in slices; it is a copy of what `records` says, so its transactions need no fsync of their own.
//!
//! # Invariants
//!
//! 1. What was answered with an id is on the disk; what is not on the disk was never published.
//! 2. `versions` is complete up to `indexed_through`, and says nothing that `records` does not.
//! 3. After a failed write or fsync nothing more is written until the next opening, which first moves the log into
//!    the database: what the kernel holds of a log whose fsync failed may be gone after a loss of power.
//! 4. An id of an insert that failed is never given again.

mod checkpointer;
mod commit;
mod disk_space;
mod error;
mod files;
mod history_reader;
mod index;
mod location;
mod lookup;
mod manual;
mod opening;
mod page;
mod queue;
mod schedule;
mod schema;
mod shortage;
mod state;
mod tools;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use error::{BadName, OpenError, StoreError};
pub use location::Location;
pub use manual::ManualStore;
pub use opening::Opening;
pub use page::{Page, PageQuery};
pub use shortage::Shortage;
pub use state::{Health, Status};
pub use tools::{BadLine, Report, ToolError, check, dump, load};

use disk_space::SpaceProbe;
use history_reader::HistoryReader;
use location::DataDir;
use lookup::Lookup;
use queue::{Completion, Insert, Queue};
use state::{Mode, Shared};

use crate::quota::{Client, PageReservation};

/// The longest name of a record in bytes.
pub const MAX_NAME: usize = 256;

/// An event stored for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order of everything.
    pub id: u64,
    /// What it is a version of.
    pub name: Arc<str>,
    /// JSON text, as it is kept.
    pub data: Box<str>,
}

/// A store that runs. To be shared; closed at the latest when it is dropped.
pub struct Store {
    queue: Queue,
    auditor: HistoryReader,
    lookup: Lookup,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

/// What must end, and in which order: the threads, then the hold on the directory.
struct Running {
    reader: JoinHandle<()>,
    finder: JoinHandle<()>,
    writer: JoinHandle<()>,
    home: DataDir,
}

impl Store {
    /// Takes hold of the place, checks what is there and reads the newest record of every name.
    pub fn open(place: &Location) -> Result<Opening, OpenError> {
        Self::open_tuned(place, Tuning::default())
    }

    /// The same with other bounds.
    pub fn open_tuned(place: &Location, tuning: Tuning) -> Result<Opening, OpenError> {
        opening::open(place, tuning)
    }

    /// Queues a record; `data` is JSON text and kept as it is. The reply comes once it is stored and published, from the
    /// writer's thread, or at once, from this one, if it can't be queued. It must not block, nor close the store.
    pub fn insert(&self, name: Arc<str>, data: Box<str>, reply: impl FnOnce(Result<u64, StoreError>) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        let reply = Completion::new(move |stored: Result<u64, StoreError>| {
            stored.err().into_iter().for_each(|error| shared.count_refusal(error));
            reply(stored);
        });
        match self.shared.refusal() {
            Some(refusal) => reply.send(Err(refusal)),
            None => self.queue.push(Insert { name, data, reply }),
        }
    }

    /// Reads versions of a name into memory that is reserved for them; if more can't be reserved the page gets shorter. The reply
    /// has what is reserved for the page. It comes from the reader's thread, or at once, from this one, if too many wait. It must
    /// not block, nor close the store.
    pub fn audit(
        &self,
        query: PageQuery,
        client: Client,
        reservation: PageReservation,
        reply: impl FnOnce(Result<(Page, PageReservation), StoreError>) + Send + 'static,
    ) {
        self.auditor.ask(query, client, reservation, Completion::new(reply));
    }

    /// Looks up whether there is a record with this id, the newest of its name or not. What is published exists already. The
    /// reply comes from the lookups' thread, or at once, from this one, if too many wait. It must not block, nor close the
    /// store.
    pub fn find(&self, id: u64, reply: impl FnOnce(Result<bool, StoreError>) + Send + 'static) {
        self.lookup.ask(id, Completion::new(reply));
    }

    /// Reports that this id was assigned to something that is not stored. If the high-water mark does not cover it, the writer
    /// raises the mark a moment later, so that no later run assigns the id again. The ids of records are covered by their
    /// commit.
    pub fn note_assigned_id(&self, id: u64) {
        if self.shared.must_raise_mark(id) {
            self.queue.nudge();
        }
    }

    /// Returns where its files are.
    pub fn directory(&self) -> Arc<Path> {
        Arc::clone(&self.shared.path)
    }

    /// How it is, and the counters.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Commits what is queued, completes the index, notes the exact newest id, moves the log into the database and lets go
    /// of the directory. Returns when that is done. Whoever gives ids must have stopped before, or a crash in the same
    /// moment as a clock set back could give one twice.
    pub fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { reader, finder, writer, home }) = running else { return };
        self.shut();
        for thread in [reader, finder, writer] {
            if thread.join().is_err() {
                log::error!("a thread of the store panicked");
            }
        }
        drop(home);
    }

    fn run(&self, running: Running) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// What is queued by now is the last.
    fn shut(&self) {
        self.shared.enter(Mode::Closed);
        self.auditor.close();
        self.lookup.close();
        self.queue.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether records may have this name: 1 to [`MAX_NAME`] bytes, no control characters.
pub fn check_name(name: &str) -> Result<(), BadName> {
    match name {
        "" => Err(BadName::Empty),
        _ if name.len() > MAX_NAME => Err(BadName::Long(name.len())),
        _ if name.chars().any(char::is_control) => Err(BadName::Control),
        _ => Ok(()),
    }
}

/// The bounds that tests make small.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// So many records wait for the index before it is brought up to date, even if the store is never idle. Hardly more do at
    /// any time: that is faster than records come.
    pub unindexed: usize,
    /// At least so many of them are indexed between two commits.
    pub slice: usize,
    /// The log is moved into the database when it has grown by so many bytes.
    pub log_growth: u64,
    /// Beyond so many bytes of log a commit waits for the move, unless another program's reading prevents it.
    pub log_bound: u64,
    /// Whoever gives ids is asked so often, a millisecond apart, before inserts are refused.
    pub reserve_tries: usize,
    /// At most so many rows of a history are read before others have their turn.
    pub page_rows: usize,
    /// A full disk is tried again after so long.
    pub retry: Duration,
    /// Tells how full it is.
    gauge: SpaceProbe,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            unindexed: 1 << 16,
            slice: 1 << 10,
            log_growth: 16 << 20,
            log_bound: 128 << 20,
            reserve_tries: 5000,
            page_rows: 128,
            retry: Duration::from_secs(3),
            gauge: DataDir::room,
        }
    }
}
