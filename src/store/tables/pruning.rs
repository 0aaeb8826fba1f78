//! Retention: removes versions that exceed it. Only what is in the index is removed, and never the newest version of a name.
//!
//! Looked at are the names that got new versions, all names after a start, and the oldest records whenever some have reached
//! the age. What is found is removed in batches, in two steps, each in the order of its table, so that a page is written once
//! for many versions: first the records, by id, and then their entries in the index, by name. A step consists of slices, each
//! a transaction of its own that needs no fsync, between which commits go on. As long as there may be entries whose record is
//! gone, [`PRUNING`] is in `meta`, and the next start looks for them.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::commit::{NameKey, Version};
use super::schema::{self, INDEXED_THROUGH, PRUNING, REMOVE_RECORD};
use super::slice::Slice;
use crate::records::retention::Retention;

/// The maximum number of versions in a batch. Each takes 24 bytes.
const MAX_BATCH: usize = 1 << 18;
/// The maximum number of versions that are collected of a name before it is looked at again.
const MAX_OF_NAME: usize = 4096;
/// The maximum number of names that are listed because they got new versions. If there are more, all names are looked at.
const MAX_NAMES: usize = 1 << 17;
/// The number of records that are looked at together because of their age.
const AGE_STRIDE: usize = 128;
/// The maximum number of index entries that one statement removes.
const MAX_RANGE: usize = 64;
/// How often records are looked for that have reached the age, in milliseconds.
const AGE_INTERVAL: u64 = 1000;

const NTH_NEWEST: &str = "SELECT id FROM versions WHERE name = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3";
const OLDEST: &str = "SELECT id FROM versions WHERE name = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4";
const OLDEST_WITH_RECORD: &str = "
    SELECT versions.id, records.id FROM versions LEFT JOIN records ON records.id = versions.id
    WHERE versions.name = ?1 AND versions.id > ?2 AND versions.id <= ?3 ORDER BY versions.id LIMIT ?4";
const OLD: &str = "
    SELECT records.id, records.name, names.latest > records.id FROM records CROSS JOIN names ON names.key = records.name
    WHERE records.id > ?1 AND records.id <= ?2 ORDER BY records.id LIMIT ?3";
const NEXT_NAME: &str = "SELECT min(key) FROM names WHERE key > ?1";
const REMOVE_ENTRIES: &str = "DELETE FROM versions WHERE name = ?1 AND id >= ?2 AND id <= ?3";

/// Removes versions, slice by slice.
#[derive(Debug, Default)]
pub(in crate::store) struct Pruner {
    retention: Retention,
    /// Names that got new versions, in descending order. At most [`MAX_NAMES`] and those of a pass.
    names: Vec<NameKey>,
    /// The last of all names that was looked at; `None` if they need not be.
    sweep: Option<NameKey>,
    /// Whether all names must be looked at once more.
    must_repeat: bool,
    /// Up to this id, records were looked at because of their age.
    aged_through: i64,
    /// When that happened, in milliseconds; `None` if there may be more.
    aged_at: Option<u64>,
    step: Step,
    /// Whether [`PRUNING`] is in `meta`.
    is_marked: bool,
    /// Whether the run before may have left entries whose record is gone.
    is_torn: bool,
}

/// What the next slice does.
#[derive(Debug)]
enum Step {
    /// Looks for versions to remove.
    Collect(Batch),
    /// Removes records.
    RemoveRecords(Batch),
    /// Removes entries of the index.
    RemoveEntries(Batch),
}

impl Default for Step {
    fn default() -> Self {
        Self::Collect(Batch::default())
    }
}

/// Versions that are removed together.
#[derive(Debug, Default)]
struct Batch {
    /// Sorted by name, then by id, within what was collected in one go.
    versions: Vec<Version>,
    /// Their ids, ascending once all are collected.
    ids: Vec<i64>,
    /// How many of them the present step has removed.
    done: usize,
}

/// What is looked at next.
enum Source {
    Name(NameKey),
    Age,
}

impl Pruner {
    /// Returns a pruner that looks at what is in the database.
    pub fn new(connection: &Connection, retention: Retention) -> rusqlite::Result<Self> {
        let is_torn = schema::has_meta(connection, PRUNING)?;
        let sweep = (is_torn || retention.versions.is_some()).then_some(0);
        Ok(Self { retention, sweep, is_torn, is_marked: is_torn, ..Self::default() })
    }

    /// Adds names that got new versions, ascending.
    pub fn add(&mut self, names: &[NameKey]) {
        if !self.retention.is_limited() {
            return;
        }
        self.names.extend(names.iter().rev());
        // Two runs, at most: a stable sort merges them.
        self.names.sort_by(|one, other| other.cmp(one));
        self.names.dedup();
        if self.names.len() > MAX_NAMES {
            self.names = Vec::new();
            self.must_repeat = self.sweep.is_some();
            self.sweep = self.sweep.or(Some(0));
        }
    }

    /// Returns whether there is something to do at this time, in milliseconds.
    pub fn has_work(&self, millis: u64) -> bool {
        let is_removing = !matches!(&self.step, Step::Collect(batch) if batch.versions.is_empty());
        is_removing || self.is_marked || !self.names.is_empty() || self.sweep.is_some() || self.is_age_due(millis)
    }

    fn is_age_due(&self, millis: u64) -> bool {
        self.retention.age.is_some() && self.aged_at.is_none_or(|at| millis.saturating_sub(at) >= AGE_INTERVAL)
    }

    /// Runs one slice. Returns how many records it removed. After an error the slice is rolled back.
    pub fn run_slice(&mut self, connection: &mut Connection, slice: &mut Slice<'_>) -> rusqlite::Result<usize> {
        schema::without_fsync(connection, |connection| self.run_step(connection, slice))
    }

    fn run_step(&mut self, connection: &mut Connection, slice: &mut Slice<'_>) -> rusqlite::Result<usize> {
        let mut step = std::mem::take(&mut self.step);
        let ran = match &mut step {
            Step::Collect(batch) => self.collect(connection, batch, slice).map(|is_complete| (0, is_complete)),
            Step::RemoveRecords(batch) => self.remove_records(connection, batch, slice),
            Step::RemoveEntries(batch) => batch.remove_entries(connection, slice).map(|is_complete| (0, is_complete)),
        };
        let (removed, is_complete) = match ran {
            Ok(ran) => ran,
            Err(error) => {
                self.step = step;
                return Err(error);
            }
        };
        self.step = if is_complete { step.next() } else { step };
        Ok(removed)
    }
}

impl Step {
    /// Returns what follows.
    fn next(self) -> Self {
        match self {
            Self::Collect(batch) if batch.versions.is_empty() => Self::Collect(batch),
            Self::Collect(mut batch) => {
                batch.ids = batch.versions.iter().map(|version| version.1).collect();
                batch.ids.sort_unstable();
                Self::RemoveRecords(batch)
            }
            Self::RemoveRecords(batch) => Self::RemoveEntries(Batch { ids: Vec::new(), done: 0, ..batch }),
            Self::RemoveEntries(_) => Self::default(),
        }
    }
}

// Collecting.
impl Pruner {
    /// Collects versions until the batch is full or the slice is over. Returns whether the batch is complete.
    fn collect(
        &mut self,
        connection: &mut Connection,
        batch: &mut Batch,
        slice: &mut Slice<'_>,
    ) -> rusqlite::Result<bool> {
        let through = schema::meta(connection, INDEXED_THROUGH)?;
        let age = self.retention.age.and_then(|age| i64::try_from(age.as_micros()).ok());
        // Everything up to this id has reached the age.
        let aged = age.map_or(0, |age| schema::to_sql(slice.id_micros()).saturating_sub(age)).min(through);
        while batch.versions.len() < MAX_BATCH {
            let Some(source) = self.next_source(connection, slice.millis())? else {
                if batch.versions.is_empty() {
                    self.unmark(connection)?;
                }
                return Ok(true);
            };
            let rows = match source {
                Source::Name(name) => self.collect_name(connection, batch, name, through, aged)?,
                Source::Age => self.collect_aged(connection, batch, aged, slice.millis())?,
            };
            if slice.is_over(rows) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns what must be looked at.
    fn next_source(&mut self, connection: &Connection, millis: u64) -> rusqlite::Result<Option<Source>> {
        if let Some(name) = self.names.last() {
            return Ok(Some(Source::Name(*name)));
        }
        while let Some(last) = self.sweep {
            let next: Option<NameKey> = connection.prepare_cached(NEXT_NAME)?.query_row([last], |row| row.get(0))?;
            if let Some(name) = next {
                self.sweep = Some(name);
                self.names.push(name);
                return Ok(Some(Source::Name(name)));
            }
            self.sweep = self.must_repeat.then_some(0);
            (self.must_repeat, self.is_torn) = (false, self.is_torn && self.must_repeat);
        }
        Ok(self.is_age_due(millis).then_some(Source::Age))
    }

    /// Collects the versions of the last of `names` that exceed the retention. Removes the name from there, unless it may have
    /// more. Returns how many rows were read, about.
    fn collect_name(
        &mut self,
        connection: &Connection,
        batch: &mut Batch,
        name: NameKey,
        through: i64,
        aged: i64,
    ) -> rusqlite::Result<usize> {
        // Those that are in the batch already are not removed yet.
        let last = batch.versions.last().filter(|version| version.0 == name).map_or(0, |version| version.1);
        let mut surplus = self.last_surplus(connection, name, through, aged)?;
        if self.is_torn {
            surplus = surplus.max(last_without_record(connection, name, last, through)?);
        }
        let before = batch.versions.len();
        let max = MAX_OF_NAME.min(MAX_BATCH - before);
        if surplus > last {
            let mut oldest = connection.prepare_cached(OLDEST)?;
            let mut rows = oldest.query((name, last, surplus, schema::to_sql(max as u64)))?;
            while let Some(row) = rows.next()? {
                batch.versions.push((name, row.get(0)?));
            }
        }
        let found = batch.versions.len() - before;
        if found < max {
            self.names.pop();
        }
        Ok(found + 1)
    }

    /// Returns the newest id of the name that exceeds the retention; 0 if none does.
    fn last_surplus(&self, connection: &Connection, name: NameKey, through: i64, aged: i64) -> rusqlite::Result<i64> {
        let mut statement = connection.prepare_cached(NTH_NEWEST)?;
        let mut nth_newest = |n: u64| {
            let id = statement.query_row((name, through, schema::to_sql(n)), |row| row.get(0)).optional();
            id.map(|id| id.unwrap_or(0))
        };
        let by_number = self.retention.versions.map_or(Ok(0), |versions| nth_newest(versions.get()))?;
        let by_age = if aged > 0 { aged.min(nth_newest(0)? - 1) } else { 0 };
        Ok(by_number.max(by_age))
    }

    /// Collects superseded records that have reached the age, oldest first. Returns how many rows were read.
    fn collect_aged(
        &mut self,
        connection: &Connection,
        batch: &mut Batch,
        aged: i64,
        millis: u64,
    ) -> rusqlite::Result<usize> {
        let mut old = connection.prepare_cached(OLD)?;
        let mut rows = old.query((self.aged_through, aged, schema::to_sql(AGE_STRIDE as u64)))?;
        let (mut count, begin) = (0, batch.versions.len());
        while let Some(row) = rows.next()? {
            let (id, name, is_superseded): (i64, NameKey, Option<bool>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if is_superseded == Some(true) {
                batch.versions.push((name, id));
            }
            self.aged_through = id;
            count += 1;
        }
        batch.versions[begin..].sort_unstable();
        if count < AGE_STRIDE {
            (self.aged_through, self.aged_at) = (self.aged_through.max(aged), Some(millis));
        }
        Ok(count)
    }

    /// Removes [`PRUNING`] from `meta`: every entry of the index has its record.
    fn unmark(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.is_marked {
            schema::remove_meta(connection, PRUNING)?;
            self.is_marked = false;
        }
        Ok(())
    }
}

/// Returns the last of the entries right after this id whose record is gone; 0 if the first of them has one.
fn last_without_record(connection: &Connection, name: NameKey, after: i64, through: i64) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(OLDEST_WITH_RECORD)?;
    let mut rows = statement.query((name, after, through, schema::to_sql(MAX_OF_NAME as u64)))?;
    let mut last = 0;
    while let Some(row) = rows.next()? {
        if row.get::<_, Option<i64>>(1)?.is_some() {
            break;
        }
        last = row.get(0)?;
    }
    Ok(last)
}

// Removing.
impl Pruner {
    /// Returns how many records were removed, and whether that was the last slice.
    fn remove_records(
        &mut self,
        connection: &mut Connection,
        batch: &mut Batch,
        slice: &mut Slice<'_>,
    ) -> rusqlite::Result<(usize, bool)> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !self.is_marked {
            schema::put_meta(&transaction, PRUNING, 1)?;
        }
        let (mut done, mut removed) = (batch.done, 0);
        {
            let mut remove = transaction.prepare_cached(REMOVE_RECORD)?;
            for id in &batch.ids[batch.done..] {
                removed += remove.execute([id])?;
                done += 1;
                if slice.is_over(1) {
                    break;
                }
            }
        }
        transaction.commit()?;
        (self.is_marked, batch.done) = (true, done);
        Ok((removed, done == batch.ids.len()))
    }
}

impl Batch {
    /// Returns whether that was the last slice.
    fn remove_entries(&mut self, connection: &mut Connection, slice: &mut Slice<'_>) -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut done = self.done;
        {
            let mut remove = transaction.prepare_cached(REMOVE_ENTRIES)?;
            let of_names = self.versions[self.done..].chunk_by(|one, next| one.0 == next.0 && one.1 < next.1);
            for range in of_names.flat_map(|of_name| of_name.chunks(MAX_RANGE)) {
                let (Some((name, first)), Some((_, last))) = (range.first(), range.last()) else { continue };
                remove.execute((name, first, last))?;
                done += range.len();
                if slice.is_over(range.len()) {
                    break;
                }
            }
        }
        transaction.commit()?;
        self.done = done;
        Ok(done == self.versions.len())
    }
}
