//! One page of a history: read in slices, each from a snapshot of its own, and written as JSON. Records are only ever added, with
//! ids larger than all before, so slices of successive snapshots make a prefix of the history, as one snapshot would.
//! Independent of when a slice is read and how a page is sent.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Params};

use super::schema::{self, INDEXED_THROUGH};
use crate::quota::{Growth, PageReservation};

/// A page is no longer than so many bytes, unless a single version is.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A slice ends when it has read so many bytes; memory is reserved in steps of this size.
const SLICE_BYTES: usize = 256 << 10;

const INDEXED: &str = "
    SELECT records.id, records.data FROM versions CROSS JOIN records ON records.id = versions.id
    WHERE versions.name = ?1 AND versions.id > ?2 AND versions.id <= ?3 ORDER BY versions.id LIMIT ?4";
/// Without an index, so it is short: see `Tuning::unindexed`.
const BEHIND: &str = "SELECT id, data FROM records WHERE id > ?2 AND name = ?1 ORDER BY id LIMIT ?3";

/// Some versions of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `{"name_v_id":data,…}`, oldest first.
    pub body: String,
    /// The last id in it, if more follow.
    pub next: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PageQuery {
    /// The record's name.
    pub name: Arc<str>,
    /// Only versions after this id.
    pub after: u64,
    /// At most so many versions.
    pub limit: usize,
}

/// Why a page can't be read.
#[derive(Debug)]
pub(super) enum PageError {
    /// There is no memory for its first version.
    Memory,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for PageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A page that is being read.
pub(super) struct PageReading {
    name: Arc<str>,
    /// The last id on it, and before that the one to begin after.
    last: u64,
    limit: usize,
    entries: usize,
    body: String,
    /// What each key begins with, as JSON.
    prefix: String,
    reservation: PageReservation,
}

/// What reading a slice came to.
pub(super) enum Progress {
    /// There may be more.
    Begun(Box<PageReading>),
    /// The page is complete; the reservation is for its body.
    Done(Page, PageReservation),
}

/// Why a slice ends.
enum End {
    /// It is long enough.
    Slice,
    /// The page is as long as it may be, and more follows.
    Page,
}

impl PageReading {
    pub fn new(query: PageQuery, reservation: PageReservation) -> Self {
        let PageQuery { name, after, limit } = query;
        let mut prefix = serde_json::Value::from(format!("{name}_v_")).to_string();
        prefix.pop();
        let body = String::from("{");
        Self { name, last: after, limit: limit.max(1), entries: 0, body, prefix, reservation }
    }

    /// Reads so many rows at most, out of one snapshot.
    pub fn slice(mut self: Box<Self>, connection: &mut Connection, rows: usize) -> Result<Progress, PageError> {
        let snapshot = connection.transaction()?;
        let mut key = snapshot.prepare_cached("SELECT key FROM names WHERE name = ?1")?;
        let Some(key) = key.query_row([&*self.name], |row| row.get::<_, i64>(0)).optional()? else {
            return Ok(self.done(false));
        };
        let (after, through) = (schema::to_sql(self.last), schema::meta(&snapshot, INDEXED_THROUGH)?);
        // One more than fits tells whether more follow.
        let rows = schema::to_sql(rows.min((self.limit - self.entries).saturating_add(1)) as u64);
        let (before, longest) = (self.entries, self.body.len() + SLICE_BYTES);
        let mut end = self.read(&snapshot, longest, INDEXED, (key, after, through, rows))?;
        let rest = rows - schema::to_sql((self.entries - before) as u64);
        if end.is_continue() && rest > 0 {
            end = self.read(&snapshot, longest, BEHIND, (key, after.max(through), rest))?;
        }
        let has_all_rows = schema::to_sql((self.entries - before) as u64) == rows;
        Ok(match end {
            ControlFlow::Break(End::Page) => self.done(true),
            ControlFlow::Break(End::Slice) => Progress::Begun(self),
            ControlFlow::Continue(()) if has_all_rows => Progress::Begun(self),
            ControlFlow::Continue(()) => self.done(false),
        })
    }

    /// Appends rows of ids and data.
    fn read(
        &mut self,
        snapshot: &Connection,
        longest: usize,
        sql: &str,
        parameters: impl Params,
    ) -> Result<ControlFlow<End>, PageError> {
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            if self.body.len() >= longest {
                return Ok(ControlFlow::Break(End::Slice));
            }
            let id = schema::from_sql(row.get(0)?);
            let data = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if !self.has_room(data)? {
                return Ok(ControlFlow::Break(End::Page));
            }
            self.write(id, data);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns whether another version fits, and reserves the memory for it. The first one always fits, or the page can't be read.
    fn has_room(&mut self, data: &str) -> Result<bool, PageError> {
        let bytes = self.body.len() + self.prefix.len() + data.len() + "18446744073709551615\":,}".len();
        if self.entries == 0 {
            return if self.reserve(bytes, Growth::Required) { Ok(true) } else { Err(PageError::Memory) };
        }
        Ok(self.entries < self.limit && bytes <= MAX_PAGE_BYTES && self.reserve(bytes, Growth::Optional))
    }

    fn reserve(&mut self, bytes: usize, growth: Growth) -> bool {
        let Self { reservation, body, .. } = self;
        if bytes <= reservation.bytes() {
            return true;
        }
        let step = bytes.next_multiple_of(SLICE_BYTES);
        let has_grown = reservation.grow(step, growth) || reservation.grow(bytes, growth);
        if has_grown {
            body.reserve_exact(reservation.bytes() - body.len());
        }
        has_grown
    }

    fn write(&mut self, id: u64, data: &str) {
        if self.entries > 0 {
            self.body.push(',');
        }
        // Writing to a string can't fail.
        let _ = write!(self.body, "{}{id}\":{data}", self.prefix);
        self.entries += 1;
        self.last = id;
    }

    fn done(self, more_follow: bool) -> Progress {
        let Self { mut body, mut reservation, last, .. } = self;
        body.push('}');
        reservation.shrink(body.len());
        Progress::Done(Page { body, next: more_follow.then_some(last) }, reservation)
    }
}
