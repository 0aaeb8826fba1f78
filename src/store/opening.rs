//! From files to a store that runs: the hold on the directory, whose the database is, the log moved into place, and what
//! the threads begin with. Refuses to know what they do.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use rusqlite::Connection;

use super::checkpointer::{self, Checkpointer};
use super::commit::{NameKey, Names, Version};
use super::disk_space::DiskSpace;
use super::error::{Cause, OpenError};
use super::history_reader;
use super::index::Index;
use super::location::DataDir;
use super::lookup;
use super::queue;
use super::schema::{self, CEILING, INDEXED_THROUGH, Use};
use super::state::Shared;
use super::writer::Writer;
use super::{Location, ManualStore, Record, Running, Store, Tuning};
use crate::clock::Clock;
use crate::engine::{HighWaterMark, Order};

/// No name has a larger key, for they are counted: whatever has is damaged, and keys beyond it could not be counted on.
const MAX_KEY: NameKey = NameKey::MAX / 2;

/// A store that is opened and does not run yet.
pub struct Opening {
    /// The newest record of every name, by ascending id. To be taken.
    pub latest: Vec<Record>,
    /// Every id given from now on must be larger.
    pub ids_through: u64,
    pub(super) writer: Connection,
    keeper: Connection,
    reader: Connection,
    finder: Connection,
    found: Found,
    home: DataDir,
    tuning: Tuning,
}

/// What the tables say.
pub(super) struct Found {
    pub names: Names,
    pub latest: Vec<Record>,
    /// Records that the index does not have.
    pub unindexed: Vec<Version>,
    pub mark: HighWaterMark,
}

/// A name and its newest record's id.
type Newest = (Arc<str>, i64);

/// Opens it and makes what is missing.
pub(super) fn open(place: &Location, tuning: Tuning) -> Result<Opening, OpenError> {
    let home = DataDir::take(place)?;
    let opened = connections(&home).and_then(|connections| Ok((find(&connections[0])?, connections)));
    let (mut found, [writer, keeper, reader, finder]) = opened.map_err(|cause| home.error(cause))?;
    let latest = std::mem::take(&mut found.latest);
    Ok(Opening { latest, ids_through: found.mark.ids_through(), writer, keeper, reader, finder, found, home, tuning })
}

fn connections(home: &DataDir) -> Result<[Connection; 4], Cause> {
    let writer = writer(home)?;
    let keeper = schema::connect(&home.database, Use::Keep)?;
    let reader = schema::connect(&home.database, Use::Read)?;
    let finder = schema::connect(&home.database, Use::Find)?;
    Ok([writer, keeper, reader, finder])
}

/// A connection to a database that is ours, with an empty log.
pub(super) fn writer(home: &DataDir) -> Result<Connection, Cause> {
    let mut writer = schema::connect(&home.database, Use::Write)?;
    let is_new = schema::identify(&writer)?;
    schema::use_log(&writer, &home.database)?;
    if is_new {
        schema::create(&mut writer)?;
    }
    // What the kernel holds of the log need not be on the disk, if an fsync failed before: see the invariants.
    if checkpointer::empty(&writer)? { Ok(writer) } else { Err(Cause::InUse) }
}

/// Reads what the threads begin with: all names, their newest records, and what is not indexed.
pub(super) fn find(connection: &Connection) -> Result<Found, Cause> {
    let through = schema::meta(connection, INDEXED_THROUGH)?;
    let ceiling = schema::from_sql(schema::meta(connection, CEILING)?);
    let unindexed = unindexed(connection, through)?;
    let (names, newest) = names(connection, &unindexed)?;
    let mut latest =
        newest.into_iter().map(|(name, id)| record(connection, name, id)).collect::<Result<Vec<_>, _>>()?;
    latest.sort_unstable_by_key(|record| record.id);
    let newest_record = latest.last().map_or(0, |record| record.id);
    Ok(Found { names, latest, unindexed, mark: HighWaterMark::new(ceiling, newest_record) })
}

fn unindexed(connection: &Connection, through: i64) -> rusqlite::Result<Vec<Version>> {
    let mut statement = connection.prepare("SELECT name, id FROM records WHERE id > ?1 ORDER BY id")?;
    statement.query_map([through], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// All names, and each one's newest id.
fn names(connection: &Connection, unindexed: &[Version]) -> Result<(Names, Vec<Newest>), Cause> {
    // Ascending ids: the newest of each stays.
    let mut behind: HashMap<NameKey, i64> = unindexed.iter().copied().collect();
    let (mut names, mut newest) = (Names::default(), Vec::new());
    let mut statement = connection.prepare("SELECT key, name, latest FROM names")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, name): (NameKey, Arc<str>) = (row.get(0)?, row.get(1)?);
        if !(1..=MAX_KEY).contains(&key) {
            return Err(Cause::Damaged(format!("name {key} has a key that was never assigned")));
        }
        let latest = behind.remove(&key).max(row.get(2)?);
        let latest = latest.ok_or_else(|| Cause::Damaged(format!("name {key} has no record")))?;
        newest.push((Arc::clone(&name), latest));
        names.put(name, key);
    }
    match behind.keys().next() {
        Some(key) => Err(Cause::Damaged(format!("there are records with name {key}, which does not exist"))),
        None => Ok((names, newest)),
    }
}

fn record(connection: &Connection, name: Arc<str>, id: i64) -> Result<Record, Cause> {
    let mut statement = connection.prepare_cached("SELECT data FROM records WHERE id = ?1")?;
    match statement.query_row([id], |row| row.get(0)) {
        Ok(data) => Ok(Record { id: schema::from_sql(id), name, data }),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(Cause::Damaged(format!("record {id} does not exist"))),
        Err(error) => Err(error.into()),
    }
}

impl Opening {
    /// Starts the threads. `order` gives ids larger than `ids_through` from now on.
    pub fn start(self, order: Box<dyn Order<Record>>) -> Result<Store, OpenError> {
        let (store, hands) = self.staff(order, Clock::new(), Checkpointer::start)?;
        let ManualStore { writer, reader, finder, home } = hands;
        let failed = |error| home.error(Cause::Thread(error));
        let named = |name: &str| thread::Builder::new().name(name.into());
        let reader = named("esker-audit").spawn(move || reader.run()).map_err(failed)?;
        let finder = named("esker-lookup").spawn(move || finder.run()).map_err(failed)?;
        let writer = named("esker-store").spawn(move || writer.run()).map_err(failed)?;
        store.run(Running { reader, finder, writer, home });
        Ok(store)
    }

    /// Starts no thread: whoever has the hands does the work.
    pub fn start_by_hand(self, order: Box<dyn Order<Record>>, clock: Clock) -> Result<(Store, ManualStore), OpenError> {
        self.staff(order, clock, |connection, shared| Ok(Checkpointer::by_hand(connection, shared)))
    }

    fn staff(
        self,
        order: Box<dyn Order<Record>>,
        clock: Clock,
        keep: impl FnOnce(Connection, &Arc<Shared>) -> io::Result<Checkpointer>,
    ) -> Result<(Store, ManualStore), OpenError> {
        let Self { writer, keeper, reader, finder, found, home, tuning, .. } = self;
        let shared = Arc::new(Shared::new(&home.path));
        let (queue, waiting) = queue::queue(&shared);
        let (auditor, reader) = history_reader::auditor(reader, &shared, tuning.page_rows);
        let (lookup, finder) = lookup::lookup(finder, &shared);
        let mut writer = Writer {
            connection: writer,
            names: found.names,
            index: Index::new(found.unindexed),
            mark: found.mark,
            keeper: keep(keeper, &shared).map_err(|error| home.error(Cause::Thread(error)))?,
            room: DiskSpace::new(home.database.clone(), tuning.gauge),
            waiting,
            shared: Arc::clone(&shared),
            order,
            tuning,
            clock,
            looked_at: None,
            full_at: 0,
            is_locked_out: false,
        };
        writer.count();
        writer.cover();
        let store = Store { queue, auditor, lookup, shared, running: Mutex::default() };
        Ok((store, ManualStore { writer, reader, finder, home }))
    }
}
