//! Moves the log into the database beside the commits. SQLite lets the log begin anew only in a moment in which all of it is
//! moved; under load that moment never comes by itself, so the thread moves nearly all, and the writer the small rest, between
//! two commits. Refuses to know what is in the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;

use super::Tuning;
use super::error::Fault;
use super::schema::PAGE_BYTES;
use super::state::Shared;

/// The writer moves so many bytes without much ado.
const REST: u64 = 2 << 20;
/// So often the thread goes after what was committed meanwhile, before it leaves the rest to the writer.
const ROUNDS: usize = 3;

/// How far the log is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Log {
    /// Bytes in use.
    pub bytes: u64,
    /// Of these, what is moved into the database.
    pub moved: u64,
}

impl Log {
    pub fn rest(self) -> u64 {
        self.bytes.saturating_sub(self.moved)
    }
}

/// How far it is, without doing anything.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Log> {
    checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)").map(|(log, _)| log)
}

/// Moves what no reader holds back, and waits for nobody.
pub(super) fn advance(connection: &Connection) -> rusqlite::Result<Log> {
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").map(|(log, _)| log)
}

/// Moves all and empties the log. False: another program's reading prevents it.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)").map(|(_, is_held)| !is_held)
}

/// The log after it, and whether another program held it up. In memory there is no log, and SQLite says −1.
fn checkpoint(connection: &Connection, pragma: &str) -> rusqlite::Result<(Log, bool)> {
    connection.prepare_cached(pragma)?.query_row([], |row| {
        let bytes = |frames: i64| u64::try_from(frames).unwrap_or(0) * PAGE_BYTES;
        Ok((Log { bytes: bytes(row.get(1)?), moved: bytes(row.get(2)?) }, row.get::<_, i64>(0)? != 0))
    })
}

/// Who moves the log.
enum Mover {
    /// A thread, which is asked and reports.
    Thread { requests: Sender<()>, reports: Receiver<()>, thread: JoinHandle<()> },
    /// The writer itself, when it looks for the report: so that a simulation has one thread.
    Hand(Connection),
}

/// The writer's hold on the thread.
pub(super) struct Checkpointer {
    mover: Mover,
    shared: Arc<Shared>,
    is_moving: bool,
    /// The log's bytes when it was last asked.
    asked: u64,
    log: Log,
}

impl Checkpointer {
    pub fn start(connection: Connection, shared: &Arc<Shared>) -> io::Result<Self> {
        let (requests, requested) = bounded(1);
        let (report, reports) = bounded(1);
        let for_thread = Arc::clone(shared);
        let thread = thread::Builder::new().name("esker-keeper".into()).spawn(move || {
            while requested.recv().is_ok() {
                keep(&connection, &for_thread);
                if report.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::new(Mover::Thread { requests, reports, thread }, shared))
    }

    /// Without a thread.
    pub fn by_hand(connection: Connection, shared: &Arc<Shared>) -> Self {
        Self::new(Mover::Hand(connection), shared)
    }

    fn new(mover: Mover, shared: &Arc<Shared>) -> Self {
        Self { mover, shared: Arc::clone(shared), is_moving: false, asked: 0, log: Log::default() }
    }

    fn request(&self) -> bool {
        match &self.mover {
            Mover::Thread { requests, .. } => requests.send(()).is_ok(),
            Mover::Hand(_) => true,
        }
    }

    /// Whether what was requested is done; waits for it, if told to.
    fn has_moved(&self, waits: bool) -> bool {
        match &self.mover {
            Mover::Thread { reports, .. } if waits => reports.recv().is_ok(),
            Mover::Thread { reports, .. } => reports.try_recv().is_ok(),
            Mover::Hand(connection) => {
                keep(connection, &self.shared);
                true
            }
        }
    }

    /// The log as it was last seen.
    pub fn log(&self) -> Log {
        self.log
    }

    /// After a transaction: looks at the log, and has it moved if it has grown enough.
    pub fn attend(&mut self, connection: &Connection, tuning: &Tuning) -> rusqlite::Result<()> {
        self.note(look(connection)?);
        if self.is_moving {
            return self.finish(connection, tuning);
        }
        if self.log.bytes - self.asked >= tuning.log_growth && self.log.rest() > 0 {
            self.asked = self.log.bytes;
            self.is_moving = self.request();
        }
        Ok(())
    }

    /// Moves the rest, if the thread is through; waits for it, if the log has become too long.
    fn finish(&mut self, connection: &Connection, tuning: &Tuning) -> rusqlite::Result<()> {
        let is_too_long = self.log.bytes > tuning.log_bound;
        if !self.has_moved(is_too_long) {
            return Ok(());
        }
        self.is_moving = false;
        // What a failed fsync took from the log, moving on would take from the database.
        if self.shared.has_failed() {
            return Ok(());
        }
        self.note(look(connection)?);
        if self.log.rest() <= REST || is_too_long {
            self.note(advance(connection)?);
        }
        Ok(())
    }

    /// Moves what there is, unless the thread is at it: room is kept for what the log has yet to bring, and on a full
    /// disk that is better spent.
    pub fn relieve(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.is_moving && !self.has_moved(false) {
            return Ok(());
        }
        self.is_moving = false;
        if self.shared.has_failed() {
            return Ok(());
        }
        self.note(advance(connection)?);
        Ok(())
    }

    fn note(&mut self, log: Log) {
        if log.bytes < self.log.bytes {
            self.asked = 0;
            self.shared.counters.log_rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.log = log;
        self.shared.counters.log_bytes.store(log.bytes, Ordering::Relaxed);
    }

    /// Ends the thread, whatever it is at.
    pub fn end(self) {
        let Mover::Thread { requests, reports, thread } = self.mover else { return };
        drop((requests, reports));
        if thread.join().is_err() {
            log::error!("the store's checkpoint thread panicked");
        }
    }
}

fn keep(connection: &Connection, shared: &Shared) {
    for _ in 0..ROUNDS {
        if shared.has_failed() {
            return;
        }
        match advance(connection).map_err(Fault::from) {
            Ok(log) if log.rest() <= REST => return,
            Ok(_) => (),
            Err(Fault::Locked) => return,
            Err(Fault::Full(shortage)) => return shared.fill(shortage),
            Err(Fault::Broken(error)) => return shared.fail("checkpointing the database", &error),
        }
    }
}
