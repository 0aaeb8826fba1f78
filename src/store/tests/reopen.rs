//! What a start finds after a clean shutdown.

use proptest::prelude::*;

use super::*;

/// An hour, in microseconds as ids are.
const HOUR: u64 = 3_600_000_000;

/// Crashes right after a start, and a moment after ids were assigned to events that are not stored.
#[test]
fn ids_of_unstored_events_are_not_assigned_again() {
    let scratch = Scratch::new();
    let opening = Store::open_tuned(&scratch.location(), Tuning::default()).unwrap();
    let ids = Arc::new(Ids { newest: 5_000_000.into(), ..Ids::default() });
    let store = opening.start(Box::new(Arc::clone(&ids))).unwrap();
    let through = || Rig::new(&Scratch::copy_of(&scratch.0).location()).ids_through;
    assert!(through() >= 5_000_000, "from the start");
    for id in [3_000_000_000, 9_000_000_000] {
        ids.newest.store(id, Ordering::SeqCst);
        store.note_assigned_id(id);
        store.note_assigned_id(id);
        let begin = std::time::Instant::now();
        while through() < id {
            assert!(begin.elapsed() < Duration::from_secs(20), "never covered");
        }
    }
}

#[test]
fn a_new_store_is_empty_and_its_directory_private() {
    let scratch = Scratch::new();
    let rig = Rig::new(&Location::Directory(scratch.0.join("not/there")));
    assert_eq!((rig.latest.len(), rig.ids_through), (0, 0));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(scratch.0.join("not/there")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn stores_in_memory_are_separate_and_not_kept() {
    let (one, other) = (Rig::new(&Location::Memory), Rig::new(&Location::Memory));
    one.insert("name", "1").unwrap();
    assert_eq!(other.read_history("name", 0, 10).unwrap().body, "{}");
    one.store.close();
    assert_eq!(Rig::new(&Location::Memory).latest, []);
}

#[test]
fn a_clean_shutdown_writes_the_exact_newest_id() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    rig.ids.newest.store(HOUR, Ordering::SeqCst);
    rig.insert("name", "1").unwrap();
    rig.ids.newest.store(2 * HOUR, Ordering::SeqCst);
    rig.store.close();
    let again = Rig::new(&scratch.location());
    assert_eq!(again.ids_through, 2 * HOUR);
    again.store.close();
    assert_eq!(Rig::new(&scratch.location()).ids_through, 2 * HOUR, "no id was assigned, so nothing is written");
}

#[test]
fn a_clean_shutdown_leaves_everything_in_one_file() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    rig.insert_all((0..3000).map(|number| ("name", number.to_string())));
    let published = rig.published();
    rig.store.close();
    let log = scratch.0.join("records.db-wal");
    assert_eq!(std::fs::metadata(log).map_or(0, |log| log.len()), 0);
    let alone = Scratch::new();
    std::fs::copy(scratch.database(), alone.database()).unwrap();
    assert_eq!(contents(&alone.0), published);
}

#[test]
fn the_wal_restarts_under_load_and_stays_small() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), small_limits());
    let data = format!("\"{}\"", "x".repeat(200));
    let mut longest = 0;
    for _ in 0..300 {
        rig.insert_all((0..20).map(|_| ("name", data.clone())));
        longest = longest.max(rig.store.status().wal_bytes);
    }
    let status = rig.store.status();
    assert!(status.wal_restarts >= 2, "{status:?}");
    assert!(longest < 1 << 20, "{longest}");
}

#[test]
fn an_idle_store_completes_its_index() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    rig.insert_all((0..3000).map(|number| ("name", number.to_string())));
    while rig.store.status().unindexed > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let copy = Scratch::copy_of(&scratch.0);
    let connection = rusqlite::Connection::open(copy.database()).unwrap();
    let through = tables::schema::meta(&connection, tables::schema::INDEXED_THROUGH).unwrap();
    assert_eq!(through, rig.published().last().unwrap().id as i64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_start_finds_the_newest_record_of_each_name(
        runs in prop::collection::vec((prop::collection::vec(0..30_u32, 0..200), 0..1000_u64), 1..6)
    ) {
        let scratch = Scratch::new();
        let (mut all, mut ids_through) = (Vec::new(), 0);
        for (names, skipped) in runs {
            let rig = Rig::with(&scratch.location(), small_limits());
            prop_assert_eq!(&rig.latest, &latest_of(&all));
            prop_assert_eq!(rig.ids_through, ids_through);
            rig.ids.newest.fetch_add(skipped, Ordering::SeqCst);
            let names: Vec<_> = names.iter().map(|name| format!("name{name}")).collect();
            rig.insert_all(names.iter().map(|name| (name.as_str(), format!("\"{name}\""))));
            all.extend(rig.published());
            ids_through = rig.ids.newest();
        }
        prop_assert_eq!(contents(&scratch.0), all);
    }
}
