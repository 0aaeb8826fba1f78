//! The records on a server. Independent of the log's entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::log::{NAME_COST, Version, record_cost};
use crate::records::{NewRecord, Record};

/// All versions of all records. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// Ascending by id.
    all: Arc<Vec<Arc<Record>>>,
    bytes: u64,
}

/// Returns about how many bytes records take if their names are new.
pub(super) fn cost(records: &[NewRecord]) -> u64 {
    records.iter().map(record_cost).sum()
}

impl Records {
    /// Adds records, the first of which gets this id and the others the next numbers.
    pub fn push(&mut self, first: u64, records: &[NewRecord]) {
        self.bytes += cost(records);
        let all = Arc::make_mut(&mut self.all);
        for (id, record) in (first..).zip(records) {
            let NewRecord { name, data } = record.clone();
            if all.iter().any(|earlier| earlier.name == name) {
                self.bytes -= NAME_COST + name.len() as u64;
            }
            all.push(Arc::new(Record { id, name, data }));
        }
    }

    /// Returns about how many bytes all records take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the newest id; 0 if there is none.
    pub fn newest_id(&self) -> u64 {
        self.all.last().map_or(0, |record| record.id)
    }

    /// Returns those with larger ids.
    pub fn after(&self, id: u64) -> &[Arc<Record>] {
        &self.all[self.all.partition_point(|record| record.id <= id)..]
    }

    /// Returns those that are the newest of their name and whose ids are larger, `limit` at most.
    pub fn newest(&self, after: u64, limit: usize) -> Vec<Record> {
        let mut names = BTreeSet::new();
        let mut newest: Vec<_> = self.after(after).iter().rev().filter(|record| names.insert(&record.name)).collect();
        newest.reverse();
        newest.into_iter().take(limit).map(|record| Record::clone(record)).collect()
    }

    /// Returns those with ids in a range, `limit` at most.
    pub fn range(&self, first: u64, last: u64, limit: usize) -> Vec<Record> {
        let after = self.after(first.saturating_sub(1)).iter();
        after.take_while(|record| record.id <= last).take(limit).map(|record| Record::clone(record)).collect()
    }

    /// Returns whether there is one with this id.
    pub fn has(&self, id: u64) -> bool {
        self.all.binary_search_by_key(&id, |record| record.id).is_ok()
    }

    /// Returns versions of a name with larger ids, `limit` at most.
    pub fn versions(&self, name: &str, after: u64, limit: usize) -> Vec<Version> {
        let versions = self.after(after).iter().filter(|record| *record.name == *name);
        versions.take(limit).map(|record| Version { id: record.id, data: record.data.clone() }).collect()
    }
}
