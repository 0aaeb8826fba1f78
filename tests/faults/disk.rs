//! The disk is slow, refuses writes, fails to sync, or is full, while many clients insert records. Acknowledged and delivered
//! records survive a restart, and topics are unaffected.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::Ledger;
use super::records::{Inserter, Stored};
use super::support::{Broker, DiskFault, FaultyDisk, TIMEOUT, TempDir, on_small_disk};

const INSERTERS: usize = 16;

// Records are small, so that the store's caches, which are bounded and stay, hardly grow between two rounds.

/// Inserts from many connections during `act`. Returns how many inserts were refused.
fn insert_during(broker: &Broker, stored: &Arc<Stored>, act: impl FnOnce()) -> usize {
    let (is_over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..INSERTERS {
            let mut inserter = Inserter::new(broker.address, &format!("name{number}"), stored);
            let (is_over, refused) = (&is_over, &refused);
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    if !inserter.insert() {
                        refused.fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        }
        act();
        is_over.store(true, SeqCst);
    });
    refused.into_inner()
}

/// Waits until this many more records are acknowledged.
fn await_more(stored: &Stored, count: usize) {
    let (before, begin) = (stored.len(), Instant::now());
    while stored.len() < before + count {
        assert!(begin.elapsed() < TIMEOUT, "inserts don't resume");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nothing is acknowledged for a while.
fn await_standstill(stored: &Stored) {
    let (mut before, begin) = (usize::MAX, Instant::now());
    while before != stored.len() {
        assert!(begin.elapsed() < TIMEOUT, "inserts never stop");
        before = stored.len();
        thread::sleep(Duration::from_millis(300));
    }
}

fn await_health(broker: &Broker, status: u16) {
    let begin = Instant::now();
    while broker.get("/healthz").status != status {
        assert!(begin.elapsed() < TIMEOUT, "/healthz never returns {status}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_slow_disk_slows_down_only_records() {
    let _lock = lock_machine();
    let disk = FaultyDisk::new();
    let broker = disk.start(&["--heartbeat", "1s"]);
    let (fast, stored, ledger) = (FastSubscribers::start(&broker, 100), Stored::new(), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    let mut refused = 0;
    assert_survives("disk slow", &broker, 100 + 1 + 1, SLACK, || {
        disk.inject(DiskFault::Slow);
        refused += insert_during(&broker, &stored, || {
            await_more(&stored, 5 * INSERTERS);
            fast.await_more(50);
        });
        disk.remove(DiskFault::Slow);
        insert_during(&broker, &stored, || await_more(&stored, 10 * INSERTERS));
        disk.inject(DiskFault::Hung);
        insert_during(&broker, &stored, || {
            await_standstill(&stored);
            fast.await_more(50);
            stored.assert_all_stored(&broker);
            disk.remove(DiskFault::Hung);
        });
    });
    eprintln!("{} records kept, {refused} refused, each fast subscriber got {}", stored.len(), fast.finish());
    oracle.judge();
    broker.signal("KILL");
    broker.wait();
    stored.assert_all_stored(&disk.start(&[]));
}

#[test]
fn a_failing_disk_loses_nothing_acknowledged_or_delivered() {
    let _lock = lock_machine();
    for fault in [DiskFault::Failing, DiskFault::Refusing] {
        let disk = FaultyDisk::new();
        let mut broker = disk.start(&["--heartbeat", "1s"]);
        let stored = Stored::new();
        for _ in 0..3 {
            let fast = FastSubscribers::start(&broker, 50);
            let mut listener = broker.subscribe("/events", "");
            let refused = insert_during(&broker, &stored, || {
                await_more(&stored, 10 * INSERTERS);
                disk.inject(fault);
                await_health(&broker, 503);
                fast.await_more(20);
                disk.remove(fault);
            });
            let kept = stored.len();
            eprintln!("{fault:?}: {kept} kept, {refused} refused, each fast subscriber got {}", fast.finish());
            stored.assert_all_stored(&broker);
            broker.signal("KILL");
            broker.wait();
            broker = disk.start(&["--heartbeat", "1s"]);
            stored.assert_all_stored(&broker);
            let mut delivered = Vec::new();
            while let Some(event) = listener.event_within(Duration::from_millis(500)) {
                delivered.push((event.name.clone().expect("a record has a name"), event.number(), event.data));
            }
            super::records::assert_delivered_are_stored(&broker, &delivered);
        }
        assert!(insert_during(&broker, &stored, || await_more(&stored, INSERTERS)) == 0, "inserts succeed again");
        broker.assert_healthy();
    }
}

/// Another program uses up all free space.
#[test]
fn the_store_recovers_after_another_program_filled_the_disk() {
    let _lock = lock_machine();
    let dir = TempDir::new();
    let mount_point = dir.path.join("data").display().to_string();
    std::fs::create_dir(&mount_point).expect("a directory can be made");
    let broker =
        Broker::start_command(on_small_disk(&mount_point, "200M"), &["--data", &mount_point, "--heartbeat", "1s"]);
    let filler = format!("/proc/{}/root{mount_point}/filler", broker.pid());
    let (fast, stored) = (FastSubscribers::start(&broker, 100), Stored::new());
    let mut refused = 0;
    assert_survives("disk full", &broker, 100 + 1, SLACK, || {
        for _ in 0..2 {
            refused += insert_during(&broker, &stored, || {
                await_more(&stored, 20 * INSERTERS);
                fill(Path::new(&filler));
                await_health(&broker, 503);
                fast.await_more(20);
                std::fs::remove_file(&filler).expect("it is there");
                await_health(&broker, 200);
                await_more(&stored, 20 * INSERTERS);
            });
        }
    });
    stored.assert_all_stored(&broker);
    eprintln!("{} records kept, {refused} refused, each fast subscriber got {}", stored.len(), fast.finish());
}

/// Writes until the disk is full.
fn fill(filler: &Path) {
    let mut file = std::fs::File::create(filler).expect("root reaches into the broker's disk");
    let block = vec![0; 1 << 20];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}
