//! Without faults, the simulated disk behaves like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::ffi::{SQLITE_BUSY, SQLITE_IOERR};

use super::*;

#[test]
fn the_wal_is_written_and_checkpointed() {
    let disk = Disk::new(1);
    let mut writer = connect(&disk).unwrap();
    let mode: String = writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    writer.execute_batch(TABLE).unwrap();
    (0..50).for_each(|round| insert(&mut writer, round, 3_000).unwrap());
    let checkpointer = connect(&disk).unwrap();
    let (frames, checkpointed, _) = checkpoint(&checkpointer, "NOOP").unwrap();
    assert!(frames > 50 && checkpointed == 0, "{frames} and {checkpointed}");
    assert_eq!(file_len(&disk, "/test.db-wal"), 32 + frames as usize * (24 + 4096));
    assert_eq!(checkpoint(&checkpointer, "PASSIVE").unwrap(), (frames, frames, false));
    assert_eq!(checkpoint(&checkpointer, "TRUNCATE").unwrap(), (0, 0, false));
    assert_eq!(file_len(&disk, "/test.db-wal"), 0);
    assert_eq!(rounds(&checkpointer).unwrap(), Vec::from_iter(0..50));
    drop((writer, checkpointer));
    assert_eq!(disk.files().len(), 1, "the last connection deletes the WAL when it closes");
    assert_eq!(rounds(&open(&disk).unwrap()).unwrap(), Vec::from_iter(0..50));
}

#[test]
fn a_reader_keeps_its_snapshot_and_blocks_checkpoints() {
    let disk = Disk::new(2);
    let mut writer = connect(&disk).unwrap();
    writer.execute_batch(TABLE).unwrap();
    insert(&mut writer, 0, 10).unwrap();
    let reader = connect(&disk).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(rounds(&reader).unwrap(), [0]);
    insert(&mut writer, 1, 10).unwrap();
    let (frames, checkpointed, _) = checkpoint(&writer, "PASSIVE").unwrap();
    assert!(checkpointed < frames, "{checkpointed} of {frames}");
    assert!(checkpoint(&writer, "TRUNCATE").unwrap().2);
    assert_eq!(rounds(&reader).unwrap(), [0]);
    reader.execute_batch("COMMIT").unwrap();
    assert!(!checkpoint(&writer, "TRUNCATE").unwrap().2);
    assert_eq!(rounds(&reader).unwrap(), [0, 1]);
}

#[test]
fn one_connection_writes_at_a_time_and_waiting_calls_the_hook() {
    let disk = Disk::new(3);
    let slept = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&slept);
    disk.on_sleep(move |time| {
        counted.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    });
    for mode in ["WAL", "DELETE"] {
        let [one, other] = [(); 2].map(|()| open(&disk).unwrap());
        one.pragma_update(None, "journal_mode", mode).unwrap();
        other.busy_timeout(Duration::from_secs(5)).unwrap();
        one.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(failure(other.execute_batch("BEGIN IMMEDIATE")), SQLITE_BUSY, "{mode}");
        one.execute_batch("COMMIT").unwrap();
        other.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        assert!((4_000..=5_000).contains(&slept.swap(0, Ordering::Relaxed)), "{mode}");
    }
}

#[test]
fn threads_write_through_their_own_connections() {
    let disk = Disk::new(4);
    disk.on_sleep(thread::sleep);
    connect(&disk).unwrap().execute_batch(TABLE).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let disk = &disk;
            scope.spawn(move || {
                let mut connection = connect(disk).unwrap();
                connection.busy_timeout(Duration::from_secs(60)).unwrap();
                for round in 0..50 {
                    insert(&mut connection, round * 4 + thread, 500).unwrap();
                    checkpoint(&connection, "PASSIVE").unwrap();
                }
            });
        }
    });
    assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..200));
}

#[test]
fn temporary_files_have_no_name() {
    let disk = Disk::new(5);
    let connection = connect(&disk).unwrap();
    connection.execute_batch("PRAGMA temp_store = FILE; PRAGMA cache_size = 10").unwrap();
    let sum: i64 = connection
        .query_row(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             SELECT sum(i) FROM (SELECT i FROM n ORDER BY hex(i) || zeroblob(200) DESC)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(sum, 20_000 * 20_001 / 2);
    assert_eq!(disk.files().len(), 1);
}

#[test]
fn the_time_comes_from_the_disk() {
    let disk = Disk::new(6);
    disk.set_time(1_700_000_000_123);
    let connection = open(&disk).unwrap();
    let now: String =
        connection.query_row("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')", [], |row| row.get(0)).unwrap();
    assert_eq!(now, "2023-11-14T22:13:20.123");
}

#[test]
fn the_name_of_an_earlier_session_opens_nothing() {
    let disk = Disk::new(7);
    let old = disk.vfs();
    let first = open(&disk).unwrap();
    disk.kill();
    let again = Connection::open_with_flags_and_vfs("/test.db", OpenFlags::default(), old.as_str());
    assert_eq!(failure(again.and_then(|connection| connection.execute_batch("PRAGMA schema_version"))), SQLITE_IOERR);
    drop(first);
    open(&disk).unwrap().execute_batch(TABLE).unwrap();
}
