//! Locations that can't be used, and damaged files.

use rusqlite::Connection;

use super::*;
use crate::records::progress::Silent;

fn open_error(location: &Location) -> String {
    match Store::open(location) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

/// Returns a closed store with some records.
fn filled() -> Scratch {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let names: Vec<_> = (0..50).map(|name| format!("name{name}")).collect();
    for _ in 0..20 {
        rig.insert_all(names.iter().map(|name| (name.as_str(), format!("\"{}\"", name.repeat(20)))));
    }
    scratch
}

#[test]
fn a_directory_is_locked_by_one_broker() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let pid = std::process::id();
    assert!(open_error(&scratch.location()).contains(&format!("is used by another broker (process {pid}); stop it")));
    assert!(check(&scratch.0, &Silent).is_err());
    assert!(load(&scratch.0, &mut &b""[..], &Silent).is_err());
    assert!(rig.insert("name", "1").is_ok(), "the broker that locked it continues");
    rig.store.close();
    let opening = Store::open(&scratch.location()).unwrap();
    assert!(open_error(&scratch.location()).contains("is used by another broker"), "it is locked before it is started");
    drop(opening);
    Rig::new(&scratch.location());
}

#[test]
fn a_file_is_refused_as_data_directory() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    let path = file.display();
    assert_eq!(
        open_error(&Location::Directory(file.clone())),
        format!("the data directory {path} can't be used: not a directory")
    );
    assert!(open_error(&Location::Directory(file.join("below"))).contains("can't be used"));
}

#[test]
fn unwritable_locations_are_refused() {
    let scratch = Scratch::new();
    // Directories replace the files, because permissions don't stop root.
    std::fs::create_dir(scratch.0.join("lock")).unwrap();
    assert!(open_error(&scratch.location()).contains("is not writable"));
    std::fs::remove_dir(scratch.0.join("lock")).unwrap();
    std::fs::create_dir(scratch.database()).unwrap();
    assert!(open_error(&scratch.location()).contains("records.db is a symbolic link or not a regular file"));
    let nowhere = Location::Directory("/proc/esker".into());
    assert!(open_error(&nowhere).contains("the data directory /proc/esker can't be used"));
}

#[test]
fn a_newer_format_is_refused_and_not_changed() {
    let scratch = filled();
    let connection = Connection::open(scratch.database()).unwrap();
    connection.pragma_update(None, "user_version", 3).unwrap();
    drop(connection);
    let before = std::fs::read(scratch.database()).unwrap();
    let error = open_error(&scratch.location());
    assert!(error.contains("have format 3, but this version supports only 2; use a newer version of Esker"), "{error}");
    assert!(check(&scratch.0, &Silent).is_err() && dump(&scratch.0, None, &mut Vec::new(), &Silent).is_err());
    assert!(std::fs::read(scratch.database()).unwrap() == before);
}

#[test]
fn another_programs_database_is_refused_and_not_changed() {
    let scratch = Scratch::new();
    let connection = Connection::open(scratch.database()).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let before = std::fs::read(scratch.database()).unwrap();
    assert!(open_error(&scratch.location()).contains("was not created by Esker"));
    assert!(std::fs::read(scratch.database()).unwrap() == before);
}

#[test]
fn another_programs_read_transaction_is_reported() {
    let scratch = Scratch::new();
    let tuning = Tuning { wal_growth: u64::MAX, wal_limit: u64::MAX, ..small_limits() };
    let rig = Rig::with(&scratch.location(), tuning);
    rig.insert("name", "1").unwrap();
    let copy = Scratch::copy_of(&scratch.0);
    let other = Connection::open(copy.database()).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    let error = open_error(&copy.location());
    assert!(error.contains("another program holds the database, such as a backup"), "{error}");
    drop(other);
    assert_eq!(Rig::new(&copy.location()).latest, rig.published());
}

#[test]
fn a_file_that_is_not_a_database_is_reported_as_damage() {
    let scratch = Scratch::new();
    std::fs::write(scratch.database(), "this is not a database, but some text in its place".repeat(100)).unwrap();
    let error = open_error(&scratch.location());
    assert!(error.contains("are damaged: file is not a database; run esker check"), "{error}");
}

#[test]
fn a_wal_without_its_database_is_reported_as_damage() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    rig.insert("name", "1").unwrap();
    for loss in [|path| std::fs::write(path, "").unwrap(), |path| std::fs::remove_file(path).unwrap()] {
        let copy = Scratch::copy_of(&scratch.0);
        loss(copy.database());
        assert!(open_error(&copy.location()).contains("records.db-wal exists without"));
        assert!(copy.0.join("records.db-wal").exists());
    }
}

#[test]
fn missing_rows_and_tables_are_reported_as_damage() {
    for (sql, what) in [
        ("DELETE FROM meta WHERE key = 'ceiling'", "Query returned no rows"),
        ("DELETE FROM records WHERE id = (SELECT latest FROM names WHERE key = 3)", "does not exist"),
        ("UPDATE names SET latest = NULL WHERE key = 4", "name 4 has no record"),
        ("UPDATE meta SET value = 1 WHERE key = 'indexed_through'; DELETE FROM names WHERE key = 1", "with name 1"),
        ("DROP TABLE names", "no such table"),
        ("UPDATE names SET key = 9223372036854775807 WHERE key = 3", "a key that was never assigned"),
        ("UPDATE names SET key = 0 WHERE key = 3", "a key that was never assigned"),
        (
            "INSERT INTO meta VALUES ('names_through', 9223372036854775807)",
            "the last key of a name is 9223372036854775807",
        ),
        ("INSERT INTO meta VALUES ('names_through', -1)", "the last key of a name is -1"),
    ] {
        let scratch = filled();
        Connection::open(scratch.database()).unwrap().execute_batch(sql).unwrap();
        let error = open_error(&scratch.location());
        assert!(error.contains(what), "{error}");
        assert!(!check(&scratch.0, &Silent).is_ok_and(|report| report.is_good()));
    }
}

/// Opening a truncated or overwritten file returns an error or a usable store.
#[test]
fn damaged_files_never_panic() {
    let scratch = filled();
    let whole = std::fs::read(scratch.database()).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..60 {
        let mut damaged = whole.clone();
        if round % 2 == 0 {
            damaged.truncate(random.usize(1..whole.len()));
        } else {
            let at = random.usize(..whole.len() - 4096);
            random.fill(&mut damaged[at..at + 4096]);
        }
        let copy = Scratch::new();
        std::fs::write(copy.database(), damaged).unwrap();
        let found = check(&copy.0, &Silent);
        assert!(!found.is_ok_and(|report| report.is_good()), "round {round}");
        let _ = dump(&copy.0, None, &mut Vec::new(), &Silent);
        match Store::open(&copy.location()) {
            Ok(opening) => assert!(opening.latest.len() <= 50),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("damaged") || error.contains("was not created by Esker"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_damaged_wal_keeps_a_prefix_of_the_records() {
    let scratch = Scratch::new();
    // Index slices are spread over the WAL; a power cut may take those after its last fsync.
    let tuning =
        Tuning { max_unindexed: 20, index_slice: 5, wal_growth: u64::MAX, wal_limit: u64::MAX, ..small_limits() };
    let rig = Rig::with(&scratch.location(), tuning);
    for number in 0..200 {
        rig.insert(&format!("name{}", number % 7), &number.to_string()).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let copy = Scratch::copy_of(&scratch.0);
        let path = copy.0.join("records.db-wal");
        let mut log = std::fs::read(&path).unwrap();
        if round % 2 == 0 {
            log.truncate(random.usize(1..log.len()));
        } else {
            let at = random.usize(32..log.len());
            log[at] ^= 0x55;
        }
        std::fs::write(path, log).unwrap();
        // Even the schema may have been in the damaged part.
        let Ok(opening) = Store::open(&copy.location()) else { continue };
        drop(opening);
        assert!(rig.published().starts_with(&contents(&copy.0)));
    }
}
