//! StreamLimiter that can't be used, and files that are not what they should be.

use rusqlite::Connection;

use super::*;

fn refusal(place: &Location) -> String {
    match Store::open(place) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

/// A store with some records, closed.
fn filled() -> Scratch {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.place());
    let names: Vec<_> = (0..50).map(|name| format!("name{name}")).collect();
    for _ in 0..20 {
        rig.insert_all(names.iter().map(|name| (name.as_str(), format!("\"{}\"", name.repeat(20)))));
    }
    scratch
}

#[test]
fn a_directory_has_one_broker() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.place());
    let pid = std::process::id();
    assert!(refusal(&scratch.place()).contains(&format!("is used by another broker (process {pid}); stop it")));
    assert!(check(&scratch.0).is_err());
    assert!(load(&scratch.0, &mut &b""[..]).is_err());
    assert!(rig.insert("name", "1").is_ok(), "whoever has it keeps it");
    rig.store.close();
    let opening = Store::open(&scratch.place()).unwrap();
    assert!(refusal(&scratch.place()).contains("is used by another broker"), "before it is started, too");
    drop(opening);
    Rig::new(&scratch.place());
}

#[test]
fn a_file_is_no_directory() {
    let scratch = Scratch::new();
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    let path = file.display();
    assert_eq!(
        refusal(&Location::Directory(file.clone())),
        format!("the data directory {path} can't be used: not a directory")
    );
    assert!(refusal(&Location::Directory(file.join("below"))).contains("can't be used"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let scratch = Scratch::new();
    // As no permission stops root, something else stands where the files should be.
    std::fs::create_dir(scratch.0.join("lock")).unwrap();
    assert!(refusal(&scratch.place()).contains("is not writable"));
    std::fs::remove_dir(scratch.0.join("lock")).unwrap();
    std::fs::create_dir(scratch.database()).unwrap();
    assert!(refusal(&scratch.place()).contains("records.db is a symbolic link or not a regular file"));
    let nowhere = Location::Directory("/proc/esker".into());
    assert!(refusal(&nowhere).contains("the data directory /proc/esker can't be used"));
}

#[test]
fn a_newer_format_is_left_alone() {
    let scratch = filled();
    let connection = Connection::open(scratch.database()).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    let before = std::fs::read(scratch.database()).unwrap();
    let said = refusal(&scratch.place());
    assert!(said.contains("have format 2, but this version supports only 1; use a newer version of Esker"), "{said}");
    assert!(check(&scratch.0).is_err() && dump(&scratch.0, None, &mut Vec::new()).is_err());
    assert!(std::fs::read(scratch.database()).unwrap() == before);
}

#[test]
fn another_programs_database_is_left_alone() {
    let scratch = Scratch::new();
    let connection = Connection::open(scratch.database()).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    let before = std::fs::read(scratch.database()).unwrap();
    assert!(refusal(&scratch.place()).contains("was not created by Esker"));
    assert!(std::fs::read(scratch.database()).unwrap() == before);
}

#[test]
fn another_programs_reading_is_told() {
    let scratch = Scratch::new();
    let tuning = Tuning { log_growth: u64::MAX, log_bound: u64::MAX, ..hasty() };
    let rig = Rig::with(&scratch.place(), tuning);
    rig.insert("name", "1").unwrap();
    let copy = Scratch::copy_of(&scratch.0);
    let other = Connection::open(copy.database()).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    assert!(refusal(&copy.place()).contains("has locked the database"));
    drop(other);
    assert_eq!(Rig::new(&copy.place()).latest, rig.published());
}

#[test]
fn garbage_is_damage() {
    let scratch = Scratch::new();
    std::fs::write(scratch.database(), "this is no database, but some text that stands in its place".repeat(100))
        .unwrap();
    let said = refusal(&scratch.place());
    assert!(said.contains("are damaged: file is not a database; run esker check"), "{said}");
}

#[test]
fn a_log_without_its_database_is_damage() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.place());
    rig.insert("name", "1").unwrap();
    for loss in [|path| std::fs::write(path, "").unwrap(), |path| std::fs::remove_file(path).unwrap()] {
        let copy = Scratch::copy_of(&scratch.0);
        loss(copy.database());
        assert!(refusal(&copy.place()).contains("records.db-wal exists without"));
        assert!(copy.0.join("records.db-wal").exists());
    }
}

#[test]
fn what_is_missing_in_the_tables_is_damage() {
    for (sql, what) in [
        ("DELETE FROM meta WHERE key = 'ceiling'", "Query returned no rows"),
        ("DELETE FROM records WHERE id = (SELECT latest FROM names WHERE key = 3)", "does not exist"),
        ("UPDATE names SET latest = NULL WHERE key = 4", "name 4 has no record"),
        ("UPDATE meta SET value = 1 WHERE key = 'indexed_through'; DELETE FROM names WHERE key = 1", "with name 1"),
        ("DROP TABLE names", "no such table"),
        ("UPDATE names SET key = 9223372036854775807 WHERE key = 3", "a key that was never assigned"),
        ("UPDATE names SET key = 0 WHERE key = 3", "a key that was never assigned"),
    ] {
        let scratch = filled();
        Connection::open(scratch.database()).unwrap().execute_batch(sql).unwrap();
        let said = refusal(&scratch.place());
        assert!(said.contains(what), "{said}");
        assert!(!check(&scratch.0).is_ok_and(|report| report.is_good()));
    }
}

/// Cut and overwritten files: an error in words, or a store that is as good as it says.
#[test]
fn torn_files_never_panic() {
    let scratch = filled();
    let whole = std::fs::read(scratch.database()).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..60 {
        let mut torn = whole.clone();
        if round % 2 == 0 {
            torn.truncate(random.usize(1..whole.len()));
        } else {
            let at = random.usize(..whole.len() - 4096);
            random.fill(&mut torn[at..at + 4096]);
        }
        let copy = Scratch::new();
        std::fs::write(copy.database(), torn).unwrap();
        let found = check(&copy.0);
        assert!(!found.is_ok_and(|report| report.is_good()), "round {round}");
        let _ = dump(&copy.0, None, &mut Vec::new());
        match Store::open(&copy.place()) {
            Ok(opening) => assert!(opening.latest.len() <= 50),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("damaged") || said.contains("was not created by Esker"), "{said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn a_torn_log_keeps_what_is_whole() {
    let scratch = Scratch::new();
    // Slices of the index are all over the log; those behind its last fsync are what a loss of power may take.
    let tuning = Tuning { unindexed: 20, slice: 5, log_growth: u64::MAX, log_bound: u64::MAX, ..hasty() };
    let rig = Rig::with(&scratch.place(), tuning);
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
        // The tables themselves may have been in the torn part.
        let Ok(opening) = Store::open(&copy.place()) else { continue };
        drop(opening);
        assert!(rig.published().starts_with(&contents(&copy.0)));
    }
}
