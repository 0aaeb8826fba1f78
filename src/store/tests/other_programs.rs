//! Other programs: they hold the database, or remove or replace its files.

use rusqlite::Connection;

use super::*;
use crate::store::error::Fault;

/// Limits that make a lock known, and its end noticed, within a moment.
fn impatient() -> Tuning {
    let moment = Duration::from_millis(20);
    Tuning { lock_attempts: 2, lock_probe: moment, file_check: moment, ..Tuning::default() }
}

/// Waits until the condition holds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the store's reply to a revocation.
fn revoke(rig: &Rig) -> Result<(), StoreError> {
    let (sender, reply) = mpsc::channel();
    rig.store.revoke("sub:a".into(), 1, move |result| sender.send(result).unwrap());
    reply.recv().unwrap()
}

#[test]
fn requests_are_refused_while_another_program_holds_the_lock() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), impatient());
    rig.insert("name", "1").unwrap();
    let other = Connection::open(scratch.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(rig.insert("name", "2"), Err(StoreError::Locked));
    assert!(matches!(rig.store.status().health, Health::Locked { .. }));
    let commits = rig.store.status().commits;
    assert_eq!(rig.insert("name", "3"), Err(StoreError::Locked));
    assert_eq!(revoke(&rig), Err(StoreError::Locked));
    assert_eq!(rig.store.status().commits, commits);
    assert_eq!(rig.read_history("name", 0, 10).unwrap().body, "{\"name_v_1\":1}");
    other.execute_batch("COMMIT").unwrap();
    wait_until("unlocked", || rig.store.status().health == Health::Ready);
    assert_eq!((rig.insert("name", "4").is_ok(), revoke(&rig)), (true, Ok(())));
    rig.store.close();
    assert_eq!(contents(&scratch.0), rig.published());
    assert_eq!(rig.published().len(), 2, "refused inserts are not stored");
}

#[test]
fn a_lock_that_is_released_soon_is_waited_for() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), Tuning { lock_attempts: 1000, ..impatient() });
    let other = Connection::open(scratch.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (sender, replies) = mpsc::channel();
    let insert = |data: &str| {
        let sender = sender.clone();
        rig.store.insert(plain("name", data), move |result| sender.send(result.map(stored_id)).unwrap());
    };
    let big = format!("\"{}\"", "x".repeat(8 << 20));
    // The queue is full after 64 MiB. That is refused as well, but not because of too many requests.
    let begin = std::time::Instant::now();
    loop {
        insert(&big);
        match replies.try_recv() {
            Ok(Err(StoreError::Locked)) => break,
            Ok(Err(StoreError::Busy)) | Err(mpsc::TryRecvError::Empty) => {}
            other => panic!("{other:?}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "the writer never waits");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(rig.store.status().health, Health::Ready, "it is not known to last yet");
    other.execute_batch("COMMIT").unwrap();
    drop(sender);
    wait_until("stored", || rig.store.status().queued == 0);
    rig.store.close();
    let stored = replies.iter().filter(Result::is_ok).count();
    assert!(stored >= 7 && stored == rig.published().len(), "{stored}");
}

#[test]
fn a_start_waits_for_other_programs() {
    for hold in [
        "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM meta WHERE key = 'none'",
        "BEGIN IMMEDIATE; UPDATE meta SET value = value; ",
        "BEGIN; SELECT count(*) FROM records",
    ] {
        let scratch = Scratch::new();
        let rig = Rig::with(&scratch.location(), Tuning { wal_growth: u64::MAX, wal_limit: u64::MAX, ..impatient() });
        rig.insert("name", "1").unwrap();
        // With a WAL, which a start has to checkpoint.
        let copy = Scratch::copy_of(&scratch.0);
        let mut other = Some(Connection::open(copy.database()).unwrap());
        other.iter().for_each(|other| other.execute_batch(hold).unwrap());
        let mut attempts = 0;
        let opened = opening::open(&copy.location(), impatient(), &mut |wait| {
            attempts += u32::from(wait == StartWait::Lock);
            if attempts == 3 {
                other = None;
            }
            true
        });
        assert!(opened.is_ok_and(|opening| opening.latest == rig.published()), "{hold}");
        assert!(attempts >= 3, "{hold}");
    }
}

#[test]
fn a_lock_that_can_not_be_tried_is_a_lock() {
    let protocol = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_PROTOCOL);
    assert!(matches!(Fault::from(rusqlite::Error::SqliteFailure(protocol, None)), Fault::Locked));
}

#[test]
fn a_removed_or_replaced_file_stops_all_writes() {
    for name in ["records.db", "records.db-wal", "records.db-shm", "lock"] {
        for is_replaced in [false, true] {
            let scratch = Scratch::new();
            let rig = Rig::with(&scratch.location(), impatient());
            rig.insert("name", "1").unwrap();
            let path = scratch.0.join(name);
            std::fs::rename(&path, scratch.0.join("elsewhere")).unwrap();
            if is_replaced {
                std::fs::write(&path, "theirs").unwrap();
            }
            wait_until("noticed", || matches!(rig.store.status().health, Health::Removed { .. }));
            let Health::Removed { why } = rig.store.status().health else { panic!("it stays so") };
            let change = if is_replaced { "is another file now" } else { "no longer exists" };
            assert_eq!(why, format!("{} {change}", path.display()));
            assert_eq!((rig.insert("name", "2"), revoke(&rig)), (Err(StoreError::Removed), Err(StoreError::Removed)));
            assert_eq!(rig.read_history("name", 0, 10).unwrap().body, "{\"name_v_1\":1}", "it is open still");
        }
    }
}

#[test]
fn nothing_is_written_to_a_directory_in_the_place_of_the_removed_one() {
    let scratch = Scratch::new();
    // So long an interval that only the stop notices it.
    let tuning = Tuning { file_check: Duration::from_secs(3600), ..impatient() };
    let rig = Rig::with(&scratch.location(), tuning);
    rig.insert("name", "1").unwrap();
    std::fs::remove_dir_all(&scratch.0).unwrap();
    std::fs::create_dir(&scratch.0).unwrap();
    std::fs::write(scratch.database(), "theirs").unwrap();
    let saved = rig.store.close_with_history(&mut |_, output| output.write_all(b"history"), &|| false);
    assert!(saved.is_err());
    let files: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["records.db"]);
    assert_eq!(std::fs::read(scratch.database()).unwrap(), b"theirs");
}
