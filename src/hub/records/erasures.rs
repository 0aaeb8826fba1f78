//! The last erasures, for streams that have not been told of them: those that catch up. The names of erased records therefore
//! stay in memory until [`MAX`] other erasures have followed, or until the broker stops. On disk there are none.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sse::Frame;

/// The number of erasures that are remembered: at most about a megabyte of memory.
pub(in crate::hub) const MAX: usize = 1024;

/// A bounded memory of erasures, ascending by id.
#[derive(Debug, Default)]
pub struct Erasures {
    /// The events that tell streams of them.
    recent: VecDeque<Arc<Frame>>,
    /// The id of the last erasure that is not remembered: one from before the start, or before many others.
    forgotten_through: u64,
}

impl Erasures {
    /// Returns the id of the last erasure; 0 if there was none.
    pub fn through(&self) -> u64 {
        self.recent.back().map_or(self.forgotten_through, |frame| frame.id())
    }

    /// Returns the id of the last erasure that is not remembered. A stream that was not told of it needs a gap.
    pub fn forgotten_through(&self) -> u64 {
        self.forgotten_through
    }

    /// Adds an erasure. It can be told to streams only if it is newer than all others.
    pub fn push(&mut self, frame: Arc<Frame>) {
        if frame.id() <= self.through() {
            return;
        }
        if self.recent.len() == MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forgotten_through = oldest.id();
        }
        self.recent.push_back(frame);
    }

    /// Notes that records were erased up to this id, and that it is not known which.
    pub fn forget_through(&mut self, id: u64) {
        self.forgotten_through = self.forgotten_through.max(id);
        self.recent.drain(..self.recent.partition_point(|frame| frame.id() <= id));
    }

    /// Returns the erasures after an id of the records with one of these names, ascending; of all records if there are no names.
    pub fn after<'a>(&'a self, names: &'a [Arc<str>], id: u64) -> impl Iterator<Item = &'a Arc<Frame>> {
        let is_asked_for = |name: &Arc<str>| names.is_empty() || names.contains(name);
        let first = self.recent.partition_point(|frame| frame.id() <= id);
        self.recent.range(first..).filter(move |frame| frame.name().is_some_and(is_asked_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::erasure_frame;

    fn ids(erasures: &Erasures, names: &[&str], id: u64) -> Vec<u64> {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        erasures.after(&names, id).map(|frame| frame.id()).collect()
    }

    #[test]
    fn remembers_the_last_erasures_and_which_it_has_forgotten() {
        let mut erasures = Erasures::default();
        for (name, id) in [("a", 5), ("b", 7), ("a", 9), ("c", 8)] {
            erasures.push(erasure_frame(&Arc::from(name), id));
        }
        assert_eq!([ids(&erasures, &[], 0), ids(&erasures, &["a", "x"], 5)], [vec![5, 7, 9], vec![9]]);
        assert_eq!((erasures.through(), erasures.forgotten_through()), (9, 0));
        erasures.forget_through(7);
        assert_eq!((ids(&erasures, &[], 0), erasures.through(), erasures.forgotten_through()), (vec![9], 9, 7));
        (10..MAX as u64 + 10).for_each(|id| erasures.push(erasure_frame(&Arc::from("d"), id)));
        assert_eq!((ids(&erasures, &["a"], 0), erasures.forgotten_through()), (vec![], 9));
        assert_eq!(ids(&erasures, &["d"], 0).len(), MAX);
        erasures.forget_through(5_000);
        assert_eq!((erasures.through(), erasures.forgotten_through(), ids(&erasures, &[], 0)), (5_000, 5_000, vec![]));
    }
}
