//! Erases versions from a store that no broker has open, and completes what a broker has begun to erase.

use std::path::Path;

use super::error::in_directory;
use crate::clock::Clock;
use crate::ids::HighWaterMark;
use crate::records::progress::{Amount, Progress};
use crate::records::transfer::ToolError;
use crate::store::checkpointer;
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;
use crate::store::error::Cause;
use crate::store::opening;
use crate::store::tables::Tables;
use crate::store::tables::erasure::Erasure;
use crate::store::tables::recovery::recover;
use crate::store::tables::scrub;
use crate::store::tuning::Tuning;

struct Eraser<'a> {
    tables: Tables,
    mark: HighWaterMark,
    tuning: Tuning,
    progress: &'a dyn Progress,
}

/// Erases the versions of a name in a directory, from the files as well: those with a smaller id than `before`, or all. Returns
/// their number.
pub fn erase(directory: &Path, name: &str, before: Option<u64>, progress: &dyn Progress) -> Result<u64, ToolError> {
    let data_dir = DataDir::acquire_existing(directory, Actor::Tool)?;
    let opened = opening::connect_writer(&data_dir).and_then(|writer| Ok((recover(&writer)?, writer)));
    let (recovered, connection) = opened.map_err(|cause| data_dir.error(cause))?;
    let tables = Tables::new(connection, recovered.names, recovered.unindexed, Clock::new());
    let (mark, tuning) = (recovered.mark, Tuning::default());
    let mut eraser = Eraser { tables, mark, tuning, progress };
    let failed = in_directory(&data_dir);
    let erased = eraser.remove(recovered.purge.erasures, name, before).map_err(&failed)?;
    if erased > 0 || recovered.purge.is_due {
        eraser.scrub().map_err(&failed)?;
        eraser.empty_wal().map_err(&failed)?.ok_or_else(|| data_dir.error(Cause::InUse(None)))?;
    }
    // Also if nothing was found, because it has begun.
    eraser.tables.end_purge().map_err(&failed)?;
    eraser.empty_wal().map_err(&failed)?;
    Ok(erased)
}

impl Eraser<'_> {
    /// Removes what earlier erasures have left, and then the versions of a name, whose number it returns.
    fn remove(&mut self, earlier: Vec<Erasure>, name: &str, before: Option<u64>) -> rusqlite::Result<u64> {
        self.progress.begin("completing the index", Amount::Unknown);
        self.tables.index_all()?;
        self.progress.begin("removing versions", Amount::Records(None));
        for erasure in earlier {
            self.remove_all(erasure)?;
        }
        let Some((key, newest)) = self.tables.newest_version(name)? else { return Ok(0) };
        let is_whole = before.is_none_or(|before| i64::try_from(before).map_or(true, |before| before > newest));
        // As for an event of a running broker: larger than all ids so far, and covered by the ceiling.
        let next = self.tables.clock().now().id_micros.max(self.mark.ids_through() + 1);
        let id = is_whole.then_some(next);
        let erasure = self.tables.begin_erasure((name, key), id.or(before).unwrap_or(0), id, id)?;
        self.remove_all(erasure)
    }

    fn remove_all(&mut self, erasure: Erasure) -> rusqlite::Result<u64> {
        let mut erased = 0;
        while let Some(removed) = self.tables.remove_slice(erasure, self.tuning.erase_slice)? {
            erased += removed;
            self.progress.advance(removed);
            self.limit_wal()?;
        }
        Ok(erased)
    }

    fn scrub(&mut self) -> rusqlite::Result<()> {
        let pages = scrub::page_count(self.tables.connection())?;
        self.progress.begin("clearing the pages of the database", Amount::Pages(pages));
        let mut page = 1;
        while let Some(next) = self.tables.scrub_slice(page, self.tuning.erase_slice)? {
            self.progress.advance(next.saturating_sub(page).into());
            page = next;
            self.limit_wal()?;
        }
        self.limit_wal()
    }

    /// Keeps the WAL small.
    fn limit_wal(&self) -> rusqlite::Result<()> {
        if checkpointer::wal_status(self.tables.connection())?.remaining() > self.tuning.wal_growth {
            checkpointer::checkpoint_passive(self.tables.connection())?;
        }
        Ok(())
    }

    /// Empties the WAL. `None` if another program is reading the database.
    fn empty_wal(&self) -> rusqlite::Result<Option<()>> {
        checkpointer::checkpoint_truncate(self.tables.connection()).map(|is_empty| is_empty.then_some(()))
    }
}
