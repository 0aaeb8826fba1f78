//! SQLite on the simulated disk, as the store uses it: its guarantees hold through every fault except false fsyncs.

mod faults;
mod plain;
mod power;

use esker_disk::Disk;
use rusqlite::{Connection, OpenFlags};

/// The table that these tests write.
const TABLE: &str = "CREATE TABLE t (round INTEGER, part INTEGER, data BLOB, PRIMARY KEY (round, part))";
/// The number of rows in a transaction.
const PARTS: u32 = 3;

/// Returns a connection in WAL mode with durable commits.
fn connect(disk: &Disk) -> rusqlite::Result<Connection> {
    let connection = open(disk)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

fn open(disk: &Disk) -> rusqlite::Result<Connection> {
    Connection::open_with_flags_and_vfs("/test.db", OpenFlags::default(), disk.vfs().as_str())
}

/// Inserts all rows of a round in one transaction.
fn insert(connection: &mut Connection, round: u32, bytes: usize) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for part in 0..PARTS {
        transaction.prepare("INSERT INTO t VALUES (?1, ?2, ?3)")?.execute((
            round,
            part,
            vec![round.to_le_bytes()[0]; bytes],
        ))?;
    }
    transaction.commit()
}

/// Returns the existing rounds, after checking that the file is intact and each round complete and unchanged.
fn rounds(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    assert_eq!(integrity(connection)?, "ok");
    let mut statement = connection.prepare("SELECT round, data FROM t ORDER BY round, part")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(u32, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    let rounds = rows.chunks(PARTS as usize).map(|parts| {
        let round = parts[0].0;
        assert_eq!(parts.len(), PARTS as usize, "round {round} is incomplete");
        let is_whole =
            |part: &(u32, Vec<u8>)| part.0 == round && part.1.iter().all(|byte| *byte == round.to_le_bytes()[0]);
        assert!(parts.iter().all(is_whole), "round {round} is mixed up");
        round
    });
    Ok(rounds.collect())
}

fn integrity(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}

/// Returns the frames of the WAL, how many are checkpointed, and whether the checkpoint was blocked.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64, bool)> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| Ok((row.get(1)?, row.get(2)?, row.get(0)?)))
}

/// Returns SQLite's extended result code of a failure.
fn failure(result: rusqlite::Result<impl Sized>) -> i32 {
    result
        .err()
        .and_then(|error| error.sqlite_error().map(|error| error.extended_code))
        .expect("it fails with a result code")
}

fn file_len(disk: &Disk, name: &str) -> usize {
    disk.files().iter().find(|file| file.0 == name).map_or(0, |file| file.1.len())
}
