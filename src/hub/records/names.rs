//! The sets of record names that streams are limited to. Each worker has one copy of a set, shared by all streams with the
//! same names, and all sets together take a bounded amount of memory. Used behind the hub's lock.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::worker_set::WorkerId;
use crate::util::shrink::Shrink as _;

/// The names that a stream is limited to, ascending; empty for all names.
pub type NameSet = Arc<[Arc<str>]>;

/// All sets together may take this fraction of the memory that the newest records may take: one in four.
const PART_OF_LATEST: usize = 4;
/// All sets together may take at least this many bytes.
const MIN_BYTES: usize = 1 << 20;
/// The bytes that a name takes in addition to its text: the allocation, and its entry in the worker's index of names.
const NAME_OVERHEAD: usize = 160;
/// The bytes that a set takes in addition to its names.
const SET_OVERHEAD: usize = 400;

/// All sets, with the number of streams that use each.
pub(in crate::hub) struct NameSets {
    limit: usize,
    bytes: usize,
    /// For each worker, the number of streams with a set.
    streams: Box<[HashMap<NameSet, u32>]>,
}

impl NameSets {
    pub fn new(workers: usize, latest_bytes: usize) -> Self {
        let limit = (latest_bytes / PART_OF_LATEST).max(MIN_BYTES);
        Self { limit, bytes: 0, streams: (0..workers).map(|_| HashMap::new()).collect() }
    }

    /// Returns the bytes of memory that all sets take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a stream and returns the shared copy of its set; `None` if a new set would take too much memory.
    pub fn join(&mut self, worker: WorkerId, names: NameSet) -> Option<NameSet> {
        if names.is_empty() {
            return Some(names);
        }
        let streams = &mut self.streams[worker];
        if let Some((known, _)) = streams.get_key_value(&names) {
            let known = Arc::clone(known);
            streams.entry(names).and_modify(|count| *count += 1);
            return Some(known);
        }
        let bytes = cost(&names);
        if self.bytes + bytes > self.limit {
            return None;
        }
        self.bytes += bytes;
        streams.insert(Arc::clone(&names), 1);
        Some(names)
    }

    /// Removes a stream with this set.
    pub fn leave(&mut self, worker: WorkerId, names: &NameSet) {
        let streams = &mut self.streams[worker];
        let Some(count) = streams.get_mut(names) else { return };
        *count -= 1;
        if *count == 0 {
            streams.remove(names);
            streams.shrink_if_sparse();
            self.bytes -= cost(names);
            debug_assert!(
                self.bytes == 0 || self.streams.iter().any(|sets| !sets.is_empty()),
                "no set takes no memory"
            );
        }
    }
}

fn cost(names: &[Arc<str>]) -> usize {
    SET_OVERHEAD + names.iter().map(|name| name.len() + NAME_OVERHEAD).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(names: impl IntoIterator<Item = String>) -> NameSet {
        names.into_iter().map(Arc::from).collect()
    }

    #[test]
    fn streams_with_the_same_names_share_one_set() {
        let mut sets = NameSets::new(2, 0);
        let names = || set((0..31).map(|number| format!("{number:0256}")));
        let first = sets.join(0, names()).expect("there is room");
        let one = sets.bytes();
        assert!((12_000..14_000).contains(&one), "31 long names: {one}");
        let second = sets.join(0, names()).expect("there is room");
        assert!(Arc::ptr_eq(&first, &second) && sets.bytes() == one);
        assert!(sets.join(1, names()).is_some() && sets.bytes() == 2 * one, "each worker has its own copy");
        let many = (0..2000).filter(|stream| sets.join(0, set([format!("{stream:0256}")])).is_some()).count();
        assert!(sets.bytes() <= MIN_BYTES && many < 2000, "{many}");
        assert!(
            sets.join(0, set([])).is_some() && sets.join(0, names()).is_some(),
            "a set that takes no more memory is always accepted"
        );
    }

    proptest! {
        /// The oracle counts the distinct sets of all streams.
        #[test]
        fn counted_bytes_are_those_of_the_distinct_sets(acts in prop::collection::vec((any::<bool>(), 0..2_usize, 0..6_usize), 0..100)) {
            let (mut sets, mut streams) = (NameSets::new(2, 0), Vec::<(WorkerId, NameSet)>::new());
            for (joins, worker, size) in acts {
                if joins {
                    let names = set((0..size).map(|number| format!("name{number}")));
                    streams.push((worker, sets.join(worker, names).expect("there is room")));
                } else if !streams.is_empty() {
                    let (worker, names) = streams.swap_remove(size % streams.len());
                    sets.leave(worker, &names);
                }
                let mut distinct = streams.clone();
                distinct.sort();
                distinct.dedup();
                let expected: usize = distinct.iter().filter(|(_, names)| !names.is_empty()).map(|(_, names)| cost(names)).sum();
                prop_assert_eq!(sets.bytes(), expected);
            }
        }
    }
}
