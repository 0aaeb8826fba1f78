//! The records on a server. Independent of the log's entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::log::{NAME_COST, REMOVED_BYTES, Version, record_cost, removed_cost};
use crate::records::{NewRecord, Record};

/// All versions of all records. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// Ascending by id.
    all: Arc<Vec<Arc<Record>>>,
    bytes: u64,
    /// Those that were removed, in the order in which they were.
    removed: Arc<Vec<Arc<Record>>>,
    /// The id of the newest record of the name that was swept last.
    swept: u64,
    /// The newest id when the round of sweeps began: later ones belong to the next round.
    sweep_end: u64,
}

/// What a removal may remove of a name, besides its newest version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Versions beyond this many, the newest included.
    pub most: usize,
    /// Versions with smaller ids.
    pub before: u64,
    /// At most this many.
    pub count: usize,
}

/// The versions that were removed, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    pub versions: usize,
    pub bytes: u64,
}

impl Removed {
    /// Returns whether no other is to be removed at once.
    pub fn is_large(&self) -> bool {
        self.bytes >= REMOVED_BYTES
    }

    fn add(&mut self, other: Self) {
        self.versions += other.versions;
        self.bytes += other.bytes;
    }
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

    /// Removes a record. Returns the bytes that it took, if its name stays.
    fn remove(&mut self, id: u64) -> u64 {
        let Ok(index) = self.all.binary_search_by_key(&id, |record| record.id) else { return 0 };
        let record = Arc::make_mut(&mut self.all).remove(index);
        let bytes = removed_cost(&record.name, &record.data);
        self.bytes -= bytes;
        Arc::make_mut(&mut self.removed).push(record);
        bytes
    }

    /// Returns the ids of a name's versions, ascending.
    pub fn ids(&self, name: &str) -> Vec<u64> {
        self.all.iter().filter(|record| *record.name == *name).map(|record| record.id).collect()
    }

    /// Removes the oldest versions of a name, as far as the limits say. Never the newest.
    pub fn prune(&mut self, name: &str, limits: Limits) -> Removed {
        let ids = self.ids(name);
        let mut removed = Removed::default();
        for (index, &id) in ids.iter().enumerate() {
            let left = ids.len() - index;
            let is_unwanted = left > limits.most || id < limits.before;
            if left == 1 || !is_unwanted || index == limits.count || removed.is_large() {
                break;
            }
            removed.add(Removed { versions: 1, bytes: self.remove(id) });
        }
        removed
    }

    /// Removes up to `count` of the oldest versions of a name, those with ids before one. Returns how many, and the id of the newest
    /// version if it is among them.
    pub fn erase(&mut self, name: &str, before: u64, count: usize) -> (usize, Option<u64>) {
        let ids = self.ids(name);
        let newest = ids.last().copied();
        let (mut removed, mut last) = (Removed::default(), None);
        for id in ids.into_iter().take_while(|id| *id < before).take(count) {
            if removed.is_large() {
                break;
            }
            removed.add(Removed { versions: 1, bytes: self.remove(id) });
            last = Some(id);
        }
        let erased = last.filter(|last| Some(*last) == newest);
        if erased.is_some() {
            self.bytes -= NAME_COST + name.len() as u64;
        }
        (removed.versions, erased)
    }

    /// Prunes the next names after those that were swept last, this many at most. Returns what was removed, and whether that is as
    /// much as the limits allow.
    pub fn sweep(&mut self, names: usize, limits: Limits) -> (Removed, bool) {
        if self.swept == 0 {
            self.sweep_end = self.newest_id();
        }
        let mut found = self.newest(self.swept, names);
        found.retain(|record| record.id <= self.sweep_end);
        let mut removed = Removed::default();
        for record in &found {
            removed.add(self.prune(&record.name, Limits { count: limits.count - removed.versions, ..limits }));
            if removed.versions == limits.count || removed.is_large() {
                return (removed, true);
            }
            self.swept = record.id;
        }
        if found.len() < names {
            self.swept = 0;
        }
        (removed, false)
    }

    /// Returns those with larger ids, even if they were removed, ascending by id.
    pub fn inserted_after(&self, id: u64) -> Vec<Arc<Record>> {
        let removed = self.removed.iter().filter(|record| record.id > id);
        let mut inserted: Vec<_> = self.after(id).iter().chain(removed).cloned().collect();
        inserted.sort_by_key(|record| record.id);
        inserted
    }

    /// Returns those that were removed.
    pub fn removed(&self) -> &[Arc<Record>] {
        &self.removed
    }

    /// Returns about how many bytes all records take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the newest id; 0 if there is none.
    pub fn newest_id(&self) -> u64 {
        self.all.last().map_or(0, |record| record.id)
    }

    /// Returns the newest id of a name, if there is one.
    pub fn newest_of(&self, name: &str) -> Option<u64> {
        self.all.iter().rev().find(|record| *record.name == *name).map(|record| record.id)
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
