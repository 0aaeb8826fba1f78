//! Opens a store: acquires the data directory, checks the database, empties the WAL, and reads what the threads begin with.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use rusqlite::Connection;

use super::checkpointer::{self, Checkpointer};
use super::disk::history_file;
use super::disk::holder;
use super::disk::location::{DataDir, Location};
use super::disk::open_files::OpenFiles;
use super::disk::space::DiskSpace;
use super::error::{Cause, OpenError};
use super::manual::ManualStore;
use super::queue;
use super::read::history::{self, HistoryReader};
use super::read::lookup::{self, LookupReader};
use super::state::Shared;
use super::tables::Tables;
use super::tables::recovery::{Recovered, recover};
use super::tables::schema::{self, LOCK_SLICE, Purpose, READ_WAIT, TOOL_WAIT};
use super::tools::check;
use super::tuning::Tuning;
use super::writer::Writer;
use super::{HeldBy, Running, StartWait, Store};
use crate::clock::Clock;
use crate::ids::Order;
use crate::records::Record;
use crate::records::retention::Retention;
use crate::util::units::seconds;

/// A store that is open but not running yet.
pub struct Opening {
    /// The newest record of every name, by ascending id. The caller takes it.
    pub latest: Vec<Record>,
    /// Every id assigned from now on must be larger.
    pub ids_through: u64,
    /// The revocations of tokens that were stored, and their seconds, oldest first. `*` stands for all those that were removed.
    pub revocations: Vec<(String, u64)>,
    /// The id of the last erasure of a name: a smaller one may be of an erased record. 0 if there was none.
    pub erased_through: u64,
    pub(super) connections: Connections,
    recovered: Recovered,
    data_dir: DataDir,
    tuning: Tuning,
}

/// One connection per thread.
pub(super) struct Connections {
    pub writer: Connection,
    checkpointer: Connection,
    history: Connection,
    lookup: Connection,
}

/// The pause between two attempts to open a database that another program holds.
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// How often it is logged that a start waits for another program.
const WAIT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the store in a location, and creates what is missing. While another program holds the database, tries again as long as
/// `goes_on` says so; checks a copy as long as it says so.
pub(super) fn open(
    location: &Location,
    tuning: Tuning,
    goes_on: &mut dyn FnMut(StartWait) -> bool,
) -> Result<Opening, OpenError> {
    let mut data_dir = DataDir::acquire(location)?;
    let mut wait = LockWait::default();
    let (mut recovered, connections) = loop {
        match read(&data_dir, goes_on) {
            Err(Cause::InUse(_)) if goes_on(StartWait::Lock) => wait.pause(&data_dir),
            read => break read.map_err(|cause| data_dir.error(cause))?,
        }
    };
    wait.end(&data_dir);
    data_dir.note_opened();
    let latest = std::mem::take(&mut recovered.latest);
    let revocations = std::mem::take(&mut recovered.revocations);
    let (ids_through, erased_through) = (recovered.mark.ids_through(), recovered.erased_through);
    Ok(Opening { latest, ids_through, revocations, erased_through, connections, recovered, data_dir, tuning })
}

fn read(data_dir: &DataDir, goes_on: &mut dyn FnMut(StartWait) -> bool) -> Result<(Recovered, Connections), Cause> {
    let connections = connect(data_dir, goes_on)?;
    Ok((recover(&connections.writer)?, connections))
}

/// A start's wait for another program's lock, and what is logged of it.
#[derive(Default)]
struct LockWait {
    begin: Option<Instant>,
    logged_at: Option<Instant>,
}

impl LockWait {
    fn pause(&mut self, data_dir: &DataDir) {
        let now = Instant::now();
        self.begin.get_or_insert(now);
        if self.logged_at.is_none_or(|last| now.duration_since(last) >= WAIT_LOG_INTERVAL) {
            self.logged_at = Some(now);
            let (holder, path) = (holder::find(&data_dir.path), data_dir.path.display());
            log::warn!("{} ({path}); the start waits until it is released", HeldBy(holder));
        }
        thread::sleep(OPEN_PAUSE);
    }

    fn end(self, data_dir: &DataDir) {
        if let Some(begin) = self.begin {
            let time = seconds(begin.elapsed().as_millis() as u64);
            log::warn!("the database in {} is free after {time}; the start continues", data_dir.path.display());
        }
    }
}

fn connect(data_dir: &DataDir, goes_on: &mut dyn FnMut(StartWait) -> bool) -> Result<Connections, Cause> {
    let writer = connect_writer_within(data_dir, LOCK_SLICE, goes_on)?;
    let connect = |purpose| schema::connect_within(&data_dir.database, purpose, READ_WAIT);
    Ok(Connections {
        writer,
        checkpointer: connect(Purpose::Checkpoint)?,
        history: connect(Purpose::ReadHistory)?,
        lookup: connect(Purpose::Lookup)?,
    })
}

/// Returns a tool's writing connection to a database that is a store's, with an empty WAL.
pub(super) fn connect_writer(data_dir: &DataDir) -> Result<Connection, Cause> {
    connect_writer_within(data_dir, TOOL_WAIT, &mut |_| true)
}

fn connect_writer_within(
    data_dir: &DataDir,
    wait: Duration,
    goes_on: &mut dyn FnMut(StartWait) -> bool,
) -> Result<Connection, Cause> {
    let mut writer = schema::connect_within(&data_dir.database, Purpose::Write, wait)?;
    let is_new = schema::identify(&writer)?;
    // Before the checkpoint, which would merge a WAL that belongs to another state of the database.
    if !is_new && data_dir.must_be_checked() {
        log::info!(
            "the database in {} is a copy of one that was in use; checking it, which may take a while",
            data_dir.path.display()
        );
        writer = check_copy(writer, goes_on)?;
    }
    if is_new {
        schema::enable_vacuum(&writer)?;
    }
    schema::enable_wal(&writer, &data_dir.database)?;
    if is_new {
        schema::create(&mut writer)?;
    }
    // If an earlier fsync failed, the page cache may hold parts of the WAL that are not on the disk: see the store's
    // invariants.
    if checkpointer::checkpoint_truncate(&writer)? { Ok(writer) } else { Err(Cause::InUse(None)) }
}

/// Requires that a copy has no problems. Interrupts the check when `goes_on` says so.
fn check_copy(writer: Connection, goes_on: &mut dyn FnMut(StartWait) -> bool) -> Result<Connection, Cause> {
    if !goes_on(StartWait::Check) {
        return Err(Cause::Interrupted);
    }
    let (interrupt, mut is_interrupted) = (writer.get_interrupt_handle(), false);
    let (sender, checked) = bounded(1);
    let check = move || sender.send(check::require_good(&writer).map(|()| writer));
    let thread = thread::Builder::new().name("esker-check".into());
    thread.spawn(check).map_err(Cause::Thread)?;
    loop {
        match checked.recv_timeout(OPEN_PAUSE) {
            Ok(Err(_)) if is_interrupted => return Err(Cause::Interrupted),
            Ok(checked) => return checked,
            Err(RecvTimeoutError::Timeout) => {
                is_interrupted |= !goes_on(StartWait::Check);
                if is_interrupted {
                    // Each time anew, because only the statement that is running ends.
                    interrupt.interrupt();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Cause::Thread(io::Error::other("it has ended early"))),
        }
    }
}

impl Opening {
    /// Removes the file in which the run before has left its history, and returns it, open for reading, with its length.
    /// `None` if there is none, or no directory.
    pub fn take_history(&self) -> io::Result<Option<(File, u64)>> {
        self.data_dir.directory_path().map_or(Ok(None), history_file::take)
    }

    /// Sets which versions of each name are kept.
    #[must_use]
    pub fn retain(mut self, retention: Retention) -> Self {
        self.tuning.retention = retention;
        self
    }

    /// Returns whether an erasure of an earlier run is still to be completed.
    #[cfg(test)]
    pub(super) fn is_purge_due(&self) -> bool {
        self.recovered.purge.is_due
    }

    /// Starts the threads. `order` must assign only ids larger than `ids_through` from now on.
    pub fn start(self, order: Box<dyn Order<Record>>) -> Result<Store, OpenError> {
        let (store, manual) = self.build(order, Clock::new(), Checkpointer::start)?;
        let ManualStore { writer, history, lookup, data_dir } = manual;
        let failed = |error| data_dir.error(Cause::Thread(error));
        let named = |name: &str| thread::Builder::new().name(name.into());
        let history = named("esker-audit").spawn(move || HistoryReader::run(history)).map_err(failed)?;
        let lookup = named("esker-lookup").spawn(move || LookupReader::run(lookup)).map_err(failed)?;
        let writer = named("esker-store").spawn(move || Writer::run(writer)).map_err(failed)?;
        store.set_running(Running { history, lookup, writer, data_dir });
        Ok(store)
    }

    /// Returns a store without threads, which the caller runs step by step.
    #[cfg(feature = "internals")]
    pub fn start_manual(self, order: Box<dyn Order<Record>>, clock: Clock) -> Result<(Store, ManualStore), OpenError> {
        self.build(order, clock, |connection, shared| Ok(Checkpointer::inline(connection, shared)))
    }

    fn build(
        self,
        order: Box<dyn Order<Record>>,
        clock: Clock,
        start_checkpointer: impl FnOnce(Connection, &Arc<Shared>) -> io::Result<Checkpointer>,
    ) -> Result<(Store, ManualStore), OpenError> {
        let Self { connections, recovered, data_dir, tuning, .. } = self;
        let shared = Arc::new(Shared::new(&data_dir.path, clock.clone()));
        let (queue, receiver) = queue::queue(&shared);
        let (history_handle, history) = history::history(connections.history, &shared, tuning.page_rows);
        let (lookup_handle, lookup) = lookup::lookup(connections.lookup, &shared);
        let checkpointer = start_checkpointer(connections.checkpointer, &shared)
            .map_err(|error| data_dir.error(Cause::Thread(error)))?;
        let space = DiskSpace::new(data_dir.database.clone(), tuning.space_probe, tuning.full_disk_retry);
        let tables = Tables::new(connections.writer, recovered.names, recovered.unindexed, clock);
        let mut tables = tables.with_keys(recovered.keys);
        tables.retain(tuning.retention, tuning.free_pages).map_err(|error| data_dir.error(error))?;
        if tuning.retention.is_limited() && !tables.can_shrink() {
            log::warn!(
                "an older version created the database in {}: the space of removed versions is reused, but not \
                 returned to the file system; to change that, stop the broker and run: \
                 esker dump DIR | esker load NEW_DIR",
                data_dir.path.display()
            );
        }
        let mut writer = Writer::new(tables, recovered.mark, checkpointer, space, receiver, order, tuning);
        writer.resume_erasures(recovered.purge);
        writer.watch(data_dir.directory_path().map(OpenFiles::of).unwrap_or_default());
        writer.raise_mark();
        let store = Store { queue, history: history_handle, lookup: lookup_handle, shared, running: Mutex::default() };
        Ok((store, ManualStore { writer, history, lookup, data_dir }))
    }
}
