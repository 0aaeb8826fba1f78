//! The store on a disk that loses power, fails and runs full in the midst of everything: what was answered with an id is there.

use std::collections::BTreeSet;
use std::time::Instant;

use esker_disk::{Disk, Faults, NoRoom};
use fastrand::Rng;

use super::*;
use crate::clock::{Clock, ManualClock};

/// The names of all records here.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// So many are inserted at once.
const BATCH: usize = 12;

/// A disk, and what the one who inserts knows of what must be on it.
struct Witness {
    disk: Disk,
    rng: Rng,
    /// What every record was that anybody heard of: its name and its data.
    known: BTreeMap<u64, (&'static str, String)>,
    /// What was tried, by data; each once.
    tried: BTreeSet<String>,
    /// Answers other than an id.
    refused: Vec<StoreError>,
}

impl Witness {
    fn new(seed: u64) -> Self {
        let disk = Disk::new(seed);
        disk.on_sleep(std::thread::sleep);
        Self { disk, rng: Rng::with_seed(seed), known: BTreeMap::new(), tried: BTreeSet::new(), refused: Vec::new() }
    }

    fn place(&self) -> Location {
        Location::Vfs { name: self.disk.vfs(), room: |_| None }
    }

    /// Opens it, sees that everything is there, and inserts so often or until the disk crashes. An error: it crashed before it
    /// was open.
    fn live(&mut self, rounds: usize, faults: impl FnOnce(&mut Faults)) -> Result<(), OpenError> {
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
        let (tuning, crashes) = (Tuning { retry: Duration::from_millis(1), ..hasty() }, self.disk.crashes());
        let mut opening = opening::open(&self.place(), tuning)?;
        let (latest, ids_through) = (std::mem::take(&mut opening.latest), opening.ids_through);
        let ids = Arc::new(Ids { newest: ids_through.into(), ..Ids::default() });
        let rig = Rig { store: opening.start(Box::new(Arc::clone(&ids)))?, ids, latest, ids_through };
        self.look(&rig, crashes);
        Ok(rig)
    }

    /// What was known is there, and what is there was tried; whatever it is, from now on it is known.
    fn look(&mut self, rig: &Rig, crashes: u64) {
        let histories: Option<Vec<_>> = NAMES.iter().map(|name| history(rig, name)).collect();
        let Some(histories) = histories.filter(|_| self.disk.crashes() == crashes) else {
            // The index may be written meanwhile, and a planned crash come with that.
            return assert!(self.disk.crashes() > crashes, "a history can't be read");
        };
        let found: BTreeMap<_, _> = histories.into_iter().flatten().collect();
        for (id, record) in &self.known {
            assert_eq!(found.get(id), Some(record), "record {id} was answered or seen");
        }
        for (id, (name, data)) in &found {
            assert!(self.tried.contains(data), "record {id} is {data} of {name}, which nobody inserted");
        }
        let distinct: BTreeSet<_> = found.values().map(|(_, data)| data).collect();
        assert_eq!(distinct.len(), found.len(), "each was inserted once");
        let newest: BTreeMap<_, _> = found.iter().map(|(id, (name, data))| (*name, (*id, data.as_str()))).collect();
        let latest = rig.latest.iter().map(|record| (&*record.name, (record.id, &*record.data))).collect();
        assert_eq!(newest, latest);
        assert!(found.keys().all(|id| *id <= rig.ids_through));
        self.known = found;
    }

    fn insert(&mut self, rig: &Rig) {
        let batch: Vec<_> = (0..self.rng.usize(1..=BATCH))
            .map(|_| {
                let data = format!("\"{}{}\"", self.tried.len(), "x".repeat(self.rng.usize(..2000)));
                self.tried.insert(data.clone());
                (NAMES[self.rng.usize(..NAMES.len())], data)
            })
            .collect();
        let (sender, replies) = mpsc::channel();
        for (name, data) in batch {
            let sender = sender.clone();
            let kept = data.clone();
            rig.store.insert(name.into(), data.into(), move |result| sender.send((name, kept, result)).unwrap());
        }
        drop(sender);
        for (name, data, result) in replies {
            match result {
                Ok(id) => drop(self.known.insert(id, (name, data))),
                Err(error) => self.refused.push(error),
            }
        }
        // What was published was seen, answered or not.
        for record in rig.published() {
            assert!(self.known.contains_key(&record.id), "{} was published and not answered", record.id);
        }
    }
}

/// All versions of a name; none if they can't be read.
fn history(rig: &Rig, name: &'static str) -> Option<Vec<(u64, (&'static str, String))>> {
    let (mut versions, mut after) = (Vec::new(), Some(0));
    while let Some(id) = after {
        let page = rig.audit(name, id, 50).ok()?;
        // Behind a reader's back a crash may take what it reads away; a page is then not even JSON.
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
fn what_was_answered_survives_a_loss_of_power_in_the_midst_of_anything() {
    for seed in 0..20 {
        let mut witness = Witness::new(seed);
        let mut unopened = 0;
        for _ in 0..12 {
            let changes = witness.rng.u64(..400);
            match witness.rng.u8(..4) {
                0 => witness.disk.kill_after(changes),
                _ => witness.disk.cut_power_after(changes),
            }
            let crashes = witness.disk.crashes();
            while witness.disk.crashes() == crashes {
                unopened += usize::from(witness.live(20, |_| ()).is_err());
            }
        }
        assert!(!witness.known.is_empty() && unopened < 12, "seed {seed}: {unopened} of 12 ended before they began");
        witness.live(1, |_| ()).unwrap();
    }
}

#[test]
fn what_was_answered_survives_writes_and_syncs_that_fail() {
    let mut failed = 0;
    for seed in 0..20 {
        let mut witness = Witness::new(seed);
        for life in 0..10 {
            let rates = (witness.rng.f64() * 0.02, witness.rng.f64() * 0.05);
            witness.live(20, |faults| (faults.writes_fail, faults.syncs_fail) = rates).unwrap();
            witness.disk.faults(|faults| *faults = Faults::default());
            if life % 2 == 0 {
                witness.disk.cut_power();
            }
        }
        failed += witness.refused.iter().filter(|error| **error == StoreError::Failed).count();
        witness.live(1, |_| ()).unwrap();
    }
    assert!(failed > 0);
}

/// Runs full some times, and each time there is room again.
fn run_full(seed: u64, no_room: NoRoom) {
    let mut witness = Witness::new(seed);
    witness.disk.faults(|faults| faults.no_room = no_room);
    witness.live(3, |_| ()).unwrap();
    let rig = witness.open().unwrap();
    for _ in 0..3 {
        let capacity = witness.disk.used() + witness.rng.u64(..200_000);
        witness.disk.faults(|faults| faults.capacity = Some(capacity));
        witness.refused.clear();
        while witness.refused.is_empty() {
            witness.insert(&rig);
        }
        let is_full = |error: &StoreError| matches!(error, StoreError::Full(_));
        assert!(witness.refused.iter().all(is_full), "seed {seed}, {no_room:?}: {:?}", rig.store.status());
        witness.disk.faults(|faults| faults.capacity = None);
        let (begin, before) = (Instant::now(), witness.known.len());
        while witness.known.len() == before {
            assert!(begin.elapsed() < Duration::from_secs(30), "seed {seed}: {:?}", rig.store.status());
            std::thread::sleep(Duration::from_millis(5));
            witness.insert(&rig);
        }
    }
    witness.disk.cut_power();
    rig.store.close();
    witness.live(1, |_| ()).unwrap();
}

#[test]
fn a_disk_that_runs_full_costs_nothing_that_was_answered_and_inserts_go_on_when_there_is_room() {
    // They mostly wait.
    std::thread::scope(|scope| {
        for seed in 0..10 {
            for no_room in [NoRoom::Disk, NoRoom::Quota, NoRoom::FileSize] {
                scope.spawn(move || run_full(seed, no_room));
            }
        }
    });
}

/// Everything goes wrong while it is opened; then the disk is well again.
fn open_badly(witness: &mut Witness) -> Option<OpenError> {
    let rates: [f64; 5] = std::array::from_fn(|_| witness.rng.f64() * 0.1);
    witness.disk.faults(|faults| {
        [faults.reads_fail, faults.writes_fail, faults.syncs_fail, faults.truncates_fail, faults.opens_fail] = rates;
    });
    let opened = opening::open(&witness.place(), hasty());
    witness.disk.faults(|faults| *faults = Faults::default());
    opened.err()
}

#[test]
fn an_opening_that_fails_takes_nothing() {
    let mut failed = 0;
    for seed in 0..20 {
        let mut witness = Witness::new(seed);
        for _ in 0..10 {
            let (changes, crashes) = (witness.rng.u64(..400), witness.disk.crashes());
            witness.disk.kill_after(changes);
            while witness.disk.crashes() == crashes {
                // It may be killed before it is open.
                let _ = witness.live(20, |_| ());
            }
            failed += (0..3).filter_map(|_| open_badly(&mut witness)).count();
            if witness.rng.bool() {
                witness.disk.cut_power();
            }
            witness.live(1, |_| ()).unwrap();
        }
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn an_opening_on_a_full_disk_says_so_and_takes_nothing() {
    for seed in 0..20 {
        let mut witness = Witness::new(seed);
        witness.disk.kill_after(100);
        witness.live(100, |_| ()).unwrap();
        for more in (0..60_000).step_by(3_000) {
            let capacity = witness.disk.used() + more;
            witness.disk.faults(|faults| faults.capacity = Some(capacity));
            if let Err(error) = opening::open(&witness.place(), hasty()) {
                assert!(matches!(error.cause, error::Cause::Full(_)), "seed {seed}: {error}");
            }
        }
        witness.disk.faults(|faults| faults.capacity = None);
        witness.live(1, |_| ()).unwrap();
    }
}

#[test]
fn the_disk_is_asked_how_much_room_it_has() {
    let mut witness = Witness::new(0);
    let place = Location::Vfs { name: witness.disk.vfs(), room: esker_disk::room };
    witness.disk.faults(|faults| faults.capacity = Some(60 << 20));
    let rig = Rig::new(&place);
    witness.insert(&rig);
    assert!(witness.known.is_empty() && witness.refused.iter().all(|error| matches!(error, StoreError::Full(_))));
    assert!(matches!(rig.store.status().health, Health::Full(_)));
}

/// A store without threads on a bad disk that crashes again and again. All calls on the disk, and what was answered.
fn run_by_hand(seed: u64) -> (Vec<String>, Vec<Result<u64, StoreError>>) {
    let (disk, mut rng) = (Disk::new(seed), Rng::with_seed(seed));
    disk.write_down();
    let (sender, answers) = mpsc::channel();
    for _ in 0..10 {
        disk.cut_power_after(rng.u64(100..400));
        let Ok(opening) = opening::open(&Location::Vfs { name: disk.vfs(), room: |_| None }, hasty()) else { continue };
        disk.faults(|faults| (faults.writes_fail, faults.syncs_fail) = (0.0005, 0.002));
        let ids = Ids { newest: opening.ids_through.into(), ..Ids::default() };
        let dial = Arc::new(ManualClock::default());
        let clock = Clock::manual(Arc::clone(&dial));
        let (store, mut hands) = opening.start_by_hand(Box::new(Arc::new(ids)), clock).unwrap();
        for _ in 0..30 {
            for _ in 0..rng.usize(..10) {
                let (sender, name) = (sender.clone(), format!("name{}", rng.u8(..50)));
                store.insert(name.into(), "1".repeat(rng.usize(1..3000)).into(), move |answer| {
                    sender.send(answer).unwrap();
                });
            }
            dial.advance(rng.u64(..500_000));
            hands.turn();
        }
        hands.close(&store);
        disk.faults(|faults| *faults = Faults::default());
    }
    (disk.take_calls(), answers.try_iter().collect())
}

#[test]
fn without_threads_a_seed_means_the_same_calls_and_answers() {
    for seed in 0..10 {
        let ((calls, answers), (calls_again, answers_again)) = (run_by_hand(seed), run_by_hand(seed));
        let differing = calls.iter().zip(&calls_again).enumerate().find(|(_, (one, other))| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!((calls.len(), answers), (calls_again.len(), answers_again), "seed {seed}");
    }
}

#[test]
fn after_the_keeper_has_failed_the_writer_moves_nothing() {
    let witness = Witness::new(0);
    let opening = opening::open(&witness.place(), Tuning { log_growth: 1, ..hasty() }).unwrap();
    let clock = Clock::manual(Arc::new(ManualClock::default()));
    let (store, mut hands) = opening.start_by_hand(Box::new(Arc::new(Ids::default())), clock).unwrap();
    store.insert("a".into(), "1".into(), |stored| assert!(stored.is_ok()));
    hands.turn();
    witness.disk.faults(|faults| faults.syncs_fail = 1.0);
    let before = witness.disk.stats();
    hands.turn();
    assert!(matches!(store.status().health, Health::Failed { why } if why.starts_with("checkpointing")));
    assert_eq!(witness.disk.stats().failures, before.failures + 1, "it was not tried again");
}

#[test]
fn the_answer_names_what_is_full() {
    for (no_room, shortage) in
        [(NoRoom::Disk, Shortage::Disk), (NoRoom::Quota, Shortage::Quota), (NoRoom::FileSize, Shortage::FileSize)]
    {
        let mut witness = Witness::new(0);
        let rig = witness.open().unwrap();
        let capacity = witness.disk.used();
        witness.disk.faults(|faults| (faults.capacity, faults.no_room) = (Some(capacity), no_room));
        while witness.refused.is_empty() {
            witness.insert(&rig);
        }
        assert_eq!(witness.refused[0], StoreError::Full(shortage));
    }
}
