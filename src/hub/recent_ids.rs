//! The newest of an ascending series of ids, so that an id can be told from a number that only looks like one.
//! Independent of what the ids belong to.

use std::collections::VecDeque;

/// The number of ids that are remembered: 512 KiB of them.
pub(super) const MAX: usize = 65_536;

/// A bounded memory of ids that were pushed in ascending order.
#[derive(Debug, Default)]
pub(super) struct RecentIds {
    ids: VecDeque<u64>,
    /// The largest id that was pushed and is no longer remembered.
    forgotten_through: u64,
}

impl RecentIds {
    /// Remembers an id that is larger than all before it.
    pub fn push(&mut self, id: u64) {
        if self.ids.len() == MAX
            && let Some(oldest) = self.ids.pop_front()
        {
            self.forgotten_through = oldest;
        }
        self.ids.push_back(id);
    }

    /// Returns whether the id was pushed and is still remembered.
    pub fn has(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Returns whether the id may have been pushed. Wrong only for ids that are no larger than a forgotten one.
    pub fn may_have_had(&self, id: u64) -> bool {
        id <= self.forgotten_through || self.has(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_told_exactly_and_older_ones_are_in_doubt() {
        let mut recent = RecentIds::default();
        (1..=MAX as u64).for_each(|number| recent.push(number * 10));
        assert!(recent.has(10) && !recent.may_have_had(11) && !recent.has(5) && !recent.may_have_had(5));
        (1..=2).for_each(|number| recent.push((MAX as u64 + number) * 10));
        assert!(recent.may_have_had(10) && recent.may_have_had(15) && !recent.has(15) && !recent.may_have_had(25));
        assert!(recent.has(30) && recent.has((MAX as u64 + 2) * 10) && recent.ids.len() == MAX);
    }
}
