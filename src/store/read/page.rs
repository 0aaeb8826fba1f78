//! Builds a page of a history as JSON, in slices that each read from a snapshot of their own. Records are only ever
//! appended, with growing ids, so slices of successive snapshots form a prefix of the history, as those of a single snapshot
//! would.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Params};

use crate::quota::{Growth, PageReservation};
use crate::store::record::{Page, PageQuery};
use crate::store::tables::schema::{self, INDEXED_THROUGH};

/// The maximum bytes of a page, unless a single version is larger.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A slice ends after this many bytes. Memory is reserved in steps of this size.
const SLICE_BYTES: usize = 256 << 10;

const INDEXED: &str = "
    SELECT records.id, records.data FROM versions CROSS JOIN records ON records.id = versions.id
    WHERE versions.name = ?1 AND versions.id > ?2 AND versions.id <= ?3 ORDER BY versions.id LIMIT ?4";
/// Scans the records that the index is missing. They are few: see `Tuning::max_unindexed`.
const UNINDEXED: &str = "SELECT id, data FROM records WHERE id > ?2 AND name = ?1 ORDER BY id LIMIT ?3";

/// Why a page can't be built.
#[derive(Debug)]
pub(super) enum PageError {
    /// No memory can be reserved for its first version.
    Memory,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for PageError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A page that is being built.
pub(super) struct PageBuilder {
    name: Arc<str>,
    /// The id after which the next slice begins.
    last: u64,
    limit: usize,
    entries: usize,
    body: String,
    /// The beginning of each key, as JSON.
    prefix: String,
    reservation: PageReservation,
}

/// The result of reading a slice.
pub(super) enum SliceOutcome {
    /// The page needs more slices.
    Incomplete(Box<PageBuilder>),
    /// The page is complete. The reservation is for its body.
    Complete(Page, PageReservation),
}

/// Why a slice ends before its rows do.
enum Limit {
    /// The slice has enough bytes.
    Slice,
    /// The page has no room for the next version.
    Page,
}

impl PageBuilder {
    pub fn new(query: PageQuery, reservation: PageReservation) -> Self {
        let PageQuery { name, after, limit } = query;
        let mut prefix = serde_json::Value::from(format!("{name}_v_")).to_string();
        prefix.pop();
        let body = String::from("{");
        Self { name, last: after, limit: limit.max(1), entries: 0, body, prefix, reservation }
    }

    /// Reads at most this many rows, from one snapshot.
    pub fn read_slice(
        mut self: Box<Self>,
        connection: &mut Connection,
        rows: usize,
    ) -> Result<SliceOutcome, PageError> {
        let snapshot = connection.transaction()?;
        let mut key = snapshot.prepare_cached("SELECT key FROM names WHERE name = ?1")?;
        let Some(key) = key.query_row([&*self.name], |row| row.get::<_, i64>(0)).optional()? else {
            return Ok(self.complete(false));
        };
        let (after, through) = (schema::to_sql(self.last), schema::meta(&snapshot, INDEXED_THROUGH)?);
        // One row more than fits shows whether more follow.
        let rows = schema::to_sql(rows.min((self.limit - self.entries).saturating_add(1)) as u64);
        let (before, longest) = (self.entries, self.body.len() + SLICE_BYTES);
        let mut end = self.append(&snapshot, longest, INDEXED, (key, after, through, rows))?;
        let rest = rows - schema::to_sql((self.entries - before) as u64);
        if end.is_continue() && rest > 0 {
            end = self.append(&snapshot, longest, UNINDEXED, (key, after.max(through), rest))?;
        }
        let has_all_rows = schema::to_sql((self.entries - before) as u64) == rows;
        Ok(match end {
            ControlFlow::Break(Limit::Page) => self.complete(true),
            ControlFlow::Break(Limit::Slice) => SliceOutcome::Incomplete(self),
            ControlFlow::Continue(()) if has_all_rows => SliceOutcome::Incomplete(self),
            ControlFlow::Continue(()) => self.complete(false),
        })
    }

    /// Appends the versions that a query returns.
    fn append(
        &mut self,
        snapshot: &Connection,
        longest: usize,
        sql: &str,
        parameters: impl Params,
    ) -> Result<ControlFlow<Limit>, PageError> {
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            if self.body.len() >= longest {
                return Ok(ControlFlow::Break(Limit::Slice));
            }
            let id = schema::from_sql(row.get(0)?);
            let data = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if !self.has_room(data)? {
                return Ok(ControlFlow::Break(Limit::Page));
            }
            self.write(id, data);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Returns whether another version fits, and reserves memory for it. If even the first one does not fit, the page fails.
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

    fn complete(self, more_follow: bool) -> SliceOutcome {
        let Self { mut body, mut reservation, last, .. } = self;
        body.push('}');
        reservation.shrink(body.len());
        SliceOutcome::Complete(Page { body, next: more_follow.then_some(last) }, reservation)
    }
}
