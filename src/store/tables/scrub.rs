//! Clears what SQLite has left behind of rows that were removed or moved. With `secure_delete`, SQLite overwrites removed cells
//! and free pages, but when it distributes the cells of sibling pages anew, copies of cells may remain between a page's cell
//! pointers and its cells. So after an erasure every page is looked at.
//!
//! Pages of b-trees are told from others by their first byte. Overflow pages and trunk pages of the list of free pages begin with
//! the number of a page, whose first byte is smaller: see [`MAX_PAGES`]. The format is described at
//! <https://sqlite.org/fileformat2.html>.

use std::ops::Range;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior};

use super::schema;
use crate::clock::Clock;

/// A slice ends after this many microseconds.
const SLICE_MICROS: u64 = 2_000;
/// In a database with more pages, the number of a page could begin with a byte that means a page of a b-tree.
const MAX_PAGES: u32 = 0x0200_0000;
/// After so many repetitions, the pages are cleared in one transaction.
const MAX_REPEATS: u32 = 3;

/// Returns whether pages can be cleared one by one. Otherwise the database must be rewritten.
pub(in crate::store) fn is_possible(connection: &Connection) -> rusqlite::Result<bool> {
    match connection.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = 1") {
        Ok(_) => Ok(page_count(connection)? < MAX_PAGES),
        // SQLite was built without the table.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Rewrites the database, so that only what exists remains.
pub(in crate::store) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    // The copy that SQLite makes in the meantime has nothing that is erased, and may be larger than the memory.
    connection.pragma_update(None, "temp_store", "FILE")?;
    let rewritten = connection.execute_batch("VACUUM");
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    rewritten
}

/// Clears all pages in slices, between which other transactions go on.
///
/// When SQLite distributes the cells of siblings anew, it may also exchange the pages themselves, with what it has left behind in
/// them, so a page that is not cleared yet may get a number before the next slice. Then all pages are cleared once more.
///
/// That does not happen when a row is appended to a table, nor in trees that never contain text of records, as they never share a
/// page with others.
#[derive(Debug, Default)]
pub(in crate::store) struct Scrub {
    /// Whether some pages are cleared and others are not.
    is_under_way: bool,
    /// Whether pages with text may have been exchanged since the first slice.
    has_moved: bool,
    /// How often all pages were cleared to no avail.
    repeats: u32,
}

impl Scrub {
    /// Returns whether some pages are cleared and others are not. No page should be moved then.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Notes a transaction that may have exchanged pages with text.
    pub fn note_move(&mut self) {
        self.has_moved = true;
    }

    /// Clears pages from `first`, at most `max`. Returns the next one; `None` if no page contains text of what was removed before
    /// the first call.
    ///
    /// If pages were exchanged in each of several passes, the last pass is one transaction, during which inserts wait. It is
    /// reached only under a constant load of new names, and writes only the few pages that were exchanged since the pass before;
    /// it reads all, of which most are in the page cache of the system: about a second for each gigabyte, and 128 GiB at most.
    pub fn run_slice(
        &mut self,
        connection: &mut Connection,
        first: u32,
        max: usize,
        clock: &Clock,
    ) -> rusqlite::Result<Option<u32>> {
        if first == 1 {
            self.has_moved = false;
        }
        self.is_under_way = true;
        let (max, micros) = match self.repeats {
            ..MAX_REPEATS => (max, SLICE_MICROS),
            _ => (usize::MAX, u64::MAX),
        };
        let clear = |connection: &mut Connection| clear_pages(connection, first, max, micros, clock);
        let next = schema::without_fsync(connection, clear)?;
        match next {
            Some(next) => return Ok(Some(next)),
            None if self.has_moved => self.repeats += 1,
            None => *self = Self::default(),
        }
        Ok(self.is_under_way.then_some(1))
    }
}

/// Clears pages in a transaction, from `first`, at most `max`, for this many microseconds. Returns the next page; `None` if that
/// was the last.
fn clear_pages(
    connection: &mut Connection,
    first: u32,
    max: usize,
    micros: u64,
    clock: &Clock,
) -> rusqlite::Result<Option<u32>> {
    let begin = clock.elapsed_micros();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut next = Some(first);
    {
        let mut read = transaction.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut write = transaction.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
        let layout = read.query_row([1], |row| Ok(Layout::of(row.get_ref(0)?.as_blob()?)))?;
        let last = page_count(&transaction)?;
        let mut cleared = 0;
        while let Some(number) = next
            && cleared < max
            && clock.elapsed_micros().saturating_sub(begin) < micros
        {
            let clear = |row: &rusqlite::Row<'_>| Ok(layout.cleared(number, row.get_ref(0)?.as_blob()?));
            if let Some(page) = read.query_row([number], clear).optional()?.flatten() {
                write.execute((number, page))?;
            }
            cleared += 1;
            next = number.checked_add(1).filter(|next| *next <= last);
        }
    }
    transaction.commit()?;
    Ok(next)
}

/// Returns how many pages the database has.
pub(in crate::store) fn page_count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "page_count", |row| row.get(0))
}

/// How the pages of a database are laid out.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The bytes of a page that SQLite uses.
    usable: usize,
    /// Every so many pages, from page 2, there is one with the parents of the pages that follow it; 0 if there are none.
    map_interval: usize,
}

impl Layout {
    /// Reads the layout from the first page.
    fn of(first: &[u8]) -> Self {
        let reserved = first.get(20).copied().unwrap_or(0);
        let usable = first.len().saturating_sub(reserved.into());
        let is_auto_vacuum = first.get(52..56).is_some_and(|root| root != [0; 4]);
        Self { usable, map_interval: if is_auto_vacuum { usable / 5 + 1 } else { 0 } }
    }

    /// Returns the page without what is left of removed cells; `None` if nothing is, or it is not a page of a b-tree.
    fn cleared(self, number: u32, page: &[u8]) -> Option<Vec<u8>> {
        if self.map_interval > 0 && number >= 2 && (number as usize - 2).is_multiple_of(self.map_interval) {
            return None;
        }
        let leftovers = self.leftovers(page, if number == 1 { 100 } else { 0 })?;
        let is_clear = |range: &Range<usize>| page.get(range.clone()).is_none_or(|bytes| bytes.iter().all(|b| *b == 0));
        if leftovers.iter().all(is_clear) {
            return None;
        }
        let mut cleared = page.to_vec();
        for range in leftovers {
            cleared.get_mut(range)?.fill(0);
        }
        Some(cleared)
    }

    /// Returns where a page of a b-tree has no cells, or `None` if it is another page. `header` is the offset of its header.
    fn leftovers(self, page: &[u8], header: usize) -> Option<Vec<Range<usize>>> {
        let header_len = match page.get(header)? {
            2 | 5 => 12,
            10 | 13 => 8,
            _ => return None,
        };
        let number = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
        let pointers_end = header + header_len + 2 * number(header + 3)?;
        let cells = match number(header + 5)? {
            0 => 1 << 16,
            start => start,
        };
        if pointers_end > cells || cells > self.usable {
            return None;
        }
        let unallocated = pointers_end..cells;
        let mut ranges = vec![unallocated];
        // The list of free blocks between the cells: of each, the first four bytes are the next one's offset and its length.
        let mut block = number(header + 1)?;
        while block >= cells {
            let (next, len) = (number(block)?, number(block + 2)?);
            if len < 4 || block + len > self.usable {
                break;
            }
            ranges.push(block + 4..block + len);
            block = if next > block { next } else { 0 };
        }
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use fastrand::Rng;

    use super::*;

    /// Returns a database that forgets what is deleted, with tables of every kind.
    fn database(is_auto_vacuum: bool) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(())).unwrap();
        if is_auto_vacuum {
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
        }
        let tables = "CREATE TABLE records (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
            CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
            CREATE TABLE versions (text TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (text, id)) WITHOUT ROWID;";
        connection.execute_batch(tables).unwrap();
        connection
    }

    /// Returns the numbers in angle brackets in all pages, read naively.
    fn numbers(connection: &Connection) -> BTreeSet<u32> {
        let mut statement = connection.prepare("SELECT data FROM sqlite_dbpage").unwrap();
        let pages = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let mut numbers = BTreeSet::new();
        for page in pages.map(Result::unwrap) {
            for part in page.split(|b| *b == b'<').skip(1) {
                let digits = part.split(|b| *b == b'>').next().unwrap();
                numbers.extend(std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u32>().ok()));
            }
        }
        numbers
    }

    /// Inserts and deletes at random, and returns the rows that exist: by number, their table, id and text.
    fn churn(connection: &Connection, rng: &mut Rng) -> BTreeMap<u32, (&'static str, u32, String)> {
        let mut rows = BTreeMap::new();
        for number in 0..rng.u32(100..1500) {
            let table = ["records", "names", "versions"][rng.usize(..3)];
            let len = if rng.u8(..20) == 0 { rng.usize(..9000) } else { rng.usize(..400) };
            let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(len).collect();
            let (id, text) = (rng.u32(..), format!("{}<{number}>{noise}", rng.alphanumeric()));
            let insert = format!("INSERT OR IGNORE INTO {table} (id, text) VALUES (?1, ?2)");
            if connection.execute(&insert, (id, &text)).unwrap() > 0 {
                rows.insert(number, (table, id, text));
            }
            while rows.len() > 50 && rng.u8(..5) < 2 {
                let victim = *rows.keys().nth(rng.usize(..rows.len())).unwrap();
                let (table, id, text) = rows.remove(&victim).unwrap();
                let delete = format!("DELETE FROM {table} WHERE id = ?1 AND text = ?2");
                assert_eq!(connection.execute(&delete, (id, text)).unwrap(), 1);
            }
        }
        rows
    }

    /// Clears all pages, and calls `write` between the slices, which returns whether it has written.
    fn clear(connection: &mut Connection, rng: &mut Rng, mut write: impl FnMut(&Connection, &mut Rng) -> bool) {
        let (mut scrub, mut next, clock) = (Scrub::default(), 1, Clock::new());
        while let Some(first) = scrub.run_slice(connection, next, rng.usize(1..20), &clock).unwrap() {
            assert!(scrub.is_under_way());
            next = first;
            if write(connection, rng) {
                scrub.note_move();
            }
        }
        assert!(!scrub.is_under_way());
    }

    /// Returns some letters and digits.
    fn noise(rng: &mut Rng) -> String {
        let len = rng.usize(10..400);
        std::iter::repeat_with(|| rng.alphanumeric()).take(len).collect()
    }

    /// Inserts names of different lengths, and removes about every eighth.
    fn change_names(connection: &Connection, rng: &mut Rng) {
        connection.execute_batch("BEGIN").unwrap();
        for _ in 0..rng.usize(1..100) {
            let name = noise(rng);
            connection.execute("INSERT OR IGNORE INTO names (text) VALUES (?1)", [name]).unwrap();
        }
        connection.execute("DELETE FROM names WHERE id % 8 = ?1 AND text NOT LIKE '%<%'", [rng.u8(..8)]).unwrap();
        connection.execute_batch("COMMIT").unwrap();
    }

    /// Returns the numbers of the names.
    fn numbers_of_names(connection: &Connection) -> BTreeSet<u32> {
        let mut names = connection.prepare("SELECT text FROM names WHERE text LIKE '%<%'").unwrap();
        let number = |text: String| text[text.find('<').unwrap() + 1..text.find('>').unwrap()].parse().unwrap();
        names.query_map([], |row| row.get(0).map(number)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn pages_that_move_between_slices_are_cleared() {
        for seed in 12..22 {
            let (mut rng, mut connection) = (Rng::with_seed(seed), database(seed % 2 == 0));
            for number in 0..1500 {
                let text = format!("{}<{number}>{}", rng.alphanumeric(), noise(&mut rng));
                connection.execute("INSERT INTO names (text) VALUES (?1)", [text]).unwrap();
                if number % 100 == 0 {
                    change_names(&connection, &mut rng);
                }
            }
            connection.execute("DELETE FROM names WHERE text LIKE '%<%' AND id % 3 = 0", []).unwrap();
            let existing = numbers_of_names(&connection);
            let mut writes = rng.usize(1..30);
            clear(&mut connection, &mut rng, |connection, rng| {
                let must_write = writes > 0 && rng.bool();
                if must_write {
                    writes -= 1;
                    change_names(connection, rng);
                }
                must_write
            });
            assert!(numbers(&connection) == existing, "seed {seed}");
        }
    }

    #[test]
    fn only_what_exists_remains() {
        let mut left_behind = 0;
        for seed in 0..20 {
            let (mut rng, mut connection) = (Rng::with_seed(seed), database(seed % 2 == 0));
            let rows = churn(&connection, &mut rng);
            if rng.bool() {
                let mut vacuum = connection.prepare("PRAGMA incremental_vacuum(5)").unwrap();
                let mut moved = vacuum.query([]).unwrap();
                while moved.next().unwrap().is_some() {}
            }
            let existing: BTreeSet<_> = rows.keys().copied().collect();
            left_behind += numbers(&connection).difference(&existing).count();
            clear(&mut connection, &mut rng, |_, _| false);
            assert_eq!(numbers(&connection), existing, "seed {seed}");
            let ok: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(ok, "ok", "seed {seed}");
            for (table, id, text) in rows.values() {
                let find = format!("SELECT count(*) FROM {table} WHERE id = ?1 AND text = ?2");
                let found: u32 = connection.query_row(&find, (id, text), |row| row.get(0)).unwrap();
                assert_eq!(found, 1, "seed {seed}");
            }
        }
        assert!(left_behind > 0, "SQLite leaves nothing behind: the pages need not be cleared");
    }

    #[test]
    fn a_rewritten_database_has_only_what_exists() {
        let connection = database(true);
        let rows = churn(&connection, &mut Rng::with_seed(7));
        connection.execute_batch("PRAGMA secure_delete = OFF; DELETE FROM records").unwrap();
        rewrite(&connection).unwrap();
        let others = rows.iter().filter(|(_, row)| row.0 != "records");
        assert_eq!(numbers(&connection), others.map(|(number, _)| *number).collect());
    }

    #[test]
    fn a_page_of_another_kind_is_left_alone() {
        let layout = Layout { usable: 512, map_interval: 512 / 5 + 1 };
        let mut leaf = vec![0x55; 512];
        leaf[..8].copy_from_slice(&[13, 0, 0, 0, 1, 1, 0xF0, 0]);
        assert_eq!(layout.leftovers(&leaf, 0), Some(std::iter::once(10..0x1F0).collect()));
        let cleared = layout.cleared(3, &leaf).unwrap();
        assert!(
            cleared[10..0x1F0].iter().all(|b| *b == 0)
                && cleared[..10] == leaf[..10]
                && cleared[0x1F0..] == leaf[0x1F0..]
        );
        assert_eq!(layout.cleared(3, &cleared), None, "it is clear already");
        for number in [2, 105, 208] {
            assert_eq!(layout.cleared(number, &leaf), None, "a page of the map");
        }
        for (at, bytes) in [(0, [0, 0]), (0, [1, 0]), (3, [0xFF, 0xFF]), (5, [0xFF, 0xFF]), (5, [0, 9])] {
            let mut page = leaf.clone();
            page[at..at + 2].copy_from_slice(&bytes);
            assert_eq!(layout.cleared(3, &page), None, "{at} {bytes:?}");
        }
        assert_eq!(layout.cleared(1, &leaf[..50]), None);
    }
}
