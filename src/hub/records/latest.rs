//! The newest record of each name, by id and by name. A newer record of the same name replaces the older one without a gap.
//! Independent of who listens.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::records::Record;

/// The memory of a record beyond its name and its data: the allocations, and its entries by id and by name here and in the
/// store. With a million records it was 183 bytes after a start, when the nodes of the tree are full.
const OVERHEAD: usize = 200;

/// The newest record of each name.
#[derive(Debug, Default)]
pub struct Latest {
    records: BTreeMap<u64, Arc<Record>>,
    by_name: HashSet<ByName>,
    bytes: usize,
    /// The largest id there ever was, of a record or of an erasure.
    newest: u64,
}

/// A record that is found by its name. Nothing but a pointer, as there may be a million.
#[derive(Debug)]
struct ByName(Arc<Record>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Latest {
    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the bytes of memory that the records take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the smallest id.
    pub fn oldest(&self) -> Option<u64> {
        self.records.first_key_value().map(|(&id, _)| id)
    }

    /// Returns the largest id there ever was, of a record or of an erasure.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns the records after an id, oldest first.
    pub fn after(&self, id: u64) -> impl Iterator<Item = &Arc<Record>> {
        let first = id.checked_add(1).map(|first| self.records.range(first..));
        first.into_iter().flatten().map(|(_, record)| record)
    }

    /// Returns the newest record of a name.
    pub fn of(&self, name: &str) -> Option<&Arc<Record>> {
        self.by_name.get(name).map(|by_name| &by_name.0)
    }

    /// Returns whether the record with this id is still the newest of its name.
    pub fn contains(&self, id: u64) -> bool {
        self.records.contains_key(&id)
    }

    /// Returns the record with this id, if it is still the newest of its name.
    pub fn get(&self, id: u64) -> Option<&Arc<Record>> {
        self.records.get(&id)
    }

    /// Returns the newest of each name of records that ascend by id. Much faster than pushing them one by one.
    pub fn restore(records: Vec<Arc<Record>>) -> Self {
        debug_assert!(records.is_sorted_by(|one, next| one.id < next.id), "records ascend");
        let newest = records.last().map_or(0, |record| record.id);
        let (mut by_name, mut superseded) = (HashSet::with_capacity(records.len()), Vec::new());
        for record in &records {
            superseded.extend(by_name.replace(ByName(Arc::clone(record))).map(|older| older.0.id));
        }
        // Built from the sorted list, the tree has no half-empty nodes.
        let mut records: BTreeMap<_, _> = records.into_iter().map(|record| (record.id, record)).collect();
        superseded.iter().for_each(|id| drop(records.remove(id)));
        let bytes = records.values().map(|record| cost(record)).sum();
        Self { records, by_name, bytes, newest }
    }

    /// Adds a record that is newer than all others and returns the one that it replaces.
    pub fn push(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        debug_assert!(record.id > self.newest, "records ascend");
        self.newest = record.id;
        self.bytes += cost(&record);
        let superseded = self.by_name.replace(ByName(Arc::clone(&record)));
        let superseded = superseded.and_then(|older| self.remove(&older));
        self.records.insert(record.id, record);
        debug_assert_eq!(self.records.len(), self.by_name.len(), "each name has one record");
        superseded
    }

    /// Removes the record of a name, which was erased with an id that is newer than all others.
    pub fn erase(&mut self, name: &str, id: u64) -> Option<Arc<Record>> {
        debug_assert!(id > self.newest, "records ascend");
        self.newest = id;
        self.by_name.take(name).and_then(|erased| self.remove(&erased))
    }

    fn remove(&mut self, older: &ByName) -> Option<Arc<Record>> {
        self.bytes -= cost(&older.0);
        self.records.remove(&older.0.id)
    }
}

/// Returns the bytes of memory that a record takes.
pub fn cost(record: &Record) -> usize {
    record.name.len() + record.data.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<'a>(records: impl Iterator<Item = &'a Arc<Record>>) -> Vec<u64> {
        records.map(|record| record.id).collect()
    }

    #[test]
    fn keeps_the_newest_record_of_each_name() {
        let mut latest = Latest::default();
        for (id, name) in [(1, "a"), (2, "b"), (5, "a"), (7, "c"), (9, "b")] {
            let superseded = latest.push(Record::shared(name, "1", id));
            let expected = [(5, 1), (9, 2)].into_iter().find(|pair| pair.0 == id).map(|pair| pair.1);
            assert_eq!(superseded.map(|record| record.id), expected);
        }
        assert_eq!((latest.oldest(), latest.newest(), latest.len()), (Some(5), 9, 3));
        assert_eq!([0, 5, 9, u64::MAX].map(|id| ids(latest.after(id))), [vec![5, 7, 9], vec![7, 9], vec![], vec![]]);
        assert_eq!(["a", "b", "x"].map(|name| latest.of(name).map(|record| record.id)), [Some(5), Some(9), None]);
        assert!(latest.contains(5) && !latest.contains(1));
        assert_eq!(latest.bytes(), latest.after(0).map(|record| cost(record)).sum::<usize>());
        let mut restored = Latest::restore(latest.after(0).cloned().collect());
        assert_eq!((restored.bytes(), restored.newest(), restored.len()), (latest.bytes(), 9, 3));
        assert_eq!(restored.push(Record::shared("b", "2", 10)).map(|record| record.id), Some(9));
    }

    #[test]
    fn of_several_restored_records_with_one_name_the_last_is_kept() {
        let records = [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")];
        let records = records.map(|(id, name)| Record::shared(name, "1", id));
        let mut restored = Latest::restore(records.to_vec());
        assert_eq!(ids(restored.after(0)), [2, 4, 5]);
        assert_eq!((restored.bytes(), restored.len()), (3 * cost(&records[0]), 3));
        assert_eq!(restored.push(Record::shared("a", "2", 6)).map(|record| record.id), Some(4));
    }

    #[test]
    fn an_erased_record_is_gone_and_its_ids_are_not_used_again() {
        let mut latest = Latest::restore([(1, "a"), (2, "b")].map(|(id, name)| Record::shared(name, "1", id)).to_vec());
        assert_eq!(latest.erase("b", 5).map(|record| record.id), Some(2));
        assert_eq!(latest.erase("b", 6).map(|record| record.id), None);
        assert_eq!((ids(latest.after(0)), latest.newest(), latest.len()), (vec![1], 6, 1));
        assert!(latest.of("b").is_none() && latest.bytes() == cost(&Record::shared("a", "1", 1)));
    }
}
