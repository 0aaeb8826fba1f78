//! What SQLite makes of a disk that fails, runs full or lies.

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
};

use super::*;

/// A disk with some rounds on it.
fn written(seed: u64) -> (Disk, Connection) {
    let disk = Disk::new(seed);
    let mut connection = connect(&disk).expect("it opens");
    connection.execute_batch(TABLE).expect("it is new");
    (0..10).for_each(|round| insert(&mut connection, round, 2_000).expect("there is room"));
    (disk, connection)
}

/// Goes on until it fails. The round that did.
fn first_failure(connection: &mut Connection, code: i32) -> u32 {
    let mut results = (10..200).map(|round| (round, insert(connection, round, 2_000)));
    let (round, result) = results.find(|(_, result)| result.is_err()).expect("it fails");
    assert_eq!(failure(result), code);
    round
}

#[test]
fn a_full_disk_takes_nothing_and_goes_on_when_there_is_room() {
    for more in 0..40_u32 {
        let (disk, mut connection) = written(more.into());
        let capacity = disk.used() + u64::from(more) * 1_000;
        disk.faults(|faults| faults.capacity = Some(capacity));
        let failed = first_failure(&mut connection, SQLITE_FULL);
        assert_eq!(rounds(&connection).unwrap(), Vec::from_iter(0..failed));
        disk.faults(|faults| faults.capacity = None);
        insert(&mut connection, failed, 2_000).unwrap();
        disk.cut_power();
        assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..=failed));
    }
}

#[test]
fn a_full_disk_has_no_room_for_the_logs_index() {
    let (disk, connection) = written(1);
    drop(connection);
    let size = file_len(&disk, "/test.db") as u64;
    disk.faults(|faults| faults.capacity = Some(size + 20_000));
    assert_eq!(failure(connect(&disk).and_then(|connection| rounds(&connection))), SQLITE_IOERR_SHMSIZE);
    disk.faults(|faults| faults.capacity = Some(size + 40_000));
    assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..10));
}

#[test]
fn what_fails_is_told_and_nothing_of_it_is_kept() {
    for seed in 0..40 {
        let (disk, mut connection) = written(seed);
        disk.faults(|faults| faults.writes_fail = 0.5);
        let failed = first_failure(&mut connection, SQLITE_IOERR_WRITE);
        disk.faults(|faults| faults.writes_fail = 1.0);
        assert_eq!(failure(insert(&mut connection, failed, 2_000)), SQLITE_IOERR_WRITE);
        disk.faults(|faults| faults.writes_fail = 0.0);
        assert_eq!(rounds(&connection).unwrap(), Vec::from_iter(0..failed));
        insert(&mut connection, failed, 2_000).unwrap();
        disk.cut_power();
        assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..=failed));
    }
}

#[test]
fn every_kind_of_failure_has_its_name() {
    let (disk, mut connection) = written(2);
    disk.faults(|faults| faults.syncs_fail = 1.0);
    assert_eq!(failure(insert(&mut connection, 10, 10)), SQLITE_IOERR_FSYNC);
    disk.faults(|faults| (faults.syncs_fail, faults.truncates_fail) = (0.0, 1.0));
    assert_eq!(failure(checkpoint(&connection, "TRUNCATE")), SQLITE_IOERR_TRUNCATE);
    disk.faults(|faults| (faults.truncates_fail, faults.reads_fail) = (0.0, 1.0));
    connection.execute_batch("PRAGMA shrink_memory").unwrap();
    assert_eq!(failure(rounds(&connection)), SQLITE_IOERR_READ);
    disk.faults(|faults| (faults.reads_fail, faults.opens_fail) = (0.0, 1.0));
    assert_eq!(failure(open(&disk)), SQLITE_CANTOPEN);
    assert!(disk.stats().failures >= 4);
}

/// What was answered with yes before stays; what comes after is not to be trusted, and that is why the store stops there.
#[test]
fn an_fsync_that_fails_takes_nothing_that_was_synced_before() {
    for seed in 0..200 {
        let (disk, mut connection) = written(seed);
        disk.faults(|faults| faults.syncs_fail = 1.0);
        assert_eq!(failure(insert(&mut connection, 10, 2_000)), SQLITE_IOERR_FSYNC);
        disk.faults(|faults| faults.syncs_fail = 0.0);
        if seed % 2 == 0 {
            disk.cut_power();
        } else {
            disk.kill();
        }
        let found = rounds(&connect(&disk).unwrap()).unwrap();
        assert!(found == Vec::from_iter(0..10) || found == Vec::from_iter(0..11), "{seed}: {found:?}");
    }
}

/// What comes of lies, for those who judge by it: commits are lost without a word, and once the log was moved the database may
/// be damaged, too, for SQLite begins the log anew as soon as it believes it to be on the disk.
#[test]
fn a_disk_that_lies_loses_commits_and_may_damage_the_database() {
    let (mut whole, mut shorter, mut damaged) = (0, 0, 0);
    for seed in 0..300 {
        let (disk, mut connection) = written(seed);
        disk.faults(|faults| faults.syncs_lie = 1.0);
        for round in 10..40 {
            insert(&mut connection, round, 2_000).unwrap();
            if round % 7 == 0 {
                checkpoint(&connection, "TRUNCATE").unwrap();
            }
        }
        disk.cut_power();
        let found = connect(&disk).and_then(|connection| match integrity(&connection)?.as_str() {
            "ok" => connection.query_row("SELECT count(DISTINCT round) FROM t", [], |row| row.get::<_, u32>(0)),
            _ => Err(rusqlite::Error::QueryReturnedNoRows),
        });
        match found {
            Ok(40) => whole += 1,
            Ok(_) => shorter += 1,
            Err(_) => damaged += 1,
        }
    }
    println!("of 300: {whole} whole, {shorter} shorter, {damaged} damaged");
    assert!(whole > 0 && shorter > 0 && damaged > 0, "{whole}, {shorter}, {damaged}");
}
