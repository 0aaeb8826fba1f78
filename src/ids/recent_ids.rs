//! The newest ids of an ascending series, which distinguish an id from a number that only looks like one.
//! Independent of what the ids belong to.

use std::collections::VecDeque;

/// The number of ids that are remembered: 512 KiB of memory.
pub(super) const MAX: usize = 65_536;

/// A bounded memory of ids that were pushed in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentIds {
    ids: VecDeque<u64>,
    /// The largest id that was pushed and is no longer remembered.
    forgotten_through: u64,
}

impl RecentIds {
    /// Returns the memory of these ids, all of which are larger than `forgotten_through`. `None` if they don't ascend, or are
    /// too many.
    pub fn from_parts(ids: Vec<u64>, forgotten_through: u64) -> Option<Self> {
        let ascends = ids.is_sorted_by(|one, next| one < next) && ids.first().is_none_or(|&id| id > forgotten_through);
        (ascends && ids.len() <= MAX).then(|| Self { ids: ids.into(), forgotten_through })
    }

    /// Returns the remembered ids, ascending.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u64> + DoubleEndedIterator {
        self.ids.iter().copied()
    }

    /// Returns the largest id that is no longer remembered.
    pub fn forgotten_through(&self) -> u64 {
        self.forgotten_through
    }

    /// Adds an id that is larger than all before it.
    pub fn push(&mut self, id: u64) {
        debug_assert!(self.ids.back().is_none_or(|&newest| id > newest), "ids ascend");
        if self.ids.len() == MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            self.forgotten_through = oldest;
        }
        self.ids.push_back(id);
    }

    /// Returns whether the id was pushed and is still remembered.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Returns whether the id may have been pushed. Errs, towards `true`, only for ids no larger than a forgotten one.
    pub fn may_have_had(&self, id: u64) -> bool {
        id <= self.forgotten_through || self.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_exact_for_the_newest_ids_and_errs_towards_true_for_older_ones() {
        let mut recent = RecentIds::default();
        (1..=MAX as u64).for_each(|number| recent.push(number * 10));
        assert!(recent.contains(10) && !recent.may_have_had(11) && !recent.contains(5) && !recent.may_have_had(5));
        (1..=2).for_each(|number| recent.push((MAX as u64 + number) * 10));
        assert!(recent.may_have_had(10) && recent.may_have_had(15));
        assert!(!recent.contains(15) && !recent.may_have_had(25));
        assert!(recent.contains(30) && recent.contains((MAX as u64 + 2) * 10) && recent.ids.len() == MAX);
    }
}
