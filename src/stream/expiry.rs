//! When the tokens of streams expire: four bytes per subscriber in a list beside the slab, none
//! where nobody has a token, and no timer. The list is walked, in slices, only in seconds in which
//! somebody's token expires; a million entries take less than a millisecond.

use crate::stream::group::SubscriberKey;
use crate::util::shrink::Shrink;

/// A second since the Unix epoch; half the bytes of a `u64` reach the year 2106.
type Second = u32;

/// No token, or one that outlives the year 2106.
const NEVER: Second = Second::MAX;
/// So many entries are looked at in one turn.
const CHECKS_PER_ITERATION: usize = 1 << 16;
/// So many streams end in one turn.
const ENDS_PER_ITERATION: usize = 512;

/// See the module's page.
#[derive(Debug)]
pub struct Expiries {
    by_key: Vec<Second>,
    /// Nobody's token expires before; nobody need have one that expires right then.
    next: Second,
    /// Where the walk under way goes on.
    at: Option<usize>,
}

impl Expiries {
    /// Nobody's.
    pub fn new() -> Self {
        Self { by_key: Vec::new(), next: NEVER, at: None }
    }

    /// A subscriber's token expires then.
    pub fn put(&mut self, key: SubscriberKey, expires: Option<u64>) {
        let Some(second) = expires.map(clamp).filter(|&second| second != NEVER) else { return };
        let index = key as usize;
        if index >= self.by_key.len() {
            self.by_key.resize(index + 1, NEVER);
        }
        self.by_key[index] = second;
        self.next = self.next.min(second);
    }

    /// A subscriber has left.
    pub fn remove(&mut self, key: SubscriberKey) {
        if let Some(second) = self.by_key.get_mut(key as usize) {
            *second = NEVER;
        }
        while self.by_key.last() == Some(&NEVER) {
            self.by_key.pop();
        }
        self.by_key.shrink_if_sparse();
    }

    /// The second in which it is worth looking again.
    pub fn next(&self) -> Option<u64> {
        (self.next != NEVER).then(|| self.next.into())
    }

    /// Whether a walk is under way.
    pub fn is_walking(&self) -> bool {
        self.at.is_some()
    }

    /// Goes on with a walk, or begins one if it is time: some of those whose tokens have expired. They
    /// are no longer noted here.
    pub fn take_due(&mut self, now: u64) -> Vec<SubscriberKey> {
        let now = clamp(now).min(NEVER - 1);
        let mut due = Vec::new();
        let begin = match self.at {
            Some(at) => at,
            None if now < self.next => return due,
            None => {
                self.next = NEVER;
                0
            }
        };
        let end = self.by_key.len().min(begin + CHECKS_PER_ITERATION);
        for index in begin..end {
            let second = self.by_key[index];
            if second > now {
                self.next = self.next.min(second);
                continue;
            }
            self.by_key[index] = NEVER;
            due.push(index as SubscriberKey);
            if due.len() == ENDS_PER_ITERATION {
                self.at = Some(index + 1);
                return due;
            }
        }
        self.at = (end < self.by_key.len()).then_some(end);
        due
    }
}

fn clamp(second: u64) -> Second {
    Second::try_from(second).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that is due, however many turns it takes.
    fn all_due(expiries: &mut Expiries, now: u64) -> Vec<SubscriberKey> {
        let mut all = Vec::new();
        loop {
            all.extend(expiries.take_due(now));
            if !expiries.is_walking() {
                return all;
            }
        }
    }

    #[test]
    fn nobody_costs_nothing() {
        let mut expiries = Expiries::new();
        expiries.put(1_000_000, None);
        expiries.put(1_000_000, Some(u64::MAX));
        expiries.remove(7);
        assert_eq!((expiries.by_key.capacity(), expiries.next()), (0, None));
        assert!(expiries.take_due(u64::MAX).is_empty());
    }

    #[test]
    fn many_at_once_end_in_slices() {
        let mut expiries = Expiries::new();
        let count = 3 * CHECKS_PER_ITERATION as u32;
        (0..count).for_each(|key| expiries.put(key, Some(if key % 100 == 0 { 50 } else { 60 })));
        assert!(expiries.take_due(49).is_empty() && !expiries.is_walking());
        assert!(expiries.take_due(50).len() <= ENDS_PER_ITERATION && expiries.is_walking());
        assert_eq!(all_due(&mut expiries, 50).len() + ENDS_PER_ITERATION, count.div_ceil(100) as usize);
        assert_eq!(expiries.next(), Some(60));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(SubscriberKey, u64),
        Remove(SubscriberKey),
        Wait(u64),
    }

    proptest! {
        /// Against a list that is searched from end to end in every second.
        #[test]
        fn each_ends_in_its_second(
            acts in prop::collection::vec(
                prop_oneof![
                    (0..20_u32, 0..60_u64).prop_map(|(key, second)| Act::Put(key, second)),
                    (0..20_u32).prop_map(Act::Remove),
                    (1..5_u64).prop_map(Act::Wait),
                ],
                0..100,
            )
        ) {
            let (mut expiries, mut model, mut now) = (Expiries::new(), std::collections::BTreeMap::new(), 0);
            for act in acts {
                match act {
                    Act::Put(key, second) => {
                        expiries.remove(key);
                        expiries.put(key, Some(second));
                        model.insert(key, second);
                    }
                    Act::Remove(key) => {
                        expiries.remove(key);
                        model.remove(&key);
                    }
                    Act::Wait(seconds) => now += seconds,
                }
                let mut due = all_due(&mut expiries, now);
                due.sort_unstable();
                let late: Vec<_> = model.iter().filter(|(_, second)| **second <= now).map(|(key, _)| *key).collect();
                late.iter().for_each(|key| { model.remove(key); });
                prop_assert_eq!(due, late);
                prop_assert!(expiries.next().is_none_or(|next| next > now));
                prop_assert!(model.values().all(|second| expiries.next().is_some_and(|next| next <= *second)));
            }
        }
    }
}
