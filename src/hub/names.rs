//! The sets of record names that streams are limited to: each worker keeps one copy of a set, however many streams have it, and
//! all together take a bounded amount of memory. Part of the hub's critical section.

use std::collections::HashMap;
use std::sync::Arc;

use super::WorkerId;
use crate::util::shrink::Shrink as _;

/// The names that a stream is limited to, ascending; all if there are none.
pub type NameSet = Arc<[Arc<str>]>;

/// All sets may take this part of what the newest records may.
const PART_OF_LATEST: usize = 4;
/// At least so many bytes may be taken.
const MIN_BYTES: usize = 1 << 20;
/// The bytes that a name takes beside its text: the allocation, and its place in the worker's index of names.
const NAME_OVERHEAD: usize = 160;
/// The bytes that a set takes beside its names.
const SET_OVERHEAD: usize = 400;

/// See the module's page.
pub(super) struct NameSets {
    limit: usize,
    bytes: usize,
    /// How many streams of each worker have a set.
    streams: Box<[HashMap<NameSet, u32>]>,
}

impl NameSets {
    pub fn new(workers: usize, latest_bytes: usize) -> Self {
        let limit = (latest_bytes / PART_OF_LATEST).max(MIN_BYTES);
        Self { limit, bytes: 0, streams: (0..workers).map(|_| HashMap::new()).collect() }
    }

    /// What all sets take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts a stream, and returns the one copy of its set; `None` if a new one would take too much.
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

    /// A stream with this set has left.
    pub fn leave(&mut self, worker: WorkerId, names: &NameSet) {
        let streams = &mut self.streams[worker];
        let Some(count) = streams.get_mut(names) else { return };
        *count -= 1;
        if *count == 0 {
            streams.remove(names);
            streams.shrink_if_sparse();
            self.bytes -= cost(names);
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
    fn streams_with_the_same_names_share_them() {
        let mut sets = NameSets::new(2, 0);
        let names = || set((0..31).map(|number| format!("{number:0256}")));
        let first = sets.join(0, names()).expect("there is room");
        let one = sets.bytes();
        assert!((12_000..14_000).contains(&one), "31 long names: {one}");
        let second = sets.join(0, names()).expect("there is room");
        assert!(Arc::ptr_eq(&first, &second) && sets.bytes() == one);
        assert!(sets.join(1, names()).is_some() && sets.bytes() == 2 * one, "each worker has its own");
        let many = (0..2000).filter(|stream| sets.join(0, set([format!("{stream:0256}")])).is_some()).count();
        assert!(sets.bytes() <= MIN_BYTES && many < 2000, "{many}");
        assert!(sets.join(0, set([])).is_some() && sets.join(0, names()).is_some(), "what takes nothing has room");
    }

    proptest! {
        /// Against counting the distinct sets of all streams.
        #[test]
        fn what_streams_have_is_what_is_counted(acts in prop::collection::vec((any::<bool>(), 0..2_usize, 0..6_usize), 0..100)) {
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
