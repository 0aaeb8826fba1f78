//! Copies of a store's files that were made while they changed, as by `cp`.

use super::*;
use crate::store::disk::files::Actor;
use crate::store::disk::location::DataDir;

/// A copy whose files don't belong together is refused, or happens to be consistent.
#[test]
fn a_copy_of_changing_files_is_good_or_refused() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), small_limits());
    let mut random = fastrand::Rng::with_seed(7);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..40 {
        let mut names = ["records.db", "records.db-wal", "records.db-shm", "lock"];
        random.shuffle(&mut names);
        let copy = Scratch::new();
        for name in names {
            for _ in 0..random.usize(..4) {
                let data = format!("\"{}\"", "x".repeat(random.usize(..2000)));
                let inserts = (0..random.usize(1..30)).map(|number| (["a", "b", "c", "d"][number % 4], data.clone()));
                assert!(rig.insert_all(inserts).iter().all(Result::is_ok));
            }
            std::fs::copy(scratch.0.join(name), copy.0.join(name)).unwrap();
        }
        match Store::open(&copy.location()) {
            Ok(opening) => {
                drop(opening);
                let published = rig.published();
                assert!(
                    contents(&copy.0)
                        .iter()
                        .all(|record| published.binary_search_by_key(&record.id, |it| it.id).is_ok())
                );
                opened += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("are damaged"), "round {round}: {text}");
                // Not even by the next start: what was refused is left as it is.
                assert!(Store::open(&copy.location()).is_err(), "round {round}");
                refused += 1;
            }
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

#[test]
fn the_check_of_a_copy_can_be_interrupted() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), Tuning { wal_growth: u64::MAX, wal_limit: u64::MAX, ..small_limits() });
    rig.insert("name", "1").unwrap();
    let copy = Scratch::copy_of(&scratch.0);
    let other = rusqlite::Connection::open(copy.database()).unwrap();
    let many = "WITH RECURSIVE ids (id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM ids WHERE id < 300000)
                INSERT INTO records SELECT id, 1, '1' FROM ids";
    other.execute_batch(many).unwrap();
    for after in [0, 1] {
        let mut asked = 0;
        let opened = opening::open(&copy.location(), small_limits(), &mut |wait| {
            asked += u32::from(wait == StartWait::Check);
            asked <= after
        });
        let error = opened.map(drop).unwrap_err();
        assert!(error.is_interruption(), "{error}");
        assert!(asked > after, "{asked}");
    }
    drop(other);
    assert!(Store::open(&copy.location()).is_ok_and(|opening| opening.ids_through >= 300_000));
}

#[test]
fn only_a_copy_with_a_wal_is_checked() {
    let scratch = Scratch::new();
    let acquire = |directory: &Path| DataDir::create(directory, Actor::Broker).unwrap();
    let must_be_checked = |directory: &Path| acquire(directory).must_be_checked();
    acquire(&scratch.0).note_opened();
    for name in ["records.db", "records.db-wal"] {
        std::fs::write(scratch.0.join(name), "something").unwrap();
    }
    assert!(!must_be_checked(&scratch.0), "after a crash");
    let copy = Scratch::new();
    for name in ["records.db", "records.db-wal", "lock"] {
        std::fs::copy(scratch.0.join(name), copy.0.join(name)).unwrap();
    }
    assert!(must_be_checked(&copy.0) && must_be_checked(&copy.0));
    acquire(&copy.0).note_opened();
    assert!(!must_be_checked(&copy.0));
    std::fs::write(copy.0.join("lock"), "").unwrap();
    assert!(must_be_checked(&copy.0), "without the lock file of the original");
    std::fs::write(copy.0.join("records.db-wal"), "").unwrap();
    assert!(!must_be_checked(&copy.0), "without a WAL");
    std::fs::write(copy.0.join("records.db-wal"), "something").unwrap();
    std::fs::write(copy.0.join("lock"), "123").unwrap();
    assert!(!must_be_checked(&copy.0), "a version that noted only the process");
}
