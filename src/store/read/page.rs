//! Reads the versions of a page in slices, each from a snapshot of its own.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension as _, Params};

use crate::quota::PageReservation;
use crate::records::Page;
use crate::records::page::{NoMemory, PageBuilder, SLICE_BYTES};
use crate::store::tables::schema::{self, INDEXED_THROUGH};

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

impl From<NoMemory> for PageError {
    fn from(_: NoMemory) -> Self {
        Self::Memory
    }
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

/// Reads at most this many rows of a page, from one snapshot.
pub(super) fn read_slice(
    mut page: Box<PageBuilder>,
    connection: &mut Connection,
    rows: usize,
) -> Result<SliceOutcome, PageError> {
    let snapshot = connection.transaction()?;
    let mut key = snapshot.prepare_cached("SELECT key FROM names WHERE name = ?1")?;
    let Some(key) = key.query_row([&**page.name()], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(complete(*page, false));
    };
    let (after, through) = (schema::to_sql(page.last()), schema::meta(&snapshot, INDEXED_THROUGH)?);
    let rows = schema::to_sql(rows.min(page.missing()) as u64);
    let (before, longest) = (page.entries(), page.bytes() + SLICE_BYTES);
    let mut end = append(&mut page, &snapshot, longest, INDEXED, (key, after, through, rows))?;
    let rest = rows - schema::to_sql((page.entries() - before) as u64);
    if end.is_continue() && rest > 0 {
        end = append(&mut page, &snapshot, longest, UNINDEXED, (key, after.max(through), rest))?;
    }
    let has_all_rows = schema::to_sql((page.entries() - before) as u64) == rows;
    Ok(match end {
        ControlFlow::Break(Limit::Page) => complete(*page, true),
        ControlFlow::Break(Limit::Slice) => SliceOutcome::Incomplete(page),
        ControlFlow::Continue(()) if has_all_rows => SliceOutcome::Incomplete(page),
        ControlFlow::Continue(()) => complete(*page, false),
    })
}

/// Appends the versions that a query returns.
fn append(
    page: &mut PageBuilder,
    snapshot: &Connection,
    longest: usize,
    sql: &str,
    parameters: impl Params,
) -> Result<ControlFlow<Limit>, PageError> {
    let mut statement = snapshot.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        if page.bytes() >= longest {
            return Ok(ControlFlow::Break(Limit::Slice));
        }
        let id = schema::from_sql(row.get(0)?);
        let data = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        if !page.push(id, data)? {
            return Ok(ControlFlow::Break(Limit::Page));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn complete(page: PageBuilder, more_follow: bool) -> SliceOutcome {
    let (page, reservation) = page.complete(more_follow);
    SliceOutcome::Complete(page, reservation)
}
