//! When streams end: because their token expires, or because they reach their maximum age. A list takes four bytes per
//! subscriber, and none if no subscriber's stream ends; there is no timer. The list is scanned, in slices, only in seconds in
//! which a stream ends: a million entries take less than a millisecond.

use crate::stream::keys::SubscriberKey;
use crate::util::shrink::Shrink;

/// A second since the Unix epoch; half the bytes of a `u64` reach the year 2106.
type Second = u32;

/// The stream does not end, or ends after the year 2106.
const NEVER: Second = Second::MAX;
/// Entries that one loop iteration looks at.
const CHECKS_PER_ITERATION: usize = 1 << 16;
/// Streams that one loop iteration ends.
const ENDS_PER_ITERATION: usize = 512;

/// The seconds in which streams end, by subscriber.
#[derive(Debug)]
pub struct Expiries {
    by_key: Vec<Second>,
    /// No stream ends before this second. It may be too early: a stream that ends does not change it.
    next: Second,
    /// Where the current scan continues.
    position: Option<usize>,
}

impl Default for Expiries {
    fn default() -> Self {
        Self { by_key: Vec::new(), next: NEVER, position: None }
    }
}

impl Expiries {
    /// Sets the second in which a subscriber's stream ends, if it does.
    pub fn set(&mut self, key: SubscriberKey, expires: Option<u64>) {
        let Some(second) = expires.map(clamp).filter(|&second| second != NEVER) else { return };
        let index = key as usize;
        if index >= self.by_key.len() {
            self.by_key.resize(index + 1, NEVER);
        }
        self.by_key[index] = second;
        self.next = self.next.min(second);
    }

    /// Forgets a subscriber that has left.
    pub fn remove(&mut self, key: SubscriberKey) {
        if let Some(second) = self.by_key.get_mut(key as usize) {
            *second = NEVER;
        }
        while self.by_key.last() == Some(&NEVER) {
            self.by_key.pop();
        }
        self.by_key.shrink_if_sparse();
    }

    /// Returns the second in which a stream may end next.
    pub fn next(&self) -> Option<u64> {
        (self.next != NEVER).then(|| self.next.into())
    }

    /// Returns whether a scan is unfinished.
    pub fn is_scanning(&self) -> bool {
        self.position.is_some()
    }

    /// Continues a scan, or begins one if it is time. Removes and returns some of the subscribers whose streams end.
    pub fn take_expired(&mut self, now: u64) -> Vec<SubscriberKey> {
        let now = clamp(now).min(NEVER - 1);
        let mut expired = Vec::new();
        let begin = match self.position {
            Some(position) => position,
            None if now < self.next => return expired,
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
            expired.push(index as SubscriberKey);
            if expired.len() == ENDS_PER_ITERATION {
                self.position = Some(index + 1);
                return expired;
            }
        }
        self.position = (end < self.by_key.len()).then_some(end);
        expired
    }
}

fn clamp(second: u64) -> Second {
    Second::try_from(second).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns all expired subscribers, after as many slices as that takes.
    fn all_expired(expiries: &mut Expiries, now: u64) -> Vec<SubscriberKey> {
        let mut all = Vec::new();
        loop {
            all.extend(expiries.take_expired(now));
            if !expiries.is_scanning() {
                return all;
            }
        }
    }

    #[test]
    fn subscribers_without_expiry_take_no_memory() {
        let mut expiries = Expiries::default();
        expiries.set(1_000_000, None);
        expiries.set(1_000_000, Some(u64::MAX));
        expiries.remove(7);
        assert_eq!((expiries.by_key.capacity(), expiries.next()), (0, None));
        assert!(expiries.take_expired(u64::MAX).is_empty());
    }

    #[test]
    fn many_expire_in_slices() {
        let mut expiries = Expiries::default();
        let count = 3 * CHECKS_PER_ITERATION as u32;
        (0..count).for_each(|key| expiries.set(key, Some(if key % 100 == 0 { 50 } else { 60 })));
        assert!(expiries.take_expired(49).is_empty() && !expiries.is_scanning());
        assert!(expiries.take_expired(50).len() <= ENDS_PER_ITERATION && expiries.is_scanning());
        assert_eq!(all_expired(&mut expiries, 50).len() + ENDS_PER_ITERATION, count.div_ceil(100) as usize);
        assert_eq!(expiries.next(), Some(60));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Set(SubscriberKey, u64),
        Remove(SubscriberKey),
        Wait(u64),
    }

    proptest! {
        /// Compares with a list that is searched completely in every second.
        #[test]
        fn each_token_expires_in_its_second(
            acts in prop::collection::vec(
                prop_oneof![
                    (0..20_u32, 0..60_u64).prop_map(|(key, second)| Act::Set(key, second)),
                    (0..20_u32).prop_map(Act::Remove),
                    (1..5_u64).prop_map(Act::Wait),
                ],
                0..100,
            )
        ) {
            let (mut expiries, mut model, mut now) = (Expiries::default(), std::collections::BTreeMap::new(), 0);
            for act in acts {
                match act {
                    Act::Set(key, second) => {
                        expiries.remove(key);
                        expiries.set(key, Some(second));
                        model.insert(key, second);
                    }
                    Act::Remove(key) => {
                        expiries.remove(key);
                        model.remove(&key);
                    }
                    Act::Wait(seconds) => now += seconds,
                }
                let mut expired = all_expired(&mut expiries, now);
                expired.sort_unstable();
                let late: Vec<_> = model.iter().filter(|(_, second)| **second <= now).map(|(key, _)| *key).collect();
                late.iter().for_each(|key| { model.remove(key); });
                prop_assert_eq!(expired, late);
                prop_assert!(expiries.next().is_none_or(|next| next > now));
                prop_assert!(model.values().all(|second| expiries.next().is_some_and(|next| next <= *second)));
            }
        }
    }
}
