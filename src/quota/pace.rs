//! The token buckets of all publishers. A full bucket is as good as none and is forgotten when room is wanted; of those that
//! are not full there is a bound. Several locks, so that workers seldom wait for each other.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Excess, Rate};
use crate::auth::Holder;

/// At most so many buckets are kept, in some 13 MB. If so many publishers have one that is not full, the fuller half is
/// forgotten: nobody is refused for it, and who has taken the most is still held back.
const MAX_BUCKETS: usize = 1 << 18;
/// Locks.
const SHELVES: usize = 16;
const MAX_PER_SHELF: usize = MAX_BUCKETS / SHELVES;
/// So many on one shelf are not worth looking for full ones.
const FEW: usize = 64;

/// See the module's page.
pub struct Pace {
    rate: Rate,
    shelves: [Mutex<Shelf>; SHELVES],
}

/// The buckets under one lock.
struct Shelf {
    buckets: HashMap<Holder, Bucket>,
    /// With more than so many it is time to look for full ones.
    tidy_beyond: usize,
}

impl Pace {
    /// A bucket of this kind for everybody.
    pub fn new(rate: Rate) -> Self {
        let shelf = || Mutex::new(Shelf { buckets: HashMap::new(), tidy_beyond: FEW });
        Self { rate, shelves: std::array::from_fn(|_| shelf()) }
    }

    /// Events that may be published at once.
    pub fn burst(&self) -> u64 {
        self.rate.burst
    }

    /// Checks that a holder has an event left, and takes none.
    pub fn check(&self, holder: Holder, now_millis: u64) -> Result<(), Excess> {
        let shelf = lock(&self.shelves[shelf_of(holder)]);
        let bucket = shelf.buckets.get(&holder).copied().unwrap_or_default();
        self.rate.take(bucket, 1, now_millis).map(|_| ())
    }

    /// Takes so many events out of a holder's bucket, all or none.
    pub fn take(&self, holder: Holder, events: usize, now_millis: u64) -> Result<(), Excess> {
        let mut shelf = lock(&self.shelves[shelf_of(holder)]);
        let bucket = shelf.buckets.get(&holder).copied().unwrap_or_default();
        let left = self.rate.take(bucket, events as u64, now_millis)?;
        if shelf.buckets.insert(holder, left).is_none() && shelf.buckets.len() > shelf.tidy_beyond {
            shelf.tidy(&self.rate, now_millis);
        }
        Ok(())
    }

    /// Buckets that are kept.
    pub fn buckets(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(shelf).buckets.len()).sum()
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shelf_of(holder: Holder) -> usize {
    let (Holder::Subject(number) | Holder::Bearer(number)) = holder;
    number as usize % SHELVES
}

impl Shelf {
    fn tidy(&mut self, rate: &Rate, now_millis: u64) {
        self.buckets.retain(|_, bucket| !rate.is_full(*bucket, now_millis));
        if self.buckets.len() >= MAX_PER_SHELF {
            self.forget_half();
        }
        // Twice as many before the next look, so that it costs each newcomer the same.
        self.tidy_beyond = (self.buckets.len() * 2).clamp(FEW, MAX_PER_SHELF - 1);
        self.buckets.shrink_to(self.tidy_beyond + 1);
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

    fn pace(per_second: u64, burst: u64) -> Pace {
        Pace::new(Rate { per_second, burst })
    }

    #[test]
    fn each_holder_has_a_bucket_of_its_own() {
        let pace = pace(1, 1);
        for holder in [Holder::Subject(1), Holder::Subject(2), Holder::Bearer(1)] {
            assert_eq!(pace.take(holder, 1, 0), Ok(()));
            assert_eq!(pace.take(holder, 1, 0), Err(Excess::ForNow(1)));
        }
        assert_eq!(pace.buckets(), 3);
    }

    #[test]
    fn full_buckets_are_forgotten_when_room_is_wanted() {
        let pace = pace(1000, 10);
        for second in 0..200 {
            for subject in 0..500 {
                pace.take(Holder::Subject(second * 500 + subject), 1, second * 1000).unwrap();
            }
        }
        // Those of a second are full in the next; twice as many are kept, and what is not worth a look.
        assert!(pace.buckets() <= 2 * 500 + SHELVES * (FEW + 1), "{}", pace.buckets());
    }

    #[test]
    fn the_bound_holds_and_who_took_the_most_is_still_held_back() {
        let pace = pace(1, 1000);
        let greedy = Holder::Subject(u64::MAX);
        pace.take(greedy, 1000, 0).unwrap();
        for subject in 0..2 * MAX_BUCKETS as u64 {
            pace.take(Holder::Subject(subject), 1 + subject as usize % 7, 0).unwrap();
            if subject % 4096 == 0 {
                assert!(pace.buckets() <= MAX_BUCKETS);
            }
        }
        assert_eq!(pace.take(greedy, 1, 0), Err(Excess::ForNow(1)));
    }

    #[test]
    fn what_many_threads_take_together_is_no_more_than_there_is() {
        let pace = pace(1, 1000);
        let take = || (0..1000).filter(|_| pace.take(Holder::Subject(1), 1, 0).is_ok()).count();
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
            acts in prop::collection::vec((0..3000_u64, 1..4_usize, 0..2_u64), 0..3000),
        ) {
            let (rate, mut now, mut model) = (Rate { per_second: 3, burst: 5 }, 0, BTreeMap::<_, Bucket>::new());
            let pace = Pace::new(rate);
            for (subject, events, millis) in acts {
                now += millis;
                let bucket = model.entry(subject).or_default();
                prop_assert_eq!(pace.check(Holder::Subject(subject), now), rate.take(*bucket, 1, now).map(|_| ()));
                let taken = rate.take(*bucket, events as u64, now);
                *bucket = taken.unwrap_or(*bucket);
                prop_assert_eq!(pace.take(Holder::Subject(subject), events, now), taken.map(|_| ()));
            }
        }
    }
}
