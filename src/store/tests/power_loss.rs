//! The store on a simulated disk that loses power, fails and runs full at any moment: a record whose insert was completed
//! with an id is never lost.

use std::collections::BTreeSet;
use std::time::Instant;

use esker_disk::{Disk, Faults, SpaceError};
use fastrand::Rng;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::records::retention::Retention;

/// The names of all records.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// The maximum number of concurrent inserts.
const BATCH: usize = 12;

/// A disk, and what must be on it according to the replies to inserts.
struct Oracle {
    disk: Disk,
    rng: Rng,
    /// Every record that was published, completed or read: its name and its data.
    known: BTreeMap<u64, (&'static str, String)>,
    /// The data of all inserts, each of which is unique.
    inserted: BTreeSet<String>,
    /// The errors of refused inserts.
    refused: Vec<StoreError>,
    /// Which versions are kept.
    retention: Retention,
}

impl Oracle {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        disk.on_sleep(std::thread::sleep);
        let (rng, retention) = (Rng::with_seed(seed), Retention::default());
        Self { disk, rng, known: BTreeMap::new(), inserted: BTreeSet::new(), refused: Vec::new(), retention }
    }

    fn location(&self) -> Location {
        Location::Vfs { name: self.disk.vfs(), free_bytes: |_| None }
    }

    /// Opens the store, checks its contents, and inserts for this many rounds or until the disk crashes. Returns an error if
    /// it crashed while being opened.
    fn run(&mut self, rounds: usize, faults: impl FnOnce(&mut Faults)) -> Result<(), OpenError> {
        let rig = self.open()?;
        self.disk.faults(faults);
        let crashes = self.disk.crashes();
        for _ in 0..rounds {
            self.insert(&rig);
            if self.disk.crashes() > crashes {
                break;
            }
        }
        rig.store.close();
        Ok(())
    }

    fn open(&mut self) -> Result<Rig, OpenError> {
        let crashes = self.disk.crashes();
        let tuning = Tuning {
            full_disk_retry: Duration::from_millis(1),
            retention: self.retention,
            prune_slice: 5,
            prune_rest: 3,
            free_pages: 4,
            ..small_limits()
        };
        let mut opening = Store::open_tuned(&self.location(), tuning)?;
        let (latest, ids_through) = (std::mem::take(&mut opening.latest), opening.ids_through);
        let ids = Arc::new(Ids { newest: ids_through.into(), ..Ids::default() });
        let rig = Rig { store: opening.start(Box::new(Arc::clone(&ids)))?, ids, latest, ids_through };
        self.check_contents(&rig, crashes);
        Ok(rig)
    }

    /// Checks that all known records exist and that all existing ones were inserted. From now on the existing ones are known.
    fn check_contents(&mut self, rig: &Rig, crashes: u64) {
        let histories: Option<Vec<_>> = NAMES.iter().map(|name| history(rig, name)).collect();
        let Some(histories) = histories.filter(|_| self.disk.crashes() == crashes) else {
            // Indexing may continue in the meantime, and a planned crash may happen during it.
            return assert!(self.disk.crashes() > crashes, "a history can't be read");
        };
        let found: BTreeMap<_, _> = histories.into_iter().flatten().collect();
        for (id, record) in &self.known {
            let is_kept = found.get(id) == Some(record);
            assert!(is_kept || self.may_be_removed(*id, record.0), "record {id} was completed or read before");
        }
        for (id, (name, data)) in &found {
            assert!(self.inserted.contains(data), "record {id} is {data} of {name}, which was not inserted");
        }
        let distinct: BTreeSet<_> = found.values().map(|(_, data)| data).collect();
        assert_eq!(distinct.len(), found.len(), "every record was inserted once");
        let newest: BTreeMap<_, _> = found.iter().map(|(id, (name, data))| (*name, (*id, data.as_str()))).collect();
        let latest = rig.latest.iter().map(|record| (&*record.name, (record.id, &*record.data))).collect();
        assert_eq!(newest, latest);
        assert!(found.keys().all(|id| *id <= rig.ids_through));
        self.known = found;
    }

    /// Returns whether the retention allows to remove a known record. Others may be newer, but none that is known was lost.
    fn may_be_removed(&self, id: u64, name: &str) -> bool {
        let newer = self.known.range(id + 1..).filter(|(_, record)| record.0 == name).count() as u64;
        self.retention.versions.is_some_and(|versions| newer >= versions.get())
    }

    fn insert(&mut self, rig: &Rig) {
        let batch: Vec<_> = (0..self.rng.usize(1..=BATCH))
            .map(|_| {
                let data = format!("\"{}{}\"", self.inserted.len(), "x".repeat(self.rng.usize(..2000)));
                self.inserted.insert(data.clone());
                (NAMES[self.rng.usize(..NAMES.len())], data)
            })
            .collect();
        let (sender, replies) = mpsc::channel();
        for (name, data) in batch {
            let sender = sender.clone();
            let kept = data.clone();
            rig.store.insert(plain(name, data), move |result| sender.send((name, kept, result)).unwrap());
        }
        drop(sender);
        for (name, data, result) in replies {
            match result {
                Ok(outcome) => drop(self.known.insert(stored_id(outcome), (name, data))),
                Err(error) => self.refused.push(error),
            }
        }
        for record in rig.published() {
            assert!(self.known.contains_key(&record.id), "{} was published and not completed", record.id);
        }
    }
}

/// Returns all versions of a name, or `None` if they can't be read.
fn history(rig: &Rig, name: &'static str) -> Option<Vec<(u64, (&'static str, String))>> {
    let (mut versions, mut after) = (Vec::new(), Some(0));
    while let Some(id) = after {
        let page = rig.read_history(name, id, 50).ok()?;
        // A crash may revert pages of the database while they are read. The result may then not even be JSON.
        let entries: BTreeMap<&str, &serde_json::value::RawValue> = serde_json::from_str(&page.body).ok()?;
        let parse = |(key, data): (&str, &serde_json::value::RawValue)| {
            let id = key.strip_prefix(name).and_then(|rest| rest.strip_prefix("_v_")).unwrap();
            (id.parse().unwrap(), (name, data.get().to_owned()))
        };
        versions.extend(entries.into_iter().map(parse));
        after = page.next;
    }
    Some(versions)
}

#[test]
fn completed_inserts_survive_crashes_at_any_moment() {
    for seed in 0..20 {
        let mut oracle = Oracle::new(seed);
        let mut unopened = 0;
        for _ in 0..12 {
            let changes = oracle.rng.u64(..400);
            match oracle.rng.u8(..4) {
                0 => oracle.disk.kill_after(changes),
                _ => oracle.disk.cut_power_after(changes),
            }
            let crashes = oracle.disk.crashes();
            while oracle.disk.crashes() == crashes {
                unopened += usize::from(oracle.run(20, |_| ()).is_err());
            }
        }
        assert!(!oracle.known.is_empty() && unopened < 12, "seed {seed}: {unopened} of 12 crashed while being opened");
        oracle.run(1, |_| ()).unwrap();
    }
}

#[test]
fn only_superseded_records_are_removed_whatever_the_disk_does() {
    let (mut inserted, mut kept) = (0, 0);
    for seed in 0..12 {
        let mut oracle = Oracle::new(seed);
        oracle.retention.versions = std::num::NonZeroU64::new(1 + seed % 3);
        for run in 0..8 {
            let crashes = oracle.disk.crashes();
            match run % 4 {
                0 => oracle.disk.kill_after(oracle.rng.u64(..600)),
                1 => oracle.disk.cut_power_after(oracle.rng.u64(..600)),
                _ => {}
            }
            let rates = if run % 4 == 2 { (0.002, 0.01) } else { (0.0, 0.0) };
            // It may be killed while being opened.
            while oracle.run(20, |faults| (faults.writes_fail, faults.syncs_fail) = rates).is_ok()
                && run % 4 < 2
                && oracle.disk.crashes() == crashes
            {}
            oracle.disk.faults(|faults| *faults = Faults::default());
        }
        oracle.run(1, |_| ()).unwrap();
        (inserted, kept) = (inserted + oracle.inserted.len(), kept + oracle.known.len());
    }
    assert!(kept < inserted / 2, "{kept} of {inserted} are left");
}

#[test]
fn completed_inserts_survive_failing_writes_and_fsyncs() {
    let mut failed = 0;
    for seed in 0..20 {
        let mut oracle = Oracle::new(seed);
        for run in 0..10 {
            let rates = (oracle.rng.f64() * 0.02, oracle.rng.f64() * 0.05);
            oracle.run(20, |faults| (faults.writes_fail, faults.syncs_fail) = rates).unwrap();
            oracle.disk.faults(|faults| *faults = Faults::default());
            if run % 2 == 0 {
                oracle.disk.cut_power();
            }
        }
        failed += oracle.refused.iter().filter(|error| **error == StoreError::Failed).count();
        oracle.run(1, |_| ()).unwrap();
    }
    assert!(failed > 0);
}

/// Fills the disk three times, and frees space each time.
fn fill_and_free(seed: u64, space_error: SpaceError) {
    let mut oracle = Oracle::new(seed);
    oracle.disk.faults(|faults| faults.space_error = space_error);
    oracle.run(3, |_| ()).unwrap();
    let rig = oracle.open().unwrap();
    for _ in 0..3 {
        let capacity = oracle.disk.used() + oracle.rng.u64(..200_000);
        oracle.disk.faults(|faults| faults.capacity = Some(capacity));
        oracle.refused.clear();
        while oracle.refused.is_empty() {
            oracle.insert(&rig);
        }
        let is_full = |error: &StoreError| matches!(error, StoreError::Full(_));
        assert!(oracle.refused.iter().all(is_full), "seed {seed}, {space_error:?}: {:?}", rig.store.status());
        oracle.disk.faults(|faults| faults.capacity = None);
        let (begin, before) = (Instant::now(), oracle.known.len());
        while oracle.known.len() == before {
            assert!(begin.elapsed() < Duration::from_secs(30), "seed {seed}: {:?}", rig.store.status());
            std::thread::sleep(Duration::from_millis(5));
            oracle.insert(&rig);
        }
    }
    oracle.disk.cut_power();
    rig.store.close();
    oracle.run(1, |_| ()).unwrap();
}

#[test]
fn completed_inserts_survive_a_full_disk_and_inserts_resume_when_space_is_freed() {
    // In parallel, as they mostly wait.
    std::thread::scope(|scope| {
        for seed in 0..10 {
            for space_error in [SpaceError::Disk, SpaceError::Quota, SpaceError::FileSize] {
                scope.spawn(move || fill_and_free(seed, space_error));
            }
        }
    });
}

/// Opens the store with faults of every kind, and then removes the faults.
fn open_with_faults(oracle: &mut Oracle) -> Option<OpenError> {
    let rates: [f64; 5] = std::array::from_fn(|_| oracle.rng.f64() * 0.1);
    oracle.disk.faults(|faults| {
        [faults.reads_fail, faults.writes_fail, faults.syncs_fail, faults.truncates_fail, faults.opens_fail] = rates;
    });
    let opened = Store::open_tuned(&oracle.location(), small_limits());
    oracle.disk.faults(|faults| *faults = Faults::default());
    opened.err()
}

#[test]
fn a_failed_opening_loses_nothing() {
    let mut failed = 0;
    for seed in 0..20 {
        let mut oracle = Oracle::new(seed);
        for _ in 0..10 {
            let (changes, crashes) = (oracle.rng.u64(..400), oracle.disk.crashes());
            oracle.disk.kill_after(changes);
            while oracle.disk.crashes() == crashes {
                // It may be killed while being opened.
                let _ = oracle.run(20, |_| ());
            }
            failed += (0..3).filter_map(|_| open_with_faults(&mut oracle)).count();
            if oracle.rng.bool() {
                oracle.disk.cut_power();
            }
            oracle.run(1, |_| ()).unwrap();
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn an_opening_on_a_full_disk_reports_that_and_loses_nothing() {
    for seed in 0..20 {
        let mut oracle = Oracle::new(seed);
        oracle.disk.kill_after(100);
        oracle.run(100, |_| ()).unwrap();
        for more in (0..60_000).step_by(3_000) {
            let capacity = oracle.disk.used() + more;
            oracle.disk.faults(|faults| faults.capacity = Some(capacity));
            if let Err(error) = Store::open_tuned(&oracle.location(), small_limits()) {
                assert!(matches!(error.cause, error::Cause::Full(_)), "seed {seed}: {error}");
            }
        }
        oracle.disk.faults(|faults| faults.capacity = None);
        oracle.run(1, |_| ()).unwrap();
    }
}

#[test]
fn the_free_space_of_the_disk_is_measured() {
    let mut oracle = Oracle::new(0);
    let place = Location::Vfs { name: oracle.disk.vfs(), free_bytes: esker_disk::free_bytes };
    oracle.disk.faults(|faults| faults.capacity = Some(60 << 20));
    let rig = Rig::new(&place);
    oracle.insert(&rig);
    assert!(oracle.known.is_empty() && oracle.refused.iter().all(|error| matches!(error, StoreError::Full(_))));
    assert!(matches!(rig.store.status().health, Health::Full(_)));
}

/// Runs a store without threads on a failing disk that crashes again and again. Returns all calls on the disk, and the
/// results of all inserts.
fn run_manually(seed: u64) -> (Vec<String>, Vec<Result<u64, StoreError>>) {
    let (disk, mut rng) = (Disk::new(seed), Rng::with_seed(seed));
    disk.record_calls();
    let (sender, results) = mpsc::channel();
    for _ in 0..10 {
        disk.cut_power_after(rng.u64(100..400));
        let Ok(opening) = Store::open_tuned(&Location::Vfs { name: disk.vfs(), free_bytes: |_| None }, small_limits())
        else {
            continue;
        };
        disk.faults(|faults| (faults.writes_fail, faults.syncs_fail) = (0.0005, 0.002));
        let ids = Ids { newest: opening.ids_through.into(), ..Ids::default() };
        let manual_clock = Arc::new(ManualClock::default());
        let clock = Clock::manual(Arc::clone(&manual_clock));
        let (store, mut manual) = opening.start_manual(Box::new(Arc::new(ids)), clock).unwrap();
        for _ in 0..30 {
            for _ in 0..rng.usize(..10) {
                let (sender, name) = (sender.clone(), format!("name{}", rng.u8(..50)));
                store.insert(plain(&name, "1".repeat(rng.usize(1..3000))), move |result| {
                    sender.send(result).unwrap();
                });
            }
            manual_clock.advance(rng.u64(..500_000));
            manual.step();
        }
        manual.close(&store);
        disk.faults(|faults| *faults = Faults::default());
    }
    (disk.take_calls(), results.try_iter().map(|result| result.map(stored_id)).collect())
}

#[test]
fn without_threads_a_seed_determines_all_calls_and_results() {
    for seed in 0..10 {
        let ((calls, results), (calls_again, results_again)) = (run_manually(seed), run_manually(seed));
        let differing = calls.iter().zip(&calls_again).enumerate().find(|(_, (one, other))| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!((calls.len(), results), (calls_again.len(), results_again), "seed {seed}");
    }
}

#[test]
fn after_a_failed_checkpoint_the_writer_does_not_try_another() {
    let oracle = Oracle::new(0);
    let opening = Store::open_tuned(&oracle.location(), Tuning { wal_growth: 1, ..small_limits() }).unwrap();
    let clock = Clock::manual(Arc::new(ManualClock::default()));
    let (store, mut manual) = opening.start_manual(Box::new(Arc::new(Ids::default())), clock).unwrap();
    store.insert(plain("a", "1"), |stored| assert!(stored.is_ok()));
    manual.step();
    oracle.disk.faults(|faults| faults.syncs_fail = 1.0);
    let before = oracle.disk.stats();
    manual.step();
    assert!(matches!(store.status().health, Health::Failed { why } if why.starts_with("checkpointing")));
    assert_eq!(oracle.disk.stats().failures, before.failures + 1, "the writer did not checkpoint");
}

#[test]
fn the_error_names_what_is_full() {
    for (space_error, shortage) in [
        (SpaceError::Disk, Shortage::Disk),
        (SpaceError::Quota, Shortage::Quota),
        (SpaceError::FileSize, Shortage::FileSize),
    ] {
        let mut oracle = Oracle::new(0);
        let rig = oracle.open().unwrap();
        let capacity = oracle.disk.used();
        oracle.disk.faults(|faults| (faults.capacity, faults.space_error) = (Some(capacity), space_error));
        while oracle.refused.is_empty() {
            oracle.insert(&rig);
        }
        assert_eq!(oracle.refused[0], StoreError::Full(shortage));
    }
}
