//! Losses of power and killed processes, in the midst of everything.

use esker_disk::Faults;

use super::*;

/// A place to draw from that is not the disk's.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// What was committed, and what was about to be.
#[derive(Default)]
struct Account {
    committed: Vec<u32>,
    begun: Option<u32>,
    next: u32,
}

impl Account {
    /// What is there after a crash must be what was committed, with or without what was about to be.
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

/// Opens and writes until the disk crashes.
fn work(disk: &Disk, mode: &str, account: &mut Account, draw: &mut Draw) -> rusqlite::Result<()> {
    let mut connection = open(disk)?;
    connection.pragma_update(None, "journal_mode", mode)?;
    connection.pragma_update(None, "synchronous", if mode == "WAL" { "FULL" } else { "EXTRA" })?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.execute_batch(&TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))?;
    loop {
        match draw.below(12) {
            0 => drop(checkpoint(&connection, "PASSIVE")?),
            1 => drop(checkpoint(&connection, "TRUNCATE")?),
            2 => drop(open(disk)?.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?),
            3 => return connection.close().map_err(|(_, error)| error),
            _ => {
                account.begun = Some(account.next);
                account.next += 1;
                insert(&mut connection, account.next - 1, draw.below(3_000))?;
                account.committed.extend(account.begun.take());
            }
        }
    }
}

/// Crashes one disk again and again. How often something that was about to be committed was there.
fn crash_often(seed: u64, times: usize, mode: &str, set: impl FnOnce(&mut Faults)) -> usize {
    let disk = Disk::new(seed);
    disk.faults(set);
    let (mut account, mut draw, mut came_through) = (Account::default(), Draw(seed), 0);
    for _ in 0..times {
        let crashes = disk.crashes();
        let changes = draw.below(60) as u64;
        if draw.below(4) == 0 {
            disk.kill_after(changes);
        } else {
            disk.cut_power_after(changes);
        }
        while disk.crashes() == crashes {
            let worked = work(&disk, mode, &mut account, &mut draw);
            assert!(worked.is_ok() || disk.crashes() > crashes, "seed {seed}: {worked:?}");
        }
        let connection = open(&disk).expect("it opens after a crash");
        let committed = account.committed.len();
        match connection.prepare("SELECT * FROM t").map(drop) {
            Ok(()) => account.check(&rounds(&connection).expect("it can be read"), seed),
            Err(_) => account.check(&[], seed),
        }
        came_through += account.committed.len() - committed;
    }
    came_through
}

#[test]
fn what_was_committed_to_a_log_is_there_after_every_crash() {
    let came_through: usize = (0..60).map(|seed| crash_often(seed, 40, "WAL", |_| ())).sum();
    assert!(came_through > 50, "{came_through}");
}

#[test]
fn nor_is_a_disk_needed_that_leaves_the_bytes_beside_alone() {
    for seed in 100..120 {
        crash_often(seed, 40, "WAL", |faults| {
            faults.powersafe_overwrite = false;
            faults.sector_bytes = 512 << (seed % 4);
        });
    }
}

#[test]
fn what_was_committed_with_a_journal_is_there_after_every_crash() {
    for seed in 200..220 {
        crash_often(seed, 40, "DELETE", |_| ());
    }
}

#[test]
fn a_kill_takes_nothing_that_was_written() {
    let disk = Disk::new(1);
    let mut connection = connect(&disk).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.execute_batch(TABLE).unwrap();
    (0..20).for_each(|round| insert(&mut connection, round, 100).unwrap());
    disk.kill();
    assert!(insert(&mut connection, 20, 100).is_err(), "the dead write nothing");
    assert_eq!(rounds(&connect(&disk).unwrap()).unwrap(), Vec::from_iter(0..20));
}

#[test]
fn without_fsync_a_loss_of_power_takes_commits() {
    let lost = |seed| {
        let disk = Disk::new(seed);
        let mut connection = connect(&disk).unwrap();
        connection.execute_batch(TABLE).unwrap();
        connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
        (0..20).for_each(|round| insert(&mut connection, round, 100).unwrap());
        disk.cut_power();
        let found = rounds(&connect(&disk).unwrap()).unwrap();
        assert_eq!(found, Vec::from_iter(0..found.len() as u32), "the last go first");
        20 - found.len()
    };
    assert!((0..40).map(lost).sum::<usize>() > 40);
}

#[test]
fn the_dead_stay_dead() {
    let disk = Disk::new(3);
    let mut dead = connect(&disk).unwrap();
    dead.execute_batch(TABLE).unwrap();
    insert(&mut dead, 0, 100).unwrap();
    disk.cut_power();
    let mut living = connect(&disk).unwrap();
    insert(&mut living, 1, 100).unwrap();
    let files = disk.files();
    assert!(insert(&mut dead, 2, 100).is_err() && rounds(&dead).is_err() && checkpoint(&dead, "TRUNCATE").is_err());
    drop(dead);
    assert_eq!(disk.files(), files);
    insert(&mut living, 3, 100).unwrap();
    assert_eq!(rounds(&living).unwrap(), [0, 1, 3]);
}
