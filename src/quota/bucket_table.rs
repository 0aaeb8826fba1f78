//! A bounded table of token buckets by key. A full bucket is equivalent to none, so full ones are evicted when the table grows.
//! The table is divided into shards with a lock each, so that workers rarely wait for each other.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::token_bucket::{Bucket, Excess, Rate};
use crate::util::shrink::Shrink;

/// The maximum number of buckets, which take about 13 MB. If that many are not full, the fuller half is evicted: no client is
/// refused because of that, and the keys that have taken the most are still limited.
pub(super) const MAX_BUCKETS: usize = 1 << 18;
/// The number of shards.
const SHARDS: usize = 16;
const MAX_PER_SHARD: usize = MAX_BUCKETS / SHARDS;
/// A shard with no more buckets than this is not searched for full ones.
const MIN_SEARCHED: usize = 64;
/// A shard with more capacity than this is searched for full buckets even if none is added.
const MAX_IDLE_CAPACITY: usize = 4 * MIN_SEARCHED;

/// Token buckets of one rate, by key.
pub(super) struct BucketTable<K> {
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
    next_shard: AtomicUsize,
}

/// The buckets behind one lock.
struct Shard<K> {
    buckets: HashMap<K, Bucket>,
    /// Full buckets are evicted when there are more than this many.
    evict_above: usize,
}

impl<K: Copy + Eq + Hash> BucketTable<K> {
    /// Creates a table in which every key has a full bucket.
    pub(super) fn new(rate: Rate) -> Self {
        let shard = || Mutex::new(Shard { buckets: HashMap::new(), evict_above: MIN_SEARCHED });
        let shards = std::array::from_fn(|_| shard());
        Self { rate, hasher: RandomState::new(), shards, next_shard: AtomicUsize::new(0) }
    }

    /// Returns the rate of the buckets.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes events from a key's bucket, all or none.
    pub(super) fn take(&self, key: K, events: u64, now_millis: u64) -> Result<(), Excess> {
        let mut shard = self.shard(key);
        let left = self.rate.take(shard.get(key), events, now_millis)?;
        shard.put(key, left, &self.rate, now_millis);
        Ok(())
    }

    /// Checks that a key's bucket has at least one event left, and takes nothing.
    pub(super) fn check(&self, key: K, now_millis: u64) -> Result<(), Excess> {
        self.rate.take(self.shard(key).get(key), 1, now_millis).map(|_| ())
    }

    /// Takes events from a key's bucket, which may go into debt.
    pub(super) fn charge(&self, key: K, events: u64, now_millis: u64) {
        let mut shard = self.shard(key);
        let left = self.rate.charge(shard.get(key), events, now_millis);
        shard.put(key, left, &self.rate, now_millis);
    }

    /// Evicts the full buckets of one shard, a different one at each call, and returns their memory. Cheap; to be called
    /// periodically.
    pub(super) fn evict_full(&self, now_millis: u64) {
        let mut shard = lock(&self.shards[self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS]);
        if shard.buckets.capacity() > MAX_IDLE_CAPACITY {
            shard.evict_full(&self.rate, now_millis);
        }
    }

    /// Returns the number of buckets.
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
        if self.buckets.insert(key, bucket).is_none() && self.buckets.len() > self.evict_above {
            self.evict_full(rate, now_millis);
        }
        debug_assert!(self.buckets.len() < MAX_PER_SHARD);
    }

    fn evict_full(&mut self, rate: &Rate, now_millis: u64) {
        self.buckets.retain(|_, bucket| !rate.is_full(*bucket, now_millis));
        if self.buckets.len() >= MAX_PER_SHARD {
            self.evict_fuller_half();
        }
        // The next search is due when the number has doubled, so that its amortized cost per new bucket is constant.
        self.evict_above = (self.buckets.len() * 2).clamp(MIN_SEARCHED, MAX_PER_SHARD - 1);
        self.buckets.shrink_if_sparse();
    }

    fn evict_fuller_half(&mut self) {
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

    fn buckets(per_second: u64, burst: u64) -> BucketTable<u64> {
        BucketTable::new(Rate { per_second, burst })
    }

    fn capacity(buckets: &BucketTable<u64>) -> usize {
        buckets.shards.iter().map(|shard| lock(shard).buckets.capacity()).sum()
    }

    #[test]
    fn full_buckets_are_evicted_as_the_table_grows() {
        let buckets = buckets(1000, 10);
        for second in 0..200 {
            for key in 0..500 {
                buckets.take(second * 500 + key, 1, second * 1000).unwrap();
            }
        }
        // The buckets of one second are full in the next. Up to twice as many remain, plus those that are never searched.
        assert!(buckets.len() <= 2 * 500 + SHARDS * (MIN_SEARCHED + 1), "{}", buckets.len());
    }

    #[test]
    fn the_table_is_bounded_and_the_greediest_keys_are_still_limited() {
        let buckets = buckets(1, 1000);
        let (greedy, in_debt) = (u64::MAX, u64::MAX - 1);
        buckets.take(greedy, 1000, 0).unwrap();
        buckets.charge(in_debt, 5000, 0);
        for key in 0..2 * MAX_BUCKETS as u64 {
            buckets.take(key, 1 + key % 7, 0).unwrap();
            if key % 4096 == 0 {
                assert!(buckets.len() <= MAX_BUCKETS);
            }
        }
        assert_eq!(buckets.check(greedy, 0), Err(Excess::RetryAfter(1)));
        assert_eq!(buckets.check(in_debt, 0), Err(Excess::RetryAfter(4001)));
    }

    #[test]
    fn memory_is_returned_after_a_surge() {
        let buckets = buckets(1000, 10);
        (0..100_000).for_each(|key| buckets.charge(key, 5, 0));
        assert!(buckets.len() == 100_000 && capacity(&buckets) >= 100_000);
        (0..SHARDS).for_each(|_| buckets.evict_full(4));
        assert_eq!(buckets.len(), 100_000, "they are not full yet");
        (0..SHARDS).for_each(|_| buckets.evict_full(5));
        assert_eq!(buckets.len(), 0);
        assert!(capacity(&buckets) <= SHARDS * MAX_IDLE_CAPACITY, "room for {}", capacity(&buckets));
    }

    #[test]
    fn threads_together_take_no_more_than_a_bucket_holds() {
        let buckets = buckets(1, 1000);
        let take = || (0..1000).filter(|_| buckets.take(1, 1, 0).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        /// Compares with buckets that are never evicted.
        #[test]
        fn evicting_full_buckets_makes_no_difference(
            acts in prop::collection::vec((0..3000_u64, 1..4_u64, 0..2_u64, 0..4_u8), 0..3000),
        ) {
            let (rate, mut now, mut model) = (Rate { per_second: 3, burst: 5 }, 0, BTreeMap::<_, Bucket>::new());
            let buckets = BucketTable::new(rate);
            for (key, events, millis, act) in acts {
                now += millis;
                let bucket = model.entry(key).or_default();
                match act {
                    0 => {
                        *bucket = rate.charge(*bucket, events, now);
                        buckets.charge(key, events, now);
                    }
                    1 => prop_assert_eq!(buckets.check(key, now), rate.take(*bucket, 1, now).map(|_| ())),
                    2 => buckets.evict_full(now),
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
