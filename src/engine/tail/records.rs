//! The records that the log's entries refer to, and the newest record of each name: reads them, a part at a time, and hands
//! them to the hub.
//!
//! # Removed or lost
//!
//! A record that is not there was removed (it was erased, or is not retained), or it is lost with a suffix of the log, or with all of
//! it. A lost record means a gap, and that all records are loaded anew. A removed one must mean neither: with few versions per name,
//! most records of an old entry are removed. Nothing is kept of a removed record that could tell. But a log loses only suffixes:
//! if it has an entry, it had everything that was appended before that entry, on this server or on one from which this server has
//! it, and what is missing of it was removed. Entries are told apart by their tokens, so that another entry with the same id proves
//! nothing. Hence:
//!
//! - *Records of an entry.* The request that reads them also asks, in the same step, whether the log has the newest of the entries
//!   that refer to them. If so, what is missing was removed. Otherwise the entry was trimmed meanwhile, or is lost: if records are
//!   missing then, the connection is dropped, and attaching finds out which.
//! - *The newest record that is known*, after a reconnect or a gap in the log. If it is there, nothing is lost. If it is not there,
//!   but the log has the entry that was read last, and the record is not newer than that, nothing is lost either. Otherwise the
//!   entry was trimmed, or records were read ahead of the log: nobody can tell, which counts as a loss.
//!
//! # Erased names
//!
//! When the newest record of a name is erased, an entry says so, with the record's id instead of the name, which then is nowhere in
//! the engine. The hub knows the name if it has that record. It has it unless
//!
//! - all records were loaded when it was erased already: the hub does not have the name, and has nothing to tell;
//! - the tail was behind when the record was removed, and could not read it any more: the hub may have an older version, and nobody
//!   can tell of which name. Then all records are loaded anew, and streams get a gap;
//! - newer records were read ahead of the log, so that ids would not ascend if the erasure was told now: likewise.
//!
//! Entries that are trimmed before they are read may have told of erasures. The log therefore knows the id of the newest one
//! ([`Attached::erased`](crate::engine::log::Attached::erased)). If this broker knows another one and has missed entries, it loads all
//! records anew. It does so as well if it knows an erasure that is not in the log any more: what was erased may be back, after a
//! failover to a server that has not heard of it, and no record that is missing tells. In each case, positions before the newest erasure are in doubt.

use std::collections::VecDeque;

use super::Tail;
use crate::engine::Follow;
use crate::engine::log::{Body, Connect, Entry, Mark, ReadRecords};
use crate::records::Record;

/// Reading the newest record of each name.
pub(super) enum Load {
    /// All of them, to replace those that are known.
    All(Loaded),
    /// Those that are newer than the ones that are known.
    Newer,
    /// If the log has those that are known, those that are newer and whose entries may be trimmed; or else all of them.
    Check,
}

/// The newest records that were read so far, ascending by id, and the newest id and the newest erasure of the log when that began.
#[derive(Default)]
pub(super) struct Loaded {
    records: Vec<Record>,
    begun: Option<(u64, u64)>,
}

/// Records that entries refer to, ascending by id: all up to an id.
#[derive(Default)]
pub(super) struct Fetched {
    records: VecDeque<Record>,
    pub(super) through: u64,
    /// Whether a part was read when the log did not have the entry of the newest records any more, so that those that are missing
    /// may be lost.
    is_doubtful: bool,
}

/// What attaching to the log has found.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// The newest erasure.
    pub(super) erased: u64,
    /// Whether the log has the entry that was read last.
    pub(super) has_read: bool,
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
        let newest = self.entries.iter().rev().find_map(|entry| last_record(entry).map(|last| (entry, last)));
        let (Some(log), Some((newest, last))) = (&mut self.log, newest) else { return };
        let mark = Mark { entry: newest.id, token: newest.token.clone() };
        match log.records_of(first, last, &mark) {
            Ok((records, has_entry)) => {
                self.fetched.is_doubtful |= !has_entry;
                self.fetched.through = records.last().map_or(last, |record| record.id);
                self.fetched.records.extend(records);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Returns whether records that an entry refers to were not there when they were read, and may be lost, as after FLUSHALL. They
    /// are not passed over before all records are loaded anew, because a replica that is promoted may still have them.
    pub(super) fn lacks_records(&self, entry: &Entry) -> bool {
        let is_sure = !self.fetched.is_doubtful;
        let Some(last) = last_record(entry).filter(|&last| last > self.loaded_at && !is_sure) else { return false };
        let known = self.records_through.max(entry.id.saturating_sub(1));
        let is_new = |record: &&Record| record.id > known && record.id <= last;
        (self.fetched.records.iter().filter(is_new).count() as u64) < last.saturating_sub(known)
    }

    /// Reads some of the newest records.
    pub(super) fn load_records(&mut self, mut load: Load) {
        let newest = self.newest_known();
        let Some(log) = &mut self.log else {
            self.load = Some(load);
            return;
        };
        let records = match &mut load {
            Load::All(loaded) => {
                loaded.begun.get_or_insert((newest, self.found.erased));
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

    /// Returns the newest id that the log is known to have had. All records up to it must be loaded, because what was applied, or
    /// trimmed before the next entry, is not read from the log again.
    fn newest_known(&self) -> u64 {
        let before_next = self.entries.front().map_or(0, |entry| entry.id.saturating_sub(1));
        self.newest.max(self.engine.shared.applied()).max(before_next)
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
            Load::Check => self.judge_known(records.first()),
        }
    }

    /// Decides what to read after the newest record that is known was asked for.
    fn judge_known(&mut self, found: Option<&Record>) {
        let known = self.newest_record.as_ref();
        let is_removed = found.is_none() && known.is_some_and(|known| self.is_behind_the_log(known.id));
        let has_known = found == known || is_removed;
        // Unknown ones, or one that is lost, so that the name is there again.
        let has_other_erasures = self.found.erased != self.erased;
        let are_told = self.found.erased > self.erased && self.erased <= self.engine.shared.applied();
        self.load = match (has_known, self.has_gap) {
            // The log tells of all that are newer, and of what was erased, in this order.
            (true, false) if !has_other_erasures || are_told => None,
            (true, true) if !has_other_erasures => Some(Load::Newer),
            _ => Some(Load::All(Loaded::default())),
        };
        // Unless the log has the entry that was read last, it may have lost the record's entry as well. If another entry has the same
        // id, and both are trimmed, nothing else tells.
        self.has_gap |= !has_known && !self.found.has_read;
    }

    /// Returns whether a record was there before the entry that was read last, which the log still has. Then it is not lost.
    fn is_behind_the_log(&self, id: u64) -> bool {
        self.found.has_read && id <= self.engine.shared.applied()
    }

    /// Begins to apply the records of an entry, which were fetched.
    pub(super) fn begin_records(&mut self, mark: Mark, count: usize) {
        let last = mark.entry.saturating_add((count as u64).saturating_sub(1));
        self.records = self.fetched.take_through(last);
        self.records.retain(|record| record.id > self.records_through);
        self.records_through = self.records_through.max(last);
        self.note_newest(self.records.back().cloned());
        self.follow.pass(last);
        self.applying = Some((mark, last));
    }

    /// Applies an entry that says that the log has lost those before it, records among them.
    pub(super) fn begin_loss(&mut self, mark: Mark) {
        let id = mark.entry;
        self.engine.shared.tail.losses.add(1);
        log::warn!("the engine has lost events that a broker had seen; all streams get a gap event");
        self.engine.shared.forget_appended(id);
        self.lose_through(id);
        self.pass(mark, id);
        if id > self.loaded_at {
            self.load = Some(Load::All(Loaded::default()));
        }
    }

    /// Has the hub forget an erased name, and doubt positions before the erasure. If it does not have the newest version of the
    /// name, it may have an older one, and nobody can tell which: then all records are loaded anew.
    pub(super) fn erase(&mut self, record: u64, id: u64) {
        self.erased = id;
        self.found.erased = self.found.erased.max(id);
        let is_loaded = id <= self.loaded_at;
        let is_told = id > self.records_through && !is_loaded && self.follow.erase(record, id);
        if is_told {
            return;
        }
        self.follow.doubt_before(id);
        // A record that was there when all were loaded was the newest of its name as long as that took: the hub has it, or nothing of
        // the name, unless newer ones were read ahead of the log.
        let may_have_older = record > self.loaded_at || id <= self.records_through;
        if !is_loaded && may_have_older {
            self.load = Some(Load::All(Loaded::default()));
        }
    }

    /// Takes records of a complete reload. It is complete once it reaches the id that was newest when it began: later records come
    /// with the log, and there may always be more of them.
    fn take_some_of_all(&mut self, mut loaded: Loaded, records: Vec<Record>) {
        let (begun_at, erased) = loaded.begun.unwrap_or_default();
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
        if erased > self.erased {
            self.follow.doubt_before(erased);
        }
        self.erased = erased;
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
