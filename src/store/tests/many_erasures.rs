//! Many erasures at once, and new names meanwhile.

use esker_disk::Disk;
use fastrand::Rng;

use super::erasures::markers;
use super::*;
use crate::clock::{Clock, ManualClock};

/// Returns a store without threads that has these names, and the ids and the clock that it uses.
fn with_names(scratch: &Scratch, names: usize) -> (Store, ManualStore, Arc<Ids>, Arc<ManualClock>) {
    let (ids, manual) = (Arc::new(Ids::default()), Arc::new(ManualClock::default()));
    let opening = Store::open_tuned(&scratch.location(), small_limits()).unwrap();
    let clock = Clock::manual(Arc::clone(&manual));
    let (store, mut steps) = opening.start_manual(Box::new(Arc::clone(&ids)), clock).unwrap();
    for number in 0..names {
        store.insert(plain(&number.to_string(), "1"), |stored| assert!(stored.is_ok()));
    }
    steps.step();
    (store, steps, ids, manual)
}

#[test]
fn many_erasures_do_not_hold_up_inserts() {
    let scratch = Scratch::new();
    let (store, mut steps, ids, _) = with_names(&scratch, 100);
    let (sender, erased) = mpsc::channel();
    for number in 0..100 {
        let sender = sender.clone();
        store.erase(number.to_string().into(), None, move |result| sender.send(result).unwrap());
    }
    let (sender, inserted) = mpsc::channel();
    store.insert(plain("other", "1"), move |result| sender.send(result).unwrap());
    steps.step();
    assert!(inserted.try_recv().unwrap().is_ok());
    let begun = ids.erased.lock().unwrap().len();
    assert!((1..=4).contains(&begun), "{begun} are begun before the first commit");
    (0..1000).for_each(|_| steps.step());
    assert_eq!(erased.try_iter().collect::<Vec<_>>(), [Ok(1); 100]);
}

#[test]
fn erasures_without_ids_hold_up_inserts_once() {
    let scratch = Scratch::new();
    let (store, mut steps, ids, clock) = with_names(&scratch, 10);
    ids.is_paused.store(true, Ordering::SeqCst);
    let (sender, erased) = mpsc::channel();
    for number in 0..10 {
        let sender = sender.clone();
        store.erase(number.to_string().into(), None, move |result| sender.send(result).unwrap());
    }
    let begin = clock.elapsed_micros.load(Ordering::Relaxed);
    steps.step();
    assert_eq!(erased.try_iter().collect::<Vec<_>>(), [Err(StoreError::Busy.into()); 10]);
    let waited = clock.elapsed_micros.load(Ordering::Relaxed) - begin;
    assert_eq!(waited, small_limits().reserve_attempts as u64 * 1000, "for the first of them");
}

/// SQLite exchanges pages of the index of names between the slices that clear them.
#[test]
fn erased_names_are_in_no_file_though_new_names_arrive() {
    for seed in 0..3 {
        let (disk, mut rng) = (Disk::new(seed), Rng::with_seed(seed));
        let location = Location::Vfs { name: disk.vfs(), free_bytes: |_| None };
        let opening = opening::open(&location, Tuning { erase_slice: 9, ..small_limits() }, &mut |_| false).unwrap();
        let manual = Arc::new(ManualClock::default());
        let clock = Clock::manual(Arc::clone(&manual));
        let (store, mut steps) = opening.start_manual(Box::new(Arc::new(Ids::default())), clock).unwrap();
        let mut new_name = |marker: &str| -> String {
            let len = rng.usize(10..400);
            let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(len).collect();
            format!("{}{marker}{noise}", rng.alphanumeric())
        };
        let names: Vec<_> = (0..300).map(|number| new_name(&format!("<{number}>"))).collect();
        for name in &names {
            store.insert(plain(name, "1"), |stored| assert!(stored.is_ok()));
        }
        steps.step();
        let (sender, erased) = mpsc::channel();
        for name in names.iter().step_by(3) {
            let sender = sender.clone();
            store.erase(name.as_str().into(), None, move |result| {
                let _ = sender.send(result);
            });
        }
        let mut replies = 0;
        for _ in 0..4000 {
            (0..5).for_each(|_| store.insert(plain(&new_name(""), "1"), |stored| assert!(stored.is_ok())));
            steps.step();
            manual.advance(25_000);
            replies += erased.try_iter().inspect(|reply| assert_eq!(*reply, Ok(1))).count();
            if replies == 100 {
                break;
            }
        }
        assert_eq!(replies, 100, "seed {seed}: the passes end");
        let files: Vec<_> = disk.files().into_iter().map(|(_, bytes)| bytes).collect();
        let found = markers(&files);
        for number in 0..300 {
            let is_found = found.contains(format!("<{number}>").as_bytes());
            assert_eq!(is_found, number % 3 > 0, "seed {seed}: {number}");
        }
    }
}
