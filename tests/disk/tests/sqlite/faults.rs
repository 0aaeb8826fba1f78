//! How SQLite behaves on a disk that fails, is full or reports false fsyncs.

use rusqlite::ffi::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
};

use super::*;

/// Returns a disk with ten rounds.
fn written(seed: u64) -> (Disk, Connection) {
    let disk = Disk::new(seed);
    let mut connection = connect(&disk).expect("it opens");
    connection.execute_batch(TABLE).expect("the database is new");
    (0..10).for_each(|round| insert(&mut connection, round, 2_000).expect("there is room"));
    (disk, connection)
}

/// Inserts until an insert fails, and returns its round.
fn first_failure(connection: &mut Connection, code: i32) -> u32 {
    let mut results = (10..200).map(|round| (round, insert(connection, round, 2_000)));
    let (round, result) = results.find(|(_, result)| result.is_err()).expect("it fails");
    assert_eq!(failure(result), code);
    round
}

#[test]
fn a_full_disk_refuses_inserts_until_space_is_freed() {
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
fn a_full_disk_has_no_room_for_the_wal_index() {
    let (disk, connection) = written(1);
    drop(connection);
    let size = file_len(&disk, "/test.db") as u64;
    disk.faults(|faults| faults.capacity = Some(size + 20_000));
    assert_eq!(failure(connect(&disk).and_then(|connection| rounds(&connection))), SQLITE_IOERR_SHMSIZE);
    disk.faults(|faults| faults.capacity = Some(size + 40_000));
    assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..10));
}

#[test]
fn failed_inserts_are_reported_and_rolled_back() {
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
fn every_kind_of_failure_has_its_result_code() {
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

/// Earlier commits are kept. Later ones can't be trusted, which is why the store stops after a failed fsync.
#[test]
fn a_failed_fsync_loses_no_earlier_commit() {
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

/// Shows what false fsyncs cause: commits are lost silently, and after a checkpoint the database may be damaged as well,
/// because SQLite restarts the WAL as soon as it believes the database to be synced.
#[test]
fn false_fsyncs_lose_commits_and_may_damage_the_database() {
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
