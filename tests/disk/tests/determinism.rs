//! The same seed and the same calls produce the same bytes and results. The only test of its process, because SQLite's
//! random number generator belongs to the process.

use esker_disk::{Disk, seed_sqlite};
use rusqlite::{Connection, OpenFlags};

/// The result of a run.
struct Outcome {
    files: Vec<(String, Vec<u8>)>,
    calls: Vec<String>,
    digest: u64,
}

/// Writes to a failing disk that crashes again and again.
fn run(seed: u64) -> Outcome {
    seed_sqlite(7);
    let disk = Disk::new(seed);
    disk.record_calls();
    disk.faults(|faults| (faults.writes_fail, faults.syncs_fail, faults.reads_fail) = (0.01, 0.01, 0.001));
    for crash in 0..20 {
        disk.cut_power_after(40 + crash);
        while disk.crashes() == crash {
            // The outcome is compared, whether it fails or not.
            let _ = work(&disk);
        }
    }
    Outcome { files: disk.files(), calls: disk.take_calls(), digest: disk.stats().digest }
}

fn work(disk: &Disk) -> rusqlite::Result<()> {
    let connect = || Connection::open_with_flags_and_vfs("/test.db", OpenFlags::default(), disk.vfs().as_str());
    let [one, other] = [connect()?, connect()?];
    one.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (data BLOB)")?;
    for round in 0..10 {
        one.execute("INSERT INTO t VALUES (zeroblob(?1)), (randomblob(100))", [round * 300])?;
        other.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?;
    }
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[test]
fn a_seed_determines_the_run() {
    for seed in 0..20 {
        let (one, other) = (run(seed), run(seed));
        let differing = one.calls.iter().zip(&other.calls).find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!((one.digest, one.calls.len()), (other.digest, other.calls.len()), "seed {seed}");
        assert!(one.files == other.files, "seed {seed}: the bytes differ");
        assert_ne!(one.digest, run(seed + 1).digest, "seed {seed} and the next differ");
    }
}
