//! Opens a store: acquires the data directory, checks the database, empties the WAL, and reads what the threads begin with.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use rusqlite::Connection;

use super::checkpointer::{self, Checkpointer};
use super::disk::history_file;
use super::disk::location::{DataDir, Location};
use super::disk::space::DiskSpace;
use super::error::{Cause, OpenError};
use super::manual::ManualStore;
use super::queue;
use super::read::history::{self, HistoryReader};
use super::read::lookup::{self, LookupReader};
use super::state::Shared;
use super::tables::Tables;
use super::tables::recovery::{Recovered, recover};
use super::tables::schema::{self, Purpose};
use super::tuning::Tuning;
use super::writer::Writer;
use super::{Running, Store};
use crate::clock::Clock;
use crate::ids::Order;
use crate::records::Record;

/// A store that is open but not running yet.
pub struct Opening {
    /// The newest record of every name, by ascending id. The caller takes it.
    pub latest: Vec<Record>,
    /// Every id assigned from now on must be larger.
    pub ids_through: u64,
    /// The revocations of tokens that were stored, and their seconds, oldest first. `*` stands for all those that were removed.
    pub revocations: Vec<(String, u64)>,
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

/// Opens the store in a location, and creates what is missing.
pub(super) fn open(location: &Location, tuning: Tuning) -> Result<Opening, OpenError> {
    let data_dir = DataDir::acquire(location)?;
    let opened = connect(&data_dir).and_then(|connections| Ok((recover(&connections.writer)?, connections)));
    let (mut recovered, connections) = opened.map_err(|cause| data_dir.error(cause))?;
    let latest = std::mem::take(&mut recovered.latest);
    let revocations = std::mem::take(&mut recovered.revocations);
    let ids_through = recovered.mark.ids_through();
    Ok(Opening { latest, ids_through, revocations, connections, recovered, data_dir, tuning })
}

fn connect(data_dir: &DataDir) -> Result<Connections, Cause> {
    let writer = connect_writer(data_dir)?;
    let connect = |purpose| schema::connect(&data_dir.database, purpose);
    Ok(Connections {
        writer,
        checkpointer: connect(Purpose::Checkpoint)?,
        history: connect(Purpose::ReadHistory)?,
        lookup: connect(Purpose::Lookup)?,
    })
}

/// Returns the writing connection to a database that is a store's, with an empty WAL.
pub(super) fn connect_writer(data_dir: &DataDir) -> Result<Connection, Cause> {
    let mut writer = schema::connect(&data_dir.database, Purpose::Write)?;
    let is_new = schema::identify(&writer)?;
    schema::enable_wal(&writer, &data_dir.database)?;
    if is_new {
        schema::create(&mut writer)?;
    }
    // If an earlier fsync failed, the page cache may hold parts of the WAL that are not on the disk: see the store's
    // invariants.
    if checkpointer::checkpoint_truncate(&writer)? { Ok(writer) } else { Err(Cause::InUse) }
}

impl Opening {
    /// Removes the file in which the run before has left its history, and returns it, open for reading, with its length.
    /// `None` if there is none, or no directory.
    pub fn take_history(&self) -> io::Result<Option<(File, u64)>> {
        self.data_dir.directory_path().map_or(Ok(None), history_file::take)
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
        let mut writer = Writer::new(tables, recovered.mark, checkpointer, space, receiver, order, tuning);
        writer.raise_mark();
        let store = Store { queue, history: history_handle, lookup: lookup_handle, shared, running: Mutex::default() };
        Ok((store, ManualStore { writer, history, lookup, data_dir }))
    }
}
