//! Token buckets by key. A full bucket is equivalent to none and is dropped when room is needed; the number of others is
//! bounded. There are several locks, so that workers seldom wait for each other.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::token_bucket::{Bucket, Excess, Rate};
use crate::util::shrink::Shrink;

/// The most buckets that are kept, in some 13 MB. If as many keys have one that is not full, the fuller half is dropped:
/// nobody is refused because of that, and the keys that have taken the most are still limited.
pub(super) const MAX_BUCKETS: usize = 1 << 18;
/// Locks.
const SHARDS: usize = 16;
const MAX_PER_SHARD: usize = MAX_BUCKETS / SHARDS;
/// So many in one shard are not worth looking for full ones.
const FEW: usize = 64;
/// With room for more than so many a shard is worth tidying though nothing is added.
const SPACIOUS: usize = 4 * FEW;

/// The buckets of all keys, each of this rate.
pub(super) struct Buckets<K> {
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
    next_to_tidy: AtomicUsize,
}

/// The buckets under one lock.
struct Shard<K> {
    buckets: HashMap<K, Bucket>,
    /// With more than so many it is time to look for full ones.
    tidy_beyond: usize,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    /// Full buckets for all.
    pub(super) fn new(rate: Rate) -> Self {
        let shard = || Mutex::new(Shard { buckets: HashMap::new(), tidy_beyond: FEW });
        let shards = std::array::from_fn(|_| shard());
        Self { rate, hasher: RandomState::new(), shards, next_to_tidy: AtomicUsize::new(0) }
    }

    /// The rate of each.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes so many events out of a key's bucket, all or none.
    pub(super) fn take(&self, key: K, events: u64, now_millis: u64) -> Result<(), Excess> {
        let mut shard = self.shard(key);
        let left = self.rate.take(shard.get(key), events, now_millis)?;
        shard.put(key, left, &self.rate, now_millis);
        Ok(())
    }

    /// Returns whether a key's bucket has anything left; takes nothing.
    pub(super) fn check(&self, key: K, now_millis: u64) -> Result<(), Excess> {
        self.rate.take(self.shard(key).get(key), 1, now_millis).map(|_| ())
    }

    /// Takes so many events out of a key's bucket, though it may not have them.
    pub(super) fn charge(&self, key: K, events: u64, now_millis: u64) {
        let mut shard = self.shard(key);
        let left = self.rate.charge(shard.get(key), events, now_millis);
        shard.put(key, left, &self.rate, now_millis);
    }

    /// Gives back what a surge took, one shard at each call, so that it is cheap and can be called now and then.
    pub(super) fn tidy(&self, now_millis: u64) {
        let mut shard = lock(&self.shards[self.next_to_tidy.fetch_add(1, Ordering::Relaxed) % SHARDS]);
        if shard.buckets.capacity() > SPACIOUS {
            shard.tidy(&self.rate, now_millis);
        }
    }

    /// Buckets that are kept.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).buckets.len()).sum()
    }

    fn shard(&self, key: K) -> MutexGuard<'_, Shard<K>> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Copy + Eq + Hash> Shard<K> {
    fn get(&self, key: K) -> Bucket {
        self.buckets.get(&key).copied().unwrap_or_default()
    }

    fn put(&mut self, key: K, bucket: Bucket, rate: &Rate, now_millis: u64) {
        if self.buckets.insert(key, bucket).is_none() && self.buckets.len() > self.tidy_beyond {
            self.tidy(rate, now_millis);
        }
    }

    fn tidy(&mut self, rate: &Rate, now_millis: u64) {
        self.buckets.retain(|_, bucket| !rate.is_full(*bucket, now_millis));
        if self.buckets.len() >= MAX_PER_SHARD {
            self.forget_half();
        }
        // Twice as many before the next look, so that it costs each newcomer the same.
        self.tidy_beyond = (self.buckets.len() * 2).clamp(FEW, MAX_PER_SHARD - 1);
        self.buckets.shrink_if_sparse();
    }

    fn forget_half(&mut self) {
        let mut all: Vec<_> = self.buckets.values().copied().collect();
        let middle = all.len() / 2;
        let (_, median, _) = all.select_nth_unstable(middle);
        let median = *median;
        self.buckets.retain(|_, bucket| *bucket > median);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn buckets(per_second: u64, burst: u64) -> Buckets<u64> {
        Buckets::new(Rate { per_second, burst })
    }

    fn room(buckets: &Buckets<u64>) -> usize {
        buckets.shards.iter().map(|shard| lock(shard).buckets.capacity()).sum()
    }

    #[test]
    fn full_buckets_are_forgotten_when_room_is_wanted() {
        let buckets = buckets(1000, 10);
        for second in 0..200 {
            for key in 0..500 {
                buckets.take(second * 500 + key, 1, second * 1000).unwrap();
            }
        }
        // Those of a second are full in the next; twice as many are kept, and what is not worth a look.
        assert!(buckets.len() <= 2 * 500 + SHARDS * (FEW + 1), "{}", buckets.len());
    }

    #[test]
    fn the_bound_holds_and_who_took_the_most_is_still_held_back() {
        let buckets = buckets(1, 1000);
        let (greedy, owing) = (u64::MAX, u64::MAX - 1);
        buckets.take(greedy, 1000, 0).unwrap();
        buckets.charge(owing, 5000, 0);
        for key in 0..2 * MAX_BUCKETS as u64 {
            buckets.take(key, 1 + key % 7, 0).unwrap();
            if key % 4096 == 0 {
                assert!(buckets.len() <= MAX_BUCKETS);
            }
        }
        assert_eq!(buckets.check(greedy, 0), Err(Excess::ForNow(1)));
        assert_eq!(buckets.check(owing, 0), Err(Excess::ForNow(4001)));
    }

    #[test]
    fn a_surge_leaves_no_room_behind() {
        let buckets = buckets(1000, 10);
        (0..100_000).for_each(|key| buckets.charge(key, 5, 0));
        assert!(buckets.len() == 100_000 && room(&buckets) >= 100_000);
        (0..SHARDS).for_each(|_| buckets.tidy(4));
        assert_eq!(buckets.len(), 100_000, "they are not full yet");
        (0..SHARDS).for_each(|_| buckets.tidy(5));
        assert_eq!(buckets.len(), 0);
        assert!(room(&buckets) <= SHARDS * SPACIOUS, "room for {}", room(&buckets));
    }

    #[test]
    fn what_many_threads_take_together_is_no_more_than_there_is() {
        let buckets = buckets(1, 1000);
        let take = || (0..1000).filter(|_| buckets.take(1, 1, 0).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        /// Against buckets that are never forgotten.
        #[test]
        fn what_is_forgotten_makes_no_difference(
            acts in prop::collection::vec((0..3000_u64, 1..4_u64, 0..2_u64, 0..4_u8), 0..3000),
        ) {
            let (rate, mut now, mut model) = (Rate { per_second: 3, burst: 5 }, 0, BTreeMap::<_, Bucket>::new());
            let buckets = Buckets::new(rate);
            for (key, events, millis, act) in acts {
                now += millis;
                let bucket = model.entry(key).or_default();
                match act {
                    0 => {
                        *bucket = rate.charge(*bucket, events, now);
                        buckets.charge(key, events, now);
                    }
                    1 => prop_assert_eq!(buckets.check(key, now), rate.take(*bucket, 1, now).map(|_| ())),
                    2 => buckets.tidy(now),
                    _ => {
                        let taken = rate.take(*bucket, events, now);
                        *bucket = taken.unwrap_or(*bucket);
                        prop_assert_eq!(buckets.take(key, events, now), taken.map(|_| ()));
                    }
                }
            }
        }
    }
}
