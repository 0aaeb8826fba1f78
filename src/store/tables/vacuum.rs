//! Gives free pages back to the file system: moves the last pages of the database to free ones, and shortens it. The file
//! itself gets shorter with the next complete checkpoint.

use rusqlite::{Connection, TransactionBehavior};

use super::schema;
use super::slice::Slice;

/// How often the free pages are counted, in milliseconds.
const INTERVAL: u64 = 1000;
/// What one page that is moved counts in a slice, in rows.
const PAGE_ROWS: usize = 4;

/// The pages of the database, and which of them are free.
#[derive(Debug, Default)]
pub(in crate::store) struct Vacuum {
    /// The number of pages.
    pages: u64,
    /// The number of free ones.
    free: u64,
    /// How many stay free, so that pages are not given back and taken again in turns.
    reserve: u64,
    /// Whether the database has been created with a map of its pages, without which none can be moved.
    is_possible: bool,
    /// Whether pages are being given back.
    is_active: bool,
    /// When the pages were last counted, in milliseconds.
    counted_at: Option<u64>,
}

impl Vacuum {
    /// Returns a vacuum for the database.
    pub fn new(connection: &Connection, reserve: u64) -> rusqlite::Result<Self> {
        let mode: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
        let mut vacuum = Self { reserve, is_possible: mode == 2, ..Self::default() };
        vacuum.count(connection)?;
        Ok(vacuum)
    }

    /// Returns whether free pages can be given back.
    pub fn is_possible(&self) -> bool {
        self.is_possible
    }

    /// Returns the number of pages, and of free ones.
    pub fn pages(&self) -> (u64, u64) {
        (self.pages, self.free)
    }

    /// Returns whether pages must be given back or counted at this time, in milliseconds.
    pub fn has_work(&self, millis: u64) -> bool {
        self.is_active || self.counted_at.is_none_or(|at| millis.saturating_sub(at) >= INTERVAL)
    }

    /// Counts the pages, or gives back some. After an error the slice is rolled back.
    pub fn run_slice(&mut self, connection: &mut Connection, slice: &mut Slice<'_>) -> rusqlite::Result<()> {
        if self.is_active {
            let surplus = self.free.saturating_sub(self.reserve);
            schema::without_fsync(connection, |connection| give_back(connection, surplus, slice))?;
        }
        self.count(connection)?;
        self.counted_at = Some(slice.millis());
        // A little more than the reserve must be free to begin with, so that not every page that is freed is given back.
        let surplus = self.free.saturating_sub(self.reserve);
        self.is_active = self.is_possible && (surplus > self.reserve / 8 || self.is_active && surplus > 0);
        Ok(())
    }

    /// Counts the pages.
    pub fn count(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let count = |pragma: &str| -> rusqlite::Result<u64> {
            connection.prepare_cached(pragma)?.query_row([], |row| row.get(0)).map(schema::from_sql)
        };
        (self.pages, self.free) = (count("PRAGMA page_count")?, count("PRAGMA freelist_count")?);
        Ok(())
    }
}

/// Gives back at most this many pages.
fn give_back(connection: &mut Connection, pages: u64, slice: &mut Slice<'_>) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut moves = transaction.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = moves.query([])?;
        // Each row is a page.
        while rows.next()?.is_some() && !slice.is_over(PAGE_ROWS) {}
    }
    transaction.commit()
}
