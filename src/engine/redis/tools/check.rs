//! Checks the consistency of the log and its records: the index, the newest records and the bytes against the records
//! themselves, recomputed naively, and the chain of the log's entries. Changes nothing. Brokers may be running; what they store
//! meanwhile is left out. If they remove records meanwhile, the check begins anew.

use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;
use serde::de::IgnoredAny;

use super::{Extent, connect, count, extent};
use crate::engine::EngineSettings;
use crate::engine::log::{LogError, NAME_COST, cost_of};
use crate::engine::redis::log::ServerLog;
use crate::engine::redis::scripts::{CHECK_INDEX, CHECK_LOG, CHECK_RECORDS};
use crate::engine::redis::value;
use crate::records::check_name;
use crate::records::progress::{Amount, Progress};
use crate::records::report::Report;
use crate::records::transfer::ToolError;

/// The most records or members that are looked at at once. The server does nothing else meanwhile.
const PAGE: usize = 256;
/// The bytes of records after which no other is read.
const PAGE_BYTES: usize = 1 << 20;
/// The most entries of the log that are looked at at once. The server reads their events, too.
const ENTRIES: usize = 16;
/// How often a check begins if records are removed during it.
const ATTEMPTS: usize = 5;
/// A problem is reported if the bytes of records are wrong by more than one part of this many.
const TOLERANCE: u64 = 100;

/// Checks the log of an engine and its records.
pub fn check(settings: &EngineSettings, progress: &dyn Progress) -> Result<Report, ToolError> {
    let mut attempts = 1;
    loop {
        let mut log = connect(settings)?;
        let before = extent(&mut log)?;
        let removed = before.removed;
        let mut report = check_once(log, before, progress)?;
        if report.is_good() || extent(&mut connect(settings)?)?.removed == removed {
            return Ok(report);
        }
        if attempts == ATTEMPTS {
            report.add("brokers removed records during the check, which may be the cause; stop them, and check again");
            return Ok(report);
        }
        attempts += 1;
    }
}

fn check_once(mut log: ServerLog, extent: Extent, progress: &dyn Progress) -> Result<Report, ToolError> {
    let records = count(&mut log)?;
    let mut check = Check { log, extent, report: Report::default(), names: HashMap::new(), bytes: 0 };
    progress.begin("checking records", Amount::Records(Some(records)));
    check.check_records(progress)?;
    progress.begin("comparing the newest records", Amount::Unknown);
    check.check_newest()?;
    progress.begin("comparing the index with the records", Amount::Unknown);
    check.check_index()?;
    check.check_bytes();
    progress.begin("checking the log", Amount::Unknown);
    check.check_log()?;
    Ok(check.report)
}

struct Check {
    log: ServerLog,
    extent: Extent,
    report: Report,
    /// The newest version of each name, from the records alone.
    names: HashMap<Arc<str>, u64>,
    /// The bytes of memory that records take, from the records alone.
    bytes: u64,
}

/// A record, and whether the index has it.
struct Indexed {
    id: u64,
    name: Arc<str>,
    data: String,
    is_indexed: bool,
}

impl Check {
    fn check_records(&mut self, progress: &dyn Progress) -> Result<(), LogError> {
        let mut next = 1;
        while next <= self.extent.newest_record {
            let page = self.read_records(next)?;
            let Some(last) = page.last() else { break };
            if page.first().is_some_and(|record| record.id < next) || !page.is_sorted_by(|one, other| one.id < other.id)
            {
                self.report.add(format!("records after {next} are not in order"));
            }
            next = last.id.max(next) + 1;
            progress.advance(page.len() as u64);
            page.into_iter().for_each(|record| self.check_record(record));
        }
        self.report.names = self.names.len() as u64;
        self.report.newest = self.extent.newest_record;
        if self.extent.newest_record > self.extent.last {
            let Extent { last, newest_record, .. } = self.extent;
            self.report.add(format!("record {newest_record} is newer than the newest id that the log knows, {last}"));
        }
        Ok(())
    }

    fn read_records(&mut self, first: u64) -> Result<Vec<Indexed>, LogError> {
        let keys = &self.log.keys;
        let mut command = CHECK_RECORDS.command(&[&keys.records, &keys.index]);
        command.arg(first).arg(self.extent.newest_record).arg(PAGE).arg(PAGE_BYTES);
        let answer = CHECK_RECORDS.run(&mut self.log.wire, &command)?;
        read_records(answer).ok_or_else(|| value::malformed("a record"))
    }

    fn check_record(&mut self, record: Indexed) {
        let Indexed { id, name, data, is_indexed } = record;
        self.report.records += 1;
        if let Err(error) = check_name(&name) {
            self.report.add(format!("record {id}: {error}"));
        }
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&data) {
            self.report.add(format!("record {id} is not valid JSON: {error}"));
        }
        if !is_indexed {
            self.report.add(format!("record {id} is missing from the index"));
        }
        self.bytes += cost_of(&name, &data);
        let known = name.len() as u64 + NAME_COST;
        if self.names.insert(name, id).is_some() {
            self.bytes -= known;
        }
    }

    /// Compares the newest record of each name, as a start of a broker would read them, with the records.
    fn check_newest(&mut self) -> Result<(), LogError> {
        let mut after = 0;
        loop {
            let page = self.read_newest(after)?;
            let Some((_, last)) = page.last() else { break };
            after = *last;
            for (name, id) in page {
                let expected = self.names.remove(name.as_str());
                match expected {
                    _ if id > self.extent.newest_record => {}
                    None => self.report.add(format!("the name {name:?} has a newest record, {id}, but no records")),
                    Some(expected) if expected == id => {}
                    Some(expected) => self.report.add(format!(
                        "the newest record of {name:?} is {expected}, but {id} is kept as the newest one"
                    )),
                }
            }
        }
        let mut missing: Vec<_> = self.names.drain().collect();
        missing.sort_unstable_by_key(|(_, id)| *id);
        for (name, id) in missing {
            self.report.add(format!("record {id} is not kept as the newest one of {name:?}"));
        }
        Ok(())
    }

    fn read_newest(&mut self, after: u64) -> Result<Vec<(String, u64)>, LogError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(&self.log.keys.newest).arg(format!("({after}")).arg("+inf").arg("BYSCORE");
        let answer = self.log.wire.call(command.arg("LIMIT").arg(0).arg(PAGE).arg("WITHSCORES"))?;
        read_newest(answer).ok_or_else(|| value::malformed("a newest record"))
    }

    /// Finds members of the index that stand for no record.
    fn check_index(&mut self) -> Result<(), LogError> {
        let mut from = b"-".to_vec();
        loop {
            let keys = &self.log.keys;
            let mut command = CHECK_INDEX.command(&[&keys.records, &keys.index]);
            command.arg(&from).arg(PAGE).arg(self.extent.newest_record);
            let answer = CHECK_INDEX.run(&mut self.log.wire, &command)?;
            let members = value::list(answer).and_then(|members| members.into_iter().map(bytes).collect());
            let members: Vec<Vec<u8>> = members.ok_or_else(|| value::malformed("a member of the index"))?;
            for wrong in members.iter().skip(1) {
                self.report.add(format!("the index has {:?}, which is no record", String::from_utf8_lossy(wrong)));
            }
            match members.first() {
                Some(last) if !last.is_empty() => from = [b"(", &last[..]].concat(),
                _ => return Ok(()),
            }
        }
    }

    fn check_bytes(&mut self) {
        let (known, counted) = (self.extent.record_bytes, self.bytes);
        if known.abs_diff(counted) > counted / TOLERANCE {
            self.report.add(format!("records take {counted} bytes, but {known} are noted"));
        }
    }

    /// Checks that each entry of the log names the one before it, and that the newest one is known.
    fn check_log(&mut self) -> Result<(), LogError> {
        let Extent { last, entry, newest_entry, .. } = self.extent;
        if entry != newest_entry {
            self.report.add(format!("the newest entry of the log is {newest_entry}, but {entry} is noted"));
        }
        let (mut before, mut ends) = (0, 0);
        while before < newest_entry {
            let (has_before, entries) = self.read_entries(before)?;
            if entries.is_empty() {
                break;
            }
            for (index, Entry { id, previous, count }) in entries.into_iter().enumerate() {
                // Entries are trimmed while brokers are running.
                let is_first = index == 0 && !has_before;
                if previous != Some(before) && !is_first {
                    self.report.add(format!("entry {id} of the log does not follow entry {before}"));
                }
                if count == 0 {
                    self.report.add(format!("entry {id} of the log is none that this version of Esker writes"));
                } else if id <= ends && !is_first {
                    self.report.add(format!("entry {id} of the log begins before the one before it ends"));
                }
                (before, ends) = (id, id.saturating_add(count.saturating_sub(1)));
                if id == newest_entry {
                    break;
                }
            }
        }
        if newest_entry > 0 && before == newest_entry && ends > last {
            self.report.add(format!("the log goes on to {ends}, but the newest id that it knows is {last}"));
        }
        Ok(())
    }

    fn read_entries(&mut self, after: u64) -> Result<(bool, Vec<Entry>), LogError> {
        let mut command = CHECK_LOG.command(&[&self.log.keys.log]);
        let answer = CHECK_LOG.run(&mut self.log.wire, command.arg(after).arg(ENTRIES))?;
        read_entries(answer).ok_or_else(|| value::malformed("an entry of the log"))
    }
}

/// An entry of the log: its id, that of the entry before it, and how many ids it has.
struct Entry {
    id: u64,
    previous: Option<u64>,
    count: u64,
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

/// Reads text, of which a problem is found later if it is not UTF-8.
fn lossy(value: Value) -> Option<String> {
    Some(String::from_utf8_lossy(&bytes(value)?).into_owned())
}

fn read_records(answer: Value) -> Option<Vec<Indexed>> {
    let mut values = value::list(answer)?.into_iter();
    let mut records = Vec::new();
    while let Some(id) = values.next() {
        let (name, data, indexed) = (lossy(values.next()?)?, lossy(values.next()?)?, value::text(values.next()?)?);
        records.push(Indexed { id: value::id(id)?, name: name.into(), data, is_indexed: indexed != "0" });
    }
    Some(records)
}

fn read_newest(answer: Value) -> Option<Vec<(String, u64)>> {
    let mut values = value::list(answer)?.into_iter();
    let mut newest = Vec::new();
    while let Some(name) = values.next() {
        let score: f64 = value::text(values.next()?)?.parse().ok()?;
        newest.push((lossy(name)?, score as u64));
    }
    Some(newest)
}

fn read_entries(answer: Value) -> Option<(bool, Vec<Entry>)> {
    let mut texts = value::list(answer)?.into_iter().map(value::text);
    let has_before = texts.next()?? != "0";
    let mut entries = Vec::new();
    while let Some(id) = texts.next() {
        let (previous, count) = (texts.next()??, texts.next()??);
        let (previous, count) = (previous.parse().ok(), count.parse().unwrap_or(0));
        entries.push(Entry { id: id?.parse().ok()?, previous, count });
    }
    Some((has_before, entries))
}
