//! Erasures: nothing of an erased version is left in any file, and everything else is.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use esker_disk::{Disk, Faults};
use fastrand::Rng;
use rusqlite::Connection;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::records::retention::Retention;

/// Returns a text that begins with a marker, which occurs in no other record.
fn data(rng: &mut Rng, number: usize) -> String {
    let len = if rng.u8(..8) == 0 { rng.usize(..20_000) } else { rng.usize(..300) };
    let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(len).collect();
    format!("\"<{number}>{noise}<{number}>\"")
}

/// Returns the markers in data.
fn marker(data: &str) -> Vec<u8> {
    data.as_bytes()[1..=data.find('>').unwrap()].to_vec()
}

/// Returns the bytes of all files in a directory.
fn files(directory: &Path) -> Vec<Vec<u8>> {
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| std::fs::read(path).unwrap()).collect()
}

/// Returns the markers of the records that are in any of the files.
fn found(files: &[Vec<u8>], records: &[Record]) -> BTreeSet<u64> {
    let numbers = markers(files);
    records.iter().filter(|record| numbers.contains(&marker(&record.data))).map(|record| record.id).collect()
}

/// Returns all markers in the files.
pub(super) fn markers(files: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let mut markers = BTreeSet::new();
    for bytes in files {
        for at in memchr::memchr_iter(b'<', bytes) {
            let end = bytes[at..].iter().take(12).position(|b| *b == b'>');
            markers.extend(end.map(|end| bytes[at..=at + end].to_vec()));
        }
    }
    markers
}

/// Removes from the model what was erased, and checks the number.
fn erase_in_both(rig: &Rig, records: &mut Vec<Record>, name: &str, before: Option<u64>) -> Vec<Record> {
    let is_erased = |record: &Record| &*record.name == name && before.is_none_or(|before| record.id < before);
    let (erased, rest) = std::mem::take(records).into_iter().partition::<Vec<_>, _>(is_erased);
    *records = rest;
    assert_eq!(rig.erase(name, before), Ok(erased.len() as u64));
    erased
}

fn insert_some(rig: &Rig, rng: &mut Rng, count: usize) {
    let begin = rig.published().len();
    let names: Vec<_> = (0..count).map(|_| format!("(name{})", rng.u8(..20))).collect();
    let inserts = names.iter().enumerate().map(|(number, name)| (name.as_str(), data(rng, begin + number)));
    assert!(rig.insert_all(inserts.collect::<Vec<_>>()).iter().all(Result::is_ok));
}

#[test]
fn erased_text_is_in_no_file_and_all_other_is() {
    for seed in 0..3 {
        let (scratch, mut rng) = (Scratch::new(), Rng::with_seed(seed));
        let rig = Rig::with(&scratch.location(), small_limits());
        let (mut records, mut known) = (Vec::new(), 0);
        for _ in 0..8 {
            insert_some(&rig, &mut rng, 150);
            records.extend(rig.published().drain(known..));
            known = rig.published().len();
            let name = format!("(name{})", rng.u8(..20));
            let before = rng.bool().then(|| records[rng.usize(..records.len())].id);
            let erased = erase_in_both(&rig, &mut records, &name, before);
            let files = files(&scratch.0);
            assert_eq!(found(&files, &erased), BTreeSet::new(), "seed {seed}");
            let is_named = files.iter().any(|bytes| memchr::memmem::find(bytes, name.as_bytes()).is_some());
            assert_eq!(is_named, records.iter().any(|record| *record.name == *name), "seed {seed}: {name}");
        }
        rig.store.close();
        assert_eq!(contents(&scratch.0), records, "seed {seed}");
        let all: BTreeSet<_> = records.iter().map(|record| record.id).collect();
        assert_eq!(found(&files(&scratch.0), &rig.published()), all, "seed {seed}");
        let again = Rig::new(&scratch.location());
        assert_eq!(again.latest, latest_of(&records));
    }
}

#[test]
fn an_erasure_of_the_newest_version_is_published_with_a_durable_id() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let ids: Vec<_> = (0..4).map(|number| rig.insert("a", &number.to_string()).unwrap()).collect();
    rig.insert("b", "1").unwrap();
    assert_eq!(rig.erase("a", Some(ids[2])), Ok(2));
    assert!(rig.ids.erased.lock().unwrap().is_empty(), "the newest version remains");
    assert_eq!(rig.erase("a", Some(ids[3])), Ok(1));
    let again = rig.insert("a", "5").unwrap();
    assert_eq!(rig.erase("a", Some(u64::MAX)), Ok(2));
    let erased = rig.ids.erased.lock().unwrap().clone();
    assert_eq!(erased, [("a".to_owned(), again + 1)]);
    assert_eq!((rig.erase("a", None), rig.erase("nobody", None)), (Ok(0), Ok(0)));
    assert_eq!(rig.ids.erased.lock().unwrap().len(), 1);
    let copy = Scratch::copy_of(&scratch.0);
    let opening = Store::open(&copy.location()).unwrap();
    assert_eq!(opening.erased_through, again + 1, "durable before it is published");
    assert!(opening.ids_through > again, "the id is not assigned again");
    let new = rig.insert("a", "6").unwrap();
    assert_eq!(rig.read_history("a", 0, 10).unwrap().body, format!("{{\"a_v_{new}\":6}}"));
    rig.store.close();
    assert_eq!(contents(&scratch.0).len(), 2);
}

#[test]
fn the_key_of_an_erased_name_is_not_assigned_again() {
    let scratch = Scratch::new();
    let keys = || -> Vec<(i64, String)> {
        let connection = Connection::open(scratch.database()).unwrap();
        let mut statement = connection.prepare("SELECT key, name FROM names ORDER BY key").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
    };
    for (name, expected) in [("a", 1), ("b", 2), ("c", 3)] {
        let rig = Rig::new(&scratch.location());
        rig.insert(name, "1").unwrap();
        assert_eq!(keys(), [(expected, name.to_owned())]);
        assert_eq!(rig.erase(name, None), Ok(1));
    }
}

#[test]
fn erasures_under_load_lose_nothing_else() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), small_limits());
    let is_finished = AtomicBool::new(false);
    let erased = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = Rng::with_seed(1);
            (0..40).for_each(|_| insert_some(&rig, &mut rng, 30));
            is_finished.store(true, Ordering::SeqCst);
        });
        let erasers = [0, 1, 2].map(|number| {
            let (rig, is_finished) = (&rig, &is_finished);
            scope.spawn(move || {
                let mut erased = 0;
                while !is_finished.load(Ordering::SeqCst) {
                    erased += rig.erase(&format!("(name{number})"), None).unwrap();
                }
                erased + rig.erase(&format!("(name{number})"), None).unwrap()
            })
        });
        erasers.map(|eraser| eraser.join().unwrap())
    });
    let is_erased = |record: &Record| ["(name0)", "(name1)", "(name2)"].contains(&&*record.name);
    let (gone, rest) = rig.published().into_iter().partition::<Vec<_>, _>(is_erased);
    assert_eq!(erased.iter().sum::<u64>(), gone.len() as u64);
    assert_eq!(found(&files(&scratch.0), &gone), BTreeSet::new());
    rig.store.close();
    assert_eq!(contents(&scratch.0), rest);
}

#[test]
fn versions_that_were_pruned_leave_nothing_either() {
    let scratch = Scratch::new();
    let retention = Retention { versions: NonZeroU64::new(2), age: None };
    let rig = Rig::with(&scratch.location(), Tuning { retention, free_pages: 0, ..small_limits() });
    for seed in 0..4 {
        insert_some(&rig, &mut Rng::with_seed(seed), 200);
        let erased = ["(name0)", "(name1)"].map(|name| rig.erase(name, None).unwrap());
        assert!(erased.iter().all(|erased| *erased > 0), "{erased:?}");
    }
    let (gone, rest) =
        rig.published().into_iter().partition::<Vec<_>, _>(|record| ["(name0)", "(name1)"].contains(&&*record.name));
    assert_eq!(found(&files(&scratch.0), &gone), BTreeSet::new());
    rig.store.close();
    let kept = contents(&scratch.0);
    assert!(kept.iter().all(|record| rest.contains(record)));
    assert_eq!(latest_of(&kept), latest_of(&rest));
}

/// Erases on a simulated disk that fails or is cut off power at any moment. An erasure that was begun is completed by later runs.
#[test]
fn an_erasure_survives_crashes_at_any_moment() {
    let mut resumed = 0;
    for seed in 0..16 {
        let (disk, mut rng) = (Disk::new(seed), Rng::with_seed(seed));
        let tuning = Tuning { erase_slice: 3, ..small_limits() };
        let start = || {
            let location = Location::Vfs { name: disk.vfs(), free_bytes: |_| None };
            let mut opening = opening::open(&location, tuning, &mut |_| false)?;
            let (latest, through) = (std::mem::take(&mut opening.latest), opening.erased_through);
            let is_due = opening.is_purge_due();
            let ids = Arc::new(Ids { newest: opening.ids_through.into(), ..Ids::default() });
            let manual = Arc::new(ManualClock::default());
            let (store, steps) = opening.start_manual(Box::new(Arc::clone(&ids)), Clock::manual(manual))?;
            Ok::<_, OpenError>((store, steps, ids, latest, through, is_due))
        };
        let (store, mut steps, ids, ..) = start().unwrap();
        for number in 0..300 {
            let name = ["(a)", "(b)", "(c)"][number % 3];
            store.insert(plain(name, data(&mut rng, number)), |stored| assert!(stored.is_ok()));
            if rng.u8(..20) == 0 {
                steps.step();
            }
        }
        steps.step();
        let all = ids.published.lock().unwrap().clone();
        let (sender, erased) = mpsc::channel();
        store.erase("(b)".into(), None, move |result| sender.send(result).unwrap());
        match rng.u8(..4) {
            0 => disk.faults(|faults| (faults.writes_fail, faults.syncs_fail) = (0.02, 0.05)),
            1 => disk.kill_after(rng.u64(1..400)),
            _ => disk.cut_power_after(rng.u64(1..400)),
        }
        let crashes = disk.crashes();
        let mut reply = None;
        for _ in 0..2000 {
            steps.step();
            reply = reply.or_else(|| erased.try_recv().ok());
            if reply.is_some() || disk.crashes() > crashes {
                break;
            }
        }
        let was_published = !ids.erased.lock().unwrap().is_empty();
        if disk.crashes() == crashes {
            disk.cut_power();
        }
        disk.faults(|faults| *faults = Faults::default());
        drop((store, steps));
        let (store, mut steps, _, latest, through, is_due) = start().unwrap();
        let is_erased = latest.len() == 2;
        assert!(is_erased || !was_published && reply != Some(Ok(100)), "seed {seed}: {reply:?}");
        assert_eq!(is_erased, through > 0, "seed {seed}: the id of the erasure is stored with it");
        resumed += u64::from(is_due);
        assert!(is_erased || !is_due);
        (0..2000).for_each(|_| steps.step());
        let files: Vec<_> = disk.files().into_iter().map(|(_, bytes)| bytes).collect();
        let expected =
            all.iter().filter(|record| !is_erased || &*record.name != "(b)").map(|record| record.id).collect();
        assert_eq!(found(&files, &all), expected, "seed {seed}");
        drop((store, steps));
        let (.., is_due) = start().unwrap();
        assert!(!is_due, "seed {seed}");
    }
    assert!(resumed > 2, "{resumed} of 16 were resumed");
}

/// A copy of the files, as a crash leaves them, is good in every state, and a start on it completes the erasure.
#[test]
fn the_files_are_good_while_an_erasure_is_under_way() {
    let scratch = Scratch::new();
    let tuning = Tuning { erase_slice: 2, wal_growth: u64::MAX, wal_limit: u64::MAX, ..small_limits() };
    let ids = Arc::new(Ids::default());
    let clock = Clock::manual(Arc::new(ManualClock::default()));
    let opening = Store::open_tuned(&scratch.location(), tuning).unwrap();
    let (store, mut steps) = opening.start_manual(Box::new(Arc::clone(&ids)), clock).unwrap();
    for number in 0..20 {
        let data = format!("\"<{number}>\"");
        store.insert(plain(["a", "b"][number % 2], data), |stored| assert!(stored.is_ok()));
    }
    steps.step();
    store.erase("a".into(), None, |_| ());
    let (gone, rest) =
        ids.published.lock().unwrap().iter().cloned().partition::<Vec<_>, _>(|record| &*record.name == "a");
    let format = |directory: &Scratch| -> i64 {
        let connection = Connection::open(directory.database()).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    for _ in 0..12 {
        steps.step();
        let copy = Scratch::copy_of(&scratch.0);
        assert_eq!(format(&Scratch::copy_of(&scratch.0)), 2, "versions that can't complete the erasure do not open it");
        assert_eq!(contents(&copy.0), rest);
        let rig = Rig::new(&copy.location());
        assert_eq!(rig.erase("nobody", None), Ok(0), "it waits for the purge");
        assert_eq!(found(&files(&copy.0), &gone), BTreeSet::new());
        rig.store.close();
        assert_eq!(contents(&copy.0), rest);
        assert_eq!(format(&copy), 1);
    }
}

#[test]
fn a_full_disk_refuses_an_erasure() {
    let disk = Disk::new(1);
    disk.on_sleep(std::thread::sleep);
    let location = Location::Vfs { name: disk.vfs(), free_bytes: |_| None };
    let rig = Rig::with(&location, Tuning { full_disk_retry: Duration::from_millis(1), ..small_limits() });
    insert_some(&rig, &mut Rng::with_seed(1), 100);
    let used = disk.used();
    disk.faults(|faults| faults.capacity = Some(used));
    while rig.insert("other", &format!("\"{}\"", "x".repeat(2000))).is_ok() {}
    let erased = loop {
        match rig.erase("(name3)", None) {
            Err(Unerased::Store(StoreError::Full(_))) => disk.faults(|faults| faults.capacity = None),
            erased => break erased,
        }
    };
    let (gone, _) = rig.published().into_iter().partition::<Vec<_>, _>(|record| &*record.name == "(name3)");
    assert_eq!(erased, Ok(gone.len() as u64));
    let files: Vec<_> = disk.files().into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(found(&files, &gone), BTreeSet::new());
}

#[test]
fn a_reader_of_another_program_delays_an_erasure() {
    let scratch = Scratch::new();
    let tuning = Tuning { erase_patience: Duration::from_millis(100), ..Tuning::default() };
    let rig = Rig::with(&scratch.location(), tuning);
    rig.insert("a", "\"<1>\"").unwrap();
    let other = Connection::open(scratch.database()).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM names").unwrap();
    assert_eq!(rig.erase("a", None), Err(Unerased::Reading));
    assert_eq!(rig.read_history("a", 0, 10).unwrap().body, "{}");
    assert!(rig.insert("b", "1").is_ok());
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(rig.erase("a", None), Ok(0), "it waits for the first erasure's purge");
    assert!(!markers(&files(&scratch.0)).contains(&b"<1>"[..]));
}

#[test]
fn a_locked_database_refuses_an_erasure() {
    let scratch = Scratch::new();
    let tuning = Tuning { lock_attempts: 2, lock_probe: Duration::from_millis(20), ..Tuning::default() };
    let rig = Rig::with(&scratch.location(), tuning);
    rig.insert("a", "\"<1>\"").unwrap();
    let other = Connection::open(scratch.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(rig.erase("a", None), Err(StoreError::Locked.into()));
    other.execute_batch("COMMIT").unwrap();
    let begin = std::time::Instant::now();
    let erased = loop {
        match rig.erase("a", None) {
            Err(Unerased::Store(StoreError::Locked)) if begin.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            erased => break erased,
        }
    };
    assert_eq!(erased, Ok(1));
    assert!(!markers(&files(&scratch.0)).contains(&b"<1>"[..]));
}

#[test]
fn the_tool_erases_what_a_broker_would() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    insert_some(&rig, &mut Rng::with_seed(3), 300);
    rig.store.close();
    let mut records = rig.published();
    let middle = records[150].id;
    for before in [Some(1), Some(middle), None, None] {
        let is_erased = |record: &Record| &*record.name == "(name3)" && before.is_none_or(|before| record.id < before);
        let erased = records.extract_if(.., |record| is_erased(record)).count() as u64;
        assert_eq!(erase(&scratch.0, "(name3)", before, &Silent).unwrap(), erased);
        let all: BTreeSet<_> = records.iter().map(|record| record.id).collect();
        assert_eq!(found(&files(&scratch.0), &rig.published()), all);
        assert_eq!(contents(&scratch.0), records);
        let connection = Connection::open(scratch.database()).unwrap();
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(format, 1, "no erasure is incomplete");
    }
    let opening = Store::open(&scratch.location()).unwrap();
    assert!(opening.erased_through > rig.ids_through && opening.ids_through >= opening.erased_through);
}
