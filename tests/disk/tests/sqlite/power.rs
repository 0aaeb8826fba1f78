//! Power cuts and killed processes at any moment.

use esker_disk::Faults;

use super::*;

/// A random number generator that is independent of the disk's.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// The rounds that were committed, and the one whose commit was interrupted.
#[derive(Default)]
struct Expected {
    committed: Vec<u32>,
    begun: Option<u32>,
    next: u32,
}

impl Expected {
    /// Checks that exactly the committed rounds exist after a crash, with or without the interrupted one.
    fn check(&mut self, found: &[u32], seed: u64) {
        let with: Vec<u32> = self.committed.iter().copied().chain(self.begun).collect();
        assert!(
            found == self.committed || found == with,
            "seed {seed}: {found:?} of {:?} and {:?}",
            self.committed,
            self.begun
        );
        self.committed = found.to_vec();
        self.begun = None;
    }
}

/// Opens the database and writes until the disk crashes.
fn work(disk: &Disk, mode: &str, expected: &mut Expected, rng: &mut Rng) -> rusqlite::Result<()> {
    let mut connection = open(disk)?;
    connection.pragma_update(None, "journal_mode", mode)?;
    connection.pragma_update(None, "synchronous", if mode == "WAL" { "FULL" } else { "EXTRA" })?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.execute_batch(&TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))?;
    loop {
        match rng.below(12) {
            0 => drop(checkpoint(&connection, "PASSIVE")?),
            1 => drop(checkpoint(&connection, "TRUNCATE")?),
            2 => drop(open(disk)?.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?),
            3 => return connection.close().map_err(|(_, error)| error),
            _ => {
                expected.begun = Some(expected.next);
                expected.next += 1;
                insert(&mut connection, expected.next - 1, rng.below(3_000))?;
                expected.committed.extend(expected.begun.take());
            }
        }
    }
}

/// Crashes a disk again and again. Returns how often an interrupted commit survived.
fn crash_often(seed: u64, times: usize, mode: &str, set: impl FnOnce(&mut Faults)) -> usize {
    let disk = Disk::new(seed);
    disk.faults(set);
    let (mut expected, mut rng, mut survived) = (Expected::default(), Rng(seed), 0);
    for _ in 0..times {
        let crashes = disk.crashes();
        let changes = rng.below(60) as u64;
        if rng.below(4) == 0 {
            disk.kill_after(changes);
        } else {
            disk.cut_power_after(changes);
        }
        while disk.crashes() == crashes {
            let worked = work(&disk, mode, &mut expected, &mut rng);
            assert!(worked.is_ok() || disk.crashes() > crashes, "seed {seed}: {worked:?}");
        }
        let connection = open(&disk).expect("it opens after a crash");
        let committed = expected.committed.len();
        match connection.prepare("SELECT * FROM t").map(drop) {
            Ok(()) => expected.check(&rounds(&connection).expect("it can be read"), seed),
            Err(_) => expected.check(&[], seed),
        }
        survived += expected.committed.len() - committed;
    }
    survived
}

#[test]
fn commits_in_wal_mode_survive_every_crash() {
    let survived: usize = (0..60).map(|seed| crash_often(seed, 40, "WAL", |_| ())).sum();
    assert!(survived > 50, "{survived}");
}

#[test]
fn commits_survive_without_power_safe_overwrites() {
    for seed in 100..120 {
        crash_often(seed, 40, "WAL", |faults| {
            faults.powersafe_overwrite = false;
            faults.sector_bytes = 512 << (seed % 4);
        });
    }
}

#[test]
fn commits_with_a_rollback_journal_survive_every_crash() {
    for seed in 200..220 {
        crash_often(seed, 40, "DELETE", |_| ());
    }
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let disk = Disk::new(1);
    let mut connection = connect(&disk).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.execute_batch(TABLE).unwrap();
    (0..20).for_each(|round| insert(&mut connection, round, 100).unwrap());
    disk.kill();
    assert!(insert(&mut connection, 20, 100).is_err(), "a killed process writes nothing");
    assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..20));
}

#[test]
fn without_fsync_a_power_cut_loses_commits() {
    let lost = |seed| {
        let disk = Disk::new(seed);
        let mut connection = connect(&disk).unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        (0..20).for_each(|round| insert(&mut connection, round, 100).unwrap());
        disk.cut_power();
        let found = rounds(&connect(&disk).unwrap()).unwrap();
        assert_eq!(found, Vec::from_iter(0..found.len() as u32), "the newest are lost");
        20 - found.len()
    };
    assert!((0..40).map(lost).sum::<usize>() > 40);
}

#[test]
fn connections_of_an_earlier_session_stay_unusable() {
    let disk = Disk::new(3);
    let mut old = connect(&disk).unwrap();
    old.execute_batch(TABLE).unwrap();
    insert(&mut old, 0, 100).unwrap();
    disk.cut_power();
    let mut new = connect(&disk).unwrap();
    insert(&mut new, 1, 100).unwrap();
    let files = disk.files();
    assert!(insert(&mut old, 2, 100).is_err() && rounds(&old).is_err() && checkpoint(&old, "TRUNCATE").is_err());
    drop(old);
    assert_eq!(disk.files(), files);
    insert(&mut new, 3, 100).unwrap();
    assert_eq!(rounds(&new).unwrap(), [0, 1, 3]);
}
