//! The records that the log's entries refer to, and the newest record of each name: reads them, a part at a time, and hands
//! them to the hub.

use std::collections::VecDeque;

use super::Tail;
use crate::engine::Follow;
use crate::engine::log::{Body, Connect, Entry, ReadRecords};
use crate::records::Record;

/// Reading the newest record of each name.
pub(super) enum Load {
    /// All of them, to replace those that are known.
    All(Loaded),
    /// Those that are newer than the ones that are known.
    Newer,
    /// Those that are newer if the log has those that are known, or else all of them.
    Check,
}

/// The newest records that were read so far, ascending by id, and the newest id of the log when that began.
#[derive(Default)]
pub(super) struct Loaded {
    records: Vec<Record>,
    begun_at: Option<u64>,
}

/// Records that entries refer to, ascending by id: all up to an id.
#[derive(Default)]
pub(super) struct Fetched {
    records: VecDeque<Record>,
    pub(super) through: u64,
}

impl Fetched {
    /// Removes the records up to an id.
    pub(super) fn take_through(&mut self, id: u64) -> VecDeque<Record> {
        let count = self.records.partition_point(|record| record.id <= id);
        let rest = self.records.split_off(count);
        std::mem::replace(&mut self.records, rest)
    }
}

impl<C: Connect, F: Follow> Tail<C, F> {
    /// Reads the records that an entry refers to, and those of the entries after it, a part of them at a time.
    pub(super) fn fetch(&mut self, entry: Entry) {
        let first = entry.id.max(self.fetched.through.saturating_add(1));
        self.entries.push_front(entry);
        let last = self.entries.iter().rev().find_map(last_record);
        let (Some(log), Some(last)) = (&mut self.log, last) else { return };
        match log.records(first, last) {
            Ok(records) => {
                self.fetched.through = records.last().map_or(last, |record| record.id);
                self.fetched.records.extend(records);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Returns whether records that an entry refers to were not there when they were read, as after FLUSHALL. They are not passed
    /// over before all records are loaded anew, because a replica that is promoted may still have them.
    pub(super) fn lacks_records(&self, entry: &Entry) -> bool {
        let Some(last) = last_record(entry).filter(|&last| last > self.loaded_at) else { return false };
        let known = self.records_through.max(entry.id.saturating_sub(1));
        let is_new = |record: &&Record| record.id > known && record.id <= last;
        (self.fetched.records.iter().filter(is_new).count() as u64) < last.saturating_sub(known)
    }

    /// Reads some of the newest records.
    pub(super) fn load_records(&mut self, mut load: Load) {
        let Some(log) = &mut self.log else {
            self.load = Some(load);
            return;
        };
        let records = match &mut load {
            Load::All(loaded) => {
                loaded.begun_at.get_or_insert(self.newest);
                log.newest_records(loaded.records.last().map_or(0, |record| record.id))
            }
            Load::Newer => log.newest_records(self.records_through),
            Load::Check => {
                self.newest_record.as_ref().map_or(Ok(Vec::new()), |record| log.records(record.id, record.id))
            }
        };
        match records {
            Ok(records) => self.take_loaded(load, records),
            Err(error) => {
                self.load = Some(load);
                self.fail(&error);
            }
        }
    }

    /// Takes the newest records that were read; none means that there are no more.
    fn take_loaded(&mut self, load: Load, records: Vec<Record>) {
        self.engine.shared.tail.loaded.add(records.len() as u64);
        let newest = records.last().map(|record| record.id);
        match load {
            Load::All(loaded) => self.take_some_of_all(loaded, records),
            Load::Newer => {
                if let Some(newest) = newest {
                    self.records_through = newest;
                    self.note_newest(records.last().cloned());
                    self.records = records.into();
                    self.load = Some(Load::Newer);
                }
            }
            Load::Check => {
                let has_known = records.first() == self.newest_record.as_ref();
                // The log has lost the record's entry as well. If another entry has the same id, and both are trimmed, nothing
                // else tells.
                self.has_gap |= !has_known;
                self.load = Some(if has_known { Load::Newer } else { Load::All(Loaded::default()) });
            }
        }
    }

    /// Takes records of a complete reload. It is complete once it reaches the id that was newest when it began: later records come
    /// with the log, and there may always be more of them.
    fn take_some_of_all(&mut self, mut loaded: Loaded, records: Vec<Record>) {
        let begun_at = loaded.begun_at.unwrap_or(0);
        let is_complete = records.last().is_none_or(|record| record.id >= begun_at);
        loaded.records.extend(records);
        if !is_complete {
            self.load = Some(Load::All(loaded));
            return;
        }
        self.loaded_at = begun_at;
        self.records_through = loaded.records.last().map_or(0, |record| record.id);
        self.newest_record = loaded.records.last().cloned();
        // Before the hub forgets records, so that no later lookup finds them on the reader's old server.
        self.engine.shared.tail.replacements.add(1);
        self.follow.reset_records(loaded.records);
    }

    pub(super) fn note_newest(&mut self, record: Option<Record>) {
        self.newest_record = record.or(self.newest_record.take());
    }

    /// Has the log asked for the records that are known before anything else is applied. They may be ahead of what was read of
    /// the log; if they are lost with the entries after that, no entry tells. If not all were read yet, begins anew.
    pub(super) fn check_records(&mut self) {
        let is_complete = self.has_begun && !matches!(self.load, Some(Load::All(_)));
        self.load = Some(if is_complete { Load::Check } else { Load::All(Loaded::default()) });
    }
}

/// Returns the id of the last record that an entry refers to; `None` if it refers to none.
pub(super) fn last_record(entry: &Entry) -> Option<u64> {
    match entry.body {
        Body::Records(count) => Some(entry.id.saturating_add((count as u64).saturating_sub(1))),
        _ => None,
    }
}
