//! Full and failing disks.

use super::*;

static FREE_BYTES: AtomicU64 = AtomicU64::new(u64::MAX);

#[test]
fn a_full_disk_refuses_inserts_and_recovers() {
    let scratch = Scratch::new();
    let space_probe = |_: &disk::location::Database| Some(FREE_BYTES.load(Ordering::SeqCst));
    let tuning = Tuning { full_disk_retry: Duration::from_millis(300), space_probe, ..Tuning::default() };
    let rig = Rig::with(&scratch.location(), tuning);
    let id = rig.insert("name", "1").unwrap();
    FREE_BYTES.store(65 << 20, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    assert!(rig.insert("name", "2").is_ok(), "more than the reserve is free");
    FREE_BYTES.store(63 << 20, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        let Err(StoreError::Full(shortage)) = rig.insert("name", "3") else { panic!("it is full") };
        // The size of the WAL that is not checkpointed is reserved as well.
        let Shortage::Reserve { free, reserved } = shortage else { panic!("{shortage:?}") };
        assert!(free == 63 << 20 && (64 << 20..65 << 20).contains(&reserved), "{shortage:?}");
        assert_eq!(rig.store.status().health, Health::Full(shortage));
    }
    assert!(rig.read_history("name", id, 10).unwrap().body.ends_with(":2}"));
    FREE_BYTES.store(u64::MAX, Ordering::SeqCst);
    let begin = std::time::Instant::now();
    while rig.insert("name", "4").is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(rig.store.status().health, Health::Ready);
    rig.store.close();
    assert_eq!(contents(&scratch.0), rig.published());
    assert_eq!(rig.published().len(), 3);
}

#[test]
fn the_mark_is_raised_while_only_the_reserve_is_left() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), Tuning { space_probe: |_| Some(63 << 20), ..Tuning::default() });
    assert!(matches!(rig.insert("name", "1"), Err(StoreError::Full(_))));
    rig.ids.newest.store(1 << 40, Ordering::SeqCst);
    let begin = std::time::Instant::now();
    while Rig::new(&Scratch::copy_of(&scratch.0).location()).ids_through < 1 << 40 {
        assert!(begin.elapsed() < Duration::from_secs(10), "a start after a crash would assign the ids again");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(matches!(rig.store.status().health, Health::Full(_)));
}

#[test]
fn a_full_database_stores_nothing_of_a_refused_insert() {
    let scratch = Scratch::new();
    let opening =
        Store::open_tuned(&scratch.location(), Tuning { full_disk_retry: Duration::from_millis(50), ..small_limits() })
            .unwrap();
    opening.connections.writer.pragma_update_and_check(None, "max_page_count", 200, |_| Ok(())).unwrap();
    let ids = Arc::new(Ids::default());
    let store = opening.start(Box::new(Arc::clone(&ids))).unwrap();
    let rig = Rig { store, ids, latest: Vec::new(), ids_through: 0 };
    let data = format!("\"{}\"", "x".repeat(2000));
    let results = rig.insert_all((0..3000).map(|_| ("name", data.clone())));
    let mut stored = results.iter().filter(|result| result.is_ok()).count();
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StoreError::Full(_)))));
    assert!(stored < 400);
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(5));
        stored += usize::from(rig.insert("name", &data).is_ok());
    }
    assert_eq!(rig.published().len(), stored);
    rig.store.close();
    assert_eq!(contents(&scratch.0), rig.published());
    assert!(Rig::new(&scratch.location()).insert("name", &data).is_ok());
}

#[test]
fn a_failed_store_writes_nothing_until_the_next_start() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let id = rig.insert("name", "1").unwrap();
    // Reusing an id is the simplest way to make a transaction fail.
    rig.ids.newest.store(id - 1, Ordering::SeqCst);
    let results = rig.insert_all((0..3).map(|_| ("other", "2".to_owned())));
    assert_eq!(results, [Err(StoreError::Failed); 3]);
    assert_eq!(rig.insert("name", "3"), Err(StoreError::Failed));
    assert!(matches!(rig.store.status().health, Health::Failed { why } if why.starts_with("a commit: ")));
    assert_eq!(rig.read_history("name", 0, 10).unwrap().body, format!("{{\"name_v_{id}\":1}}"), "reads still work");
    rig.store.close();
    assert!(matches!(rig.store.status().health, Health::Failed { .. }));
    assert_eq!(rig.published().len(), 1);
    let again = Rig::new(&scratch.location());
    assert_eq!((again.latest.as_slice(), again.ids_through >= id), (rig.published().as_slice(), true));
    assert!(again.insert("name", "4").is_ok());
}
