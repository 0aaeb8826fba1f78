//! Limits how many streams each subject has open, over all workers; a subject is a token's `sub` or a client's address. A [`Permit`] is released on drop, so that no way of ending
//! a stream can forget to release it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::util::shrink::Shrink;

/// Counts the open streams of each subject. The number of subjects with an open stream is bounded by `--max-subscribers`.
pub struct StreamLimiter {
    max: usize,
    streams: Mutex<HashMap<u64, u32>>,
}

impl StreamLimiter {
    /// Creates a limiter that allows each subject `max` streams, which must not be 0.
    pub fn new(max: usize) -> Self {
        debug_assert!(max > 0);
        Self { max, streams: Mutex::default() }
    }

    /// Returns a permit for a stream of this subject, or `None` if the subject has reached its limit.
    pub fn acquire(self: &Arc<Self>, subject: u64) -> Option<Permit> {
        let mut streams = self.lock();
        let count = streams.entry(subject).or_insert(0);
        if *count as usize >= self.max {
            return None;
        }
        *count += 1;
        Some(Permit { limiter: Arc::clone(self), subject })
    }

    /// Returns the number of subjects that have an open stream.
    pub fn subjects(&self) -> usize {
        self.lock().len()
    }

    fn release(&self, subject: u64) {
        let mut streams = self.lock();
        let Some(count) = streams.get_mut(&subject) else { return };
        debug_assert!(*count as usize <= self.max && *count > 0);
        *count -= 1;
        if *count > 0 {
            return;
        }
        streams.remove(&subject);
        streams.shrink_if_sparse();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permission for one open stream, released on drop.
pub struct Permit {
    limiter: Arc<StreamLimiter>,
    subject: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.release(self.subject);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// The permits of one stream.
#[derive(Debug, Default)]
pub struct StreamPermits {
    /// That of its token's `sub`, if streams are limited per `sub`.
    pub by_sub: Option<Permit>,
    /// That of the client's address, if a trusted proxy has reported it, and streams are limited per address.
    pub by_address: Option<Permit>,
}

/// The permits of one worker's subscribers. Takes 16 bytes per subscriber and limit, or nothing if streams are not limited.
#[derive(Debug, Default)]
pub struct Permits {
    by_sub: PermitList,
    by_address: PermitList,
}

impl Permits {
    /// Stores the permits of a subscriber.
    pub fn insert(&mut self, key: u32, permits: StreamPermits) {
        self.by_sub.insert(key, permits.by_sub);
        self.by_address.insert(key, permits.by_address);
    }

    /// Releases the permits of a subscriber.
    pub fn remove(&mut self, key: u32) {
        self.by_sub.remove(key);
        self.by_address.remove(key);
    }
}

/// Permits by their subscriber's key in the slab.
#[derive(Debug, Default)]
struct PermitList(Vec<Option<Permit>>);

impl PermitList {
    /// Stores the permit of a subscriber, if it has one.
    fn insert(&mut self, key: u32, permit: Option<Permit>) {
        let (Some(permit), index) = (permit, key as usize) else { return };
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(permit);
    }

    /// Releases the permit of a subscriber, if it has one.
    fn remove(&mut self, key: u32) {
        let Some(permit) = self.0.get_mut(key as usize) else { return };
        *permit = None;
        while let Some(None) = self.0.last() {
            self.0.pop();
        }
        self.0.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn permits_take_no_memory_if_streams_are_not_limited() {
        let mut permits = PermitList::default();
        permits.insert(1_000_000, None);
        permits.remove(7);
        assert_eq!(permits.0.capacity(), 0);
        assert_eq!(size_of::<Option<Permit>>(), 16);
    }

    #[test]
    fn the_limiter_returns_its_memory_after_a_surge() {
        let (limiter, mut permits) = (Arc::new(StreamLimiter::new(1)), PermitList::default());
        (0..100_000).for_each(|key| permits.insert(key, limiter.acquire(key.into())));
        assert_eq!(limiter.subjects(), 100_000);
        assert!((0..100_000).all(|subject| limiter.acquire(subject).is_none()));
        (0..100_000).for_each(|key| permits.remove(key));
        assert_eq!(limiter.subjects(), 0);
        assert!(limiter.lock().capacity() <= 128);
    }

    #[test]
    fn permits_return_their_memory_after_a_surge() {
        let (limiter, mut permits) = (Arc::new(StreamLimiter::new(1)), PermitList::default());
        (0..100_000).for_each(|key| permits.insert(key, limiter.acquire(key.into())));
        (100..100_000).for_each(|key| permits.remove(key));
        assert_eq!(limiter.subjects(), 100);
        assert!(permits.0.capacity() <= 800, "room for {}", permits.0.capacity());
        (0..100).for_each(|key| permits.remove(key));
        assert!(permits.0.is_empty() && permits.0.capacity() <= 32, "room for {}", permits.0.capacity());
    }

    #[test]
    fn permits_are_counted_over_all_threads() {
        let limiter = Arc::new(StreamLimiter::new(10));
        let acquire = || std::iter::repeat_with(|| limiter.acquire(7)).take(8).flatten().collect::<Vec<_>>();
        let permits: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(acquire));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((permits.len(), limiter.subjects()), (10, 1));
        drop(permits);
        assert_eq!(limiter.subjects(), 0);
    }

    proptest! {
        /// Compares with counting the subscribers that have a permit.
        #[test]
        fn a_subject_gets_permits_up_to_its_limit(
            max in 1..4_usize,
            acts in prop::collection::vec((0..12_u32, 0..3_u64, any::<bool>()), 0..200),
        ) {
            let (limiter, mut permits) = (Arc::new(StreamLimiter::new(max)), PermitList::default());
            let mut model = std::collections::BTreeMap::new();
            for (key, subject, is_added) in acts {
                if !is_added {
                    permits.remove(key);
                    model.remove(&key);
                } else if !model.contains_key(&key) {
                    let permit = limiter.acquire(subject);
                    let is_allowed = model.values().filter(|&&other| other == subject).count() < max;
                    prop_assert_eq!(permit.is_some(), is_allowed);
                    permits.insert(key, permit);
                    is_allowed.then(|| model.insert(key, subject));
                }
                let subjects: std::collections::BTreeSet<_> = model.values().collect();
                prop_assert_eq!(limiter.subjects(), subjects.len());
            }
        }
    }
}
