//! Ids against a naive oracle that remembers every id there ever was: within a run, and across crashes and set-back clocks.

use std::collections::BTreeSet;

use fastrand::Rng;
use proptest::prelude::*;

use super::high_water_mark::MARGIN;
use super::id_time::IdTime;
use super::*;

#[test]
fn only_digits_as_the_broker_writes_them_are_an_id() {
    assert_eq!(parse_id("0"), Some(0));
    assert_eq!(parse_id("18"), Some(18));
    assert_eq!(parse_id("18446744073709551615"), Some(u64::MAX));
    for bad in ["", "+1", "-1", "1.0", " 1", "0x1", "18446744073709551616", "١", "00", "0018"] {
        assert_eq!(parse_id(bad), None, "{bad}");
    }
}

#[test]
fn ids_run_ahead_of_the_clock_up_to_the_bound() {
    let mut ids = LocalSequencer::new(10);
    assert_eq!(ids.reserve(MAX_CLOCK_LEAD as usize, 1_000), Some(1_000));
    assert_eq!(ids.newest(), 1_000 + MAX_CLOCK_LEAD - 1);
    assert!(ids.has_room(1, 1_000) && !ids.has_room(2, 1_000));
    assert_eq!((ids.reserve(2, 1_000), ids.reserve(2, 1_001)), (None, Some(1_000 + MAX_CLOCK_LEAD)));
    assert!(start_id(1_001) >= ids.newest(), "a restart without a database starts beyond all of them");
}

#[test]
fn the_start_counts_as_assigned_and_smaller_ids_as_earlier() {
    let mut ids = LocalSequencer::new(MIN_ID + 10);
    assert!(ids.may_have_assigned(MIN_ID + 10) && !ids.may_have_assigned(MIN_ID + 11));
    assert_eq!(ids.assign(MIN_ID), MIN_ID + 11);
    assert!(ids.may_have_assigned(MIN_ID + 11) && !ids.may_have_assigned(MIN_ID + 9));
    let earlier = [MIN_ID - 1, MIN_ID, MIN_ID + 9, MIN_ID + 10].map(|id| ids.may_be_from_an_earlier_run(id));
    assert_eq!(earlier, [false, true, true, false]);
}

#[test]
fn a_run_continues_the_runs_before_it() {
    let now = MIN_ID + 1_000_000;
    let mut before = LocalSequencer::new(now);
    let first = before.assign(now + 10);
    let mut ids = LocalSequencer::new(now + 5_000);
    ids.continue_from(before.assigned());
    let restored = AssignedIds::from_parts(ids.assigned().runs().to_vec(), ids.assigned().recent().clone());
    assert_eq!(restored, Some(ids.assigned()));
    // Even when the newest ids of both runs are forgotten, no event has an id between the runs.
    for forget in [false, true] {
        if forget {
            ids.reserve(recent_ids::MAX + 10, now + 1_000_000).unwrap();
        }
        let known = [now, first, now + 5_000, now + 1_000, now - 1].map(|id| ids.may_have_assigned(id));
        assert_eq!(known, [true, true, true, false, false], "{forget}");
        let earlier = [now - 1, now, now + 1_000, MIN_ID - 1].map(|id| ids.may_be_from_an_earlier_run(id));
        assert_eq!(earlier, [true, false, false, false]);
    }
    let mut late = LocalSequencer::new(first);
    late.continue_from(before.assigned());
    assert!(!late.may_have_assigned(now), "its own ids would not be larger");
}

#[test]
fn the_number_of_continued_runs_is_bounded() {
    let mut ids = LocalSequencer::new(MIN_ID);
    for run in 1..=local::MAX_EARLIER_RUNS as u64 + 10 {
        let mut next = LocalSequencer::new(MIN_ID + run * 10);
        next.continue_from(ids.assigned());
        ids = next;
    }
    assert_eq!(ids.assigned().runs().len(), local::MAX_EARLIER_RUNS + 1);
    assert!(ids.may_be_from_an_earlier_run(MIN_ID) && !ids.may_be_from_an_earlier_run(MIN_ID + 100));
    assert!(!ids.may_have_assigned(MIN_ID) && ids.may_have_assigned(MIN_ID + 100));
}

#[test]
fn ids_of_another_order_are_refused() {
    let recent = |ids: &[u64]| RecentIds::from_parts(ids.to_vec(), 3);
    assert!(recent(&[4, 5]).is_some() && recent(&[3]).is_none() && recent(&[5, 5]).is_none());
    let runs = |runs: &[(u64, u64)]| {
        let runs = runs.iter().map(|&(start, newest)| Run(start, newest)).collect();
        AssignedIds::from_parts(runs, recent(&[5]).unwrap()).is_some()
    };
    assert!(runs(&[(5, 5)]) && runs(&[(1, 2), (3, 7)]));
    assert!(!runs(&[]) && !runs(&[(6, 5)]) && !runs(&[(1, 6), (6, 7)]) && !runs(&[(1, 4)]));
}

proptest! {
    /// The oracle is the set of all ids. Times jump forward and back.
    #[test]
    fn assigned_ids_ascend_and_are_known(
        start in 0..1_000_u64,
        steps in prop::collection::vec((0..400_000_u64, 1..200_usize), 0..60),
    ) {
        let (mut ids, mut all) = (LocalSequencer::new(start), BTreeSet::from([start]));
        for (now, count) in steps {
            let newest = all.last().copied().unwrap();
            let expected = if newest + count as u64 <= now + MAX_CLOCK_LEAD { Some(now.max(newest + 1)) } else { None };
            if count == 1 && expected.is_some() {
                prop_assert_eq!(Some(ids.assign(now)), expected);
            } else {
                prop_assert_eq!(ids.reserve(count, now), expected);
            }
            all.extend(expected.into_iter().flat_map(|first| first..first + count as u64));
            prop_assert!(ids.newest() <= now + MAX_CLOCK_LEAD || expected.is_none());
            // Exact, because fewer than `recent_ids::MAX` ids were assigned.
            let candidates = [now, newest, newest + 1, newest + count as u64, start, start.saturating_sub(1)];
            prop_assert!(candidates.iter().all(|id| ids.may_have_assigned(*id) == all.contains(id)));
        }
    }
}

/// A database, a machine's clocks and the ids that were assigned with both.
struct Machine {
    rng: Rng,
    unix_micros: u64,
    ceiling: u64,
    newest_record: u64,
    newest: u64,
}

impl Machine {
    /// One run, from the start to a clean close or a crash. Each id is compared with all before it.
    fn run(&mut self) {
        let mut mark = HighWaterMark::new(self.ceiling, self.newest_record);
        let (time, covered, mut elapsed) = (IdTime::default(), CoveredIds::default(), 0);
        time.advance_to(mark.ids_through(), elapsed);
        let mut ids = LocalSequencer::new(start_id(time.read(self.unix_micros, elapsed)));
        assert!(ids.newest() > self.newest);
        for _ in 0..self.rng.usize(0..30) {
            let pause = self.rng.u64(0..1_000_000);
            (elapsed, self.unix_micros) = (elapsed + pause, self.unix_micros + pause);
            if self.rng.u8(0..5) == 0 {
                self.set_clock();
            }
            let now = time.read(self.unix_micros, elapsed);
            match self.rng.bool() {
                true => self.publish(&mut ids, now),
                false => self.insert(&mut ids, now, &mut mark),
            }
            if !covered.contains(ids.newest()) && covered.request_raise() {
                mark.raise_due(self.newest).into_iter().for_each(|ceiling| self.write(&mut mark, ceiling));
            }
            covered.set(mark.covered_through());
            assert!(self.newest <= self.ceiling.max(self.newest_record), "a crash now would repeat ids");
        }
        if self.rng.bool() {
            mark.final_value(self.newest).into_iter().for_each(|ceiling| self.write(&mut mark, ceiling));
            assert_eq!(self.ceiling.max(self.newest_record), self.ceiling);
        }
    }

    fn publish(&mut self, ids: &mut LocalSequencer, now: u64) {
        if ids.has_room(1, now) {
            let id = ids.assign(now);
            assert!(id > self.newest, "{id} follows {}", self.newest);
            self.newest = id;
        }
    }

    /// Records and the mark are written in one transaction, which may fail: then the ids are lost.
    fn insert(&mut self, ids: &mut LocalSequencer, now: u64, mark: &mut HighWaterMark) {
        let count = self.rng.usize(1..1_000);
        let Some(first) = ids.reserve(count, now) else { return };
        assert!(first > self.newest, "{first} follows {}", self.newest);
        self.newest = first + count as u64 - 1;
        let ceiling = mark.raise_due(ids.newest());
        if self.rng.u8(0..4) > 0 {
            ceiling.into_iter().for_each(|ceiling| self.write(mark, ceiling));
            self.newest_record = self.newest;
        }
    }

    fn write(&mut self, mark: &mut HighWaterMark, ceiling: u64) {
        mark.set(ceiling);
        self.ceiling = ceiling;
    }

    fn set_clock(&mut self) {
        self.unix_micros = MIN_ID + self.rng.u64(0..100 * MARGIN);
    }
}

#[test]
fn ids_ascend_across_crashes_and_clocks_that_are_set_back() {
    for seed in 0..300 {
        let rng = Rng::with_seed(seed);
        let mut machine = Machine { rng, unix_micros: MIN_ID, ceiling: 0, newest_record: 0, newest: 0 };
        for _ in 0..20 {
            machine.run();
            machine.set_clock();
        }
    }
}
