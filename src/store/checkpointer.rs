//! Checkpoints: copies the WAL into the database while commits go on. SQLite can restart the WAL from its beginning only
//! when all of it is checkpointed, which under load never happens by itself. So a thread checkpoints most of it, and the
//! writer checkpoints the small remainder between two commits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::error::Fault;
use super::state::Shared;
use super::tables::schema::{LOCK_SLICE, PAGE_BYTES};
use super::tuning::Tuning;

/// The writer checkpoints this many bytes itself, as that is quick.
const SMALL_REMAINDER: u64 = 2 << 20;
/// How often the thread also checkpoints what was committed in the meantime, before it leaves the remainder to the writer.
const MAX_ROUNDS: usize = 3;
/// How long the writer waits for readers when it empties the WAL while the store is running. A page of a history takes less.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(20);

/// The state of the WAL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WalStatus {
    /// Bytes in use.
    pub bytes: u64,
    /// How many of them are checkpointed.
    pub checkpointed: u64,
}

impl WalStatus {
    /// Returns the bytes that are not checkpointed yet.
    pub fn remaining(self) -> u64 {
        self.bytes.saturating_sub(self.checkpointed)
    }
}

/// Returns the state of the WAL and changes nothing.
pub(super) fn wal_status(connection: &Connection) -> rusqlite::Result<WalStatus> {
    checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").map(|(status, _)| status)
}

/// Checkpoints as much as readers permit, without waiting for them.
pub(super) fn checkpoint_passive(connection: &Connection) -> rusqlite::Result<WalStatus> {
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").map(|(status, _)| status)
}

/// Checkpoints everything and truncates the WAL. Returns false if another program's read transaction prevents it.
pub(super) fn checkpoint_truncate(connection: &Connection) -> rusqlite::Result<bool> {
    checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)").map(|(_, is_blocked)| !is_blocked)
}

/// Returns the state of the WAL afterwards, and whether another program prevented the checkpoint. A database in memory has no
/// WAL, and SQLite reports −1 frames.
fn checkpoint(connection: &Connection, pragma: &str) -> rusqlite::Result<(WalStatus, bool)> {
    connection.prepare_cached(pragma)?.query_row([], |row| {
        let bytes = |frames: i64| u64::try_from(frames).unwrap_or(0) * PAGE_BYTES;
        let status = WalStatus { bytes: bytes(row.get(1)?), checkpointed: bytes(row.get(2)?) };
        Ok((status, row.get::<_, i64>(0)? != 0))
    })
}

/// How far [`Checkpointer::empty`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptying {
    /// The WAL is empty.
    Done,
    /// The thread is checkpointing. Try again a moment later.
    Delegated,
    /// A read transaction prevents it. Try again later.
    Blocked,
}

/// What runs a requested checkpoint.
enum Runner {
    /// A thread that receives requests and reports when one is finished.
    Thread { requests: Sender<()>, reports: Receiver<()>, thread: JoinHandle<()> },
    /// The writer, when it looks for the report, so that a simulation has a single thread.
    #[cfg_attr(not(feature = "internals"), allow(dead_code, reason = "only a simulation creates it"))]
    Inline(Connection),
}

/// Starts checkpoints and finishes them, for the writer.
pub(super) struct Checkpointer {
    runner: Runner,
    shared: Arc<Shared>,
    is_running: bool,
    /// The WAL's bytes at the last request; 0 after a restart of the WAL.
    requested_at: u64,
    status: WalStatus,
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(connection: Connection, shared: &Arc<Shared>) -> io::Result<Self> {
        let (requests, requested) = bounded(1);
        let (report, reports) = bounded(1);
        let for_thread = Arc::clone(shared);
        let thread = thread::Builder::new().name("esker-wal".into()).spawn(move || {
            while requested.recv().is_ok() {
                run_checkpoint(&connection, &for_thread);
                if report.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::new(Runner::Thread { requests, reports, thread }, shared))
    }

    /// Returns a checkpointer without a thread.
    #[cfg(feature = "internals")]
    pub fn inline(connection: Connection, shared: &Arc<Shared>) -> Self {
        Self::new(Runner::Inline(connection), shared)
    }

    fn new(runner: Runner, shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        Self { runner, shared, is_running: false, requested_at: 0, status: WalStatus::default() }
    }

    fn request(&self) -> bool {
        match &self.runner {
            Runner::Thread { requests, .. } => requests.send(()).is_ok(),
            Runner::Inline(_) => true,
        }
    }

    /// Returns whether the requested checkpoint is finished; waits for that if `must_wait`.
    fn has_finished(&self, must_wait: bool) -> bool {
        match &self.runner {
            Runner::Thread { reports, .. } if must_wait => reports.recv().is_ok(),
            Runner::Thread { reports, .. } => reports.try_recv().is_ok(),
            Runner::Inline(connection) => {
                run_checkpoint(connection, &self.shared);
                true
            }
        }
    }

    /// Returns whether a checkpoint was requested and is not finished, as far as the writer knows.
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// Returns the last known state of the WAL.
    pub fn status(&self) -> WalStatus {
        self.status
    }

    /// Requests a checkpoint if the WAL has grown enough, or finishes the one that is running. Called after each transaction.
    pub fn maintain(&mut self, connection: &Connection, tuning: &Tuning) -> rusqlite::Result<()> {
        self.record(wal_status(connection)?);
        if self.is_running {
            return self.finish(connection, tuning);
        }
        if self.status.bytes - self.requested_at >= tuning.wal_growth && self.status.remaining() > 0 {
            self.requested_at = self.status.bytes;
            self.is_running = self.request();
        }
        Ok(())
    }

    /// Checkpoints the remainder once the thread has finished. Waits for the thread if the WAL is too large.
    fn finish(&mut self, connection: &Connection, tuning: &Tuning) -> rusqlite::Result<()> {
        let is_too_large = self.status.bytes > tuning.wal_limit;
        if !self.has_finished(is_too_large) {
            return Ok(());
        }
        self.is_running = false;
        // After a failed fsync, a checkpoint could overwrite good pages of the database with pages that the WAL has lost.
        if self.shared.has_failed() {
            return Ok(());
        }
        self.record(wal_status(connection)?);
        if self.status.remaining() <= SMALL_REMAINDER || is_too_large {
            self.record(checkpoint_passive(connection)?);
        }
        Ok(())
    }

    /// Checkpoints what it can, unless the thread is doing so: on a full disk this frees the space that is reserved for the
    /// checkpoint.
    pub fn checkpoint_now(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.is_running && !self.has_finished(false) {
            return Ok(());
        }
        self.is_running = false;
        if self.shared.has_failed() {
            return Ok(());
        }
        self.record(checkpoint_passive(connection)?);
        Ok(())
    }

    /// Empties the WAL while the store is running. Leaves most of it to the thread if `may_delegate`.
    pub fn empty(&mut self, connection: &Connection, may_delegate: bool) -> rusqlite::Result<Emptying> {
        if self.is_running && !self.has_finished(false) {
            return Ok(Emptying::Delegated);
        }
        self.is_running = false;
        if self.shared.has_failed() {
            return Ok(Emptying::Blocked);
        }
        self.record(wal_status(connection)?);
        if may_delegate && self.status.remaining() > SMALL_REMAINDER {
            self.is_running = self.request();
            return Ok(Emptying::Delegated);
        }
        connection.busy_timeout(TRUNCATE_TIMEOUT)?;
        let emptied = checkpoint_truncate(connection);
        connection.busy_timeout(LOCK_SLICE)?;
        self.record(wal_status(connection)?);
        Ok(if emptied? { Emptying::Done } else { Emptying::Blocked })
    }

    fn record(&mut self, status: WalStatus) {
        // A single transaction may have made the restarted WAL as large as it was, but none of that is checkpointed. If the
        // last checkpoint was not recorded before, only further growth shows the restart.
        if status.bytes < self.status.bytes || status.checkpointed < self.status.checkpointed {
            self.requested_at = 0;
            self.shared.counters.wal_restarts.fetch_add(1, Ordering::Relaxed);
        }
        self.status = status;
        self.shared.counters.wal_bytes.store(status.bytes, Ordering::Relaxed);
    }

    /// Ends the thread once it has finished its checkpoint.
    pub fn stop(self) {
        let Runner::Thread { requests, reports, thread } = self.runner else { return };
        drop((requests, reports));
        if thread.join().is_err() {
            log::error!("the store's checkpoint thread panicked");
        }
    }
}

fn run_checkpoint(connection: &Connection, shared: &Shared) {
    for _ in 0..MAX_ROUNDS {
        if shared.has_failed() {
            return;
        }
        match checkpoint_passive(connection).map_err(Fault::from) {
            Ok(status) if status.remaining() <= SMALL_REMAINDER => return,
            Ok(_) => (),
            Err(Fault::Locked) => return,
            Err(Fault::Full(shortage)) => return shared.set_full(shortage),
            Err(Fault::Broken(error)) => return shared.fail("checkpointing the database", &error),
        }
    }
}
