//! How many streams each subject has open, over all workers. A [`Permit`] is given back by being dropped: whichever way a
//! stream ends, it can't be forgotten.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::util::shrink::Shrink;

/// See the module's page. As large as there are subjects with an open stream, which `--max-subscribers` bounds.
pub struct StreamLimiter {
    max: usize,
    taken: Mutex<HashMap<u64, u32>>,
}

impl StreamLimiter {
    /// So many for each subject.
    pub fn new(max: usize) -> Self {
        Self { max, taken: Mutex::default() }
    }

    /// A place for a stream of this subject, unless it has as many as it may.
    pub fn take(self: &Arc<Self>, subject: u64) -> Option<Permit> {
        let mut taken = self.lock();
        let count = taken.entry(subject).or_insert(0);
        if *count as usize >= self.max {
            return None;
        }
        *count += 1;
        Some(Permit { of: Arc::clone(self), subject })
    }

    /// Subjects that have a stream.
    pub fn subjects(&self) -> usize {
        self.lock().len()
    }

    fn release(&self, subject: u64) {
        let mut taken = self.lock();
        let Some(count) = taken.get_mut(&subject) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        taken.remove(&subject);
        taken.shrink_if_sparse();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's.
pub struct Permit {
    of: Arc<StreamLimiter>,
    subject: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.release(self.subject);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// The places of one worker's subscribers, beside their slab: 16 bytes for each, none where nobody's streams are counted.
#[derive(Debug, Default)]
pub struct Permits(Vec<Option<Permit>>);

impl Permits {
    /// A subscriber has this place, if its streams are counted.
    pub fn put(&mut self, key: u32, place: Option<Permit>) {
        let (Some(place), index) = (place, key as usize) else { return };
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(place);
    }

    /// Releases the permit of a subscriber that has left.
    pub fn remove(&mut self, key: u32) {
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
    fn nobody_costs_nothing() {
        let mut list = Permits::default();
        list.put(1_000_000, None);
        list.remove(7);
        assert_eq!(list.0.capacity(), 0);
        assert_eq!(size_of::<Option<Permit>>(), 16);
    }

    #[test]
    fn a_crowd_of_subjects_leaves_no_room_behind() {
        let (places, mut list) = (Arc::new(StreamLimiter::new(1)), Permits::default());
        (0..100_000).for_each(|key| list.put(key, places.take(key.into())));
        assert_eq!(places.subjects(), 100_000);
        assert!((0..100_000).all(|subject| places.take(subject).is_none()));
        (0..100_000).for_each(|key| list.remove(key));
        assert_eq!(places.subjects(), 0);
        assert!(places.lock().capacity() <= 128);
    }

    #[test]
    fn permits_return_their_memory_after_a_surge() {
        let (limiter, mut permits) = (Arc::new(StreamLimiter::new(1)), Permits::default());
        (0..100_000).for_each(|key| permits.put(key, limiter.take(key.into())));
        (100..100_000).for_each(|key| permits.remove(key));
        assert_eq!(limiter.subjects(), 100);
        assert!(permits.0.capacity() <= 800, "room for {}", permits.0.capacity());
        (0..100).for_each(|key| permits.remove(key));
        assert!(permits.0.is_empty() && permits.0.capacity() <= 32, "room for {}", permits.0.capacity());
    }

    #[test]
    fn places_are_counted_over_all_threads() {
        let places = Arc::new(StreamLimiter::new(10));
        let take = || std::iter::repeat_with(|| places.take(7)).take(8).flatten().collect::<Vec<_>>();
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((held.len(), places.subjects()), (10, 1));
        drop(held);
        assert_eq!(places.subjects(), 0);
    }

    proptest! {
        /// Against counting those who are seated.
        #[test]
        fn a_subject_has_as_many_as_it_may(
            max in 1..4_usize,
            acts in prop::collection::vec((0..12_u32, 0..3_u64, any::<bool>()), 0..200),
        ) {
            let (places, mut list) = (Arc::new(StreamLimiter::new(max)), Permits::default());
            let mut model = std::collections::BTreeMap::new();
            for (key, subject, comes) in acts {
                if !comes {
                    list.remove(key);
                    model.remove(&key);
                } else if !model.contains_key(&key) {
                    let place = places.take(subject);
                    let has_place = model.values().filter(|&&other| other == subject).count() < max;
                    prop_assert_eq!(place.is_some(), has_place);
                    list.put(key, place);
                    has_place.then(|| model.insert(key, subject));
                }
                let subjects: std::collections::BTreeSet<_> = model.values().collect();
                prop_assert_eq!(places.subjects(), subjects.len());
            }
        }
    }
}
