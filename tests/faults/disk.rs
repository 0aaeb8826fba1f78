//! The disk gets slow, refuses writes, fails to sync, or is full, while records come from many sides. What was acknowledged is
//! there after a restart, what was shown is, too, and topics go on as if nothing were the matter.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::oracle::{Oracle, Pace};
use super::publisher::Ledger;
use super::records::{Inserter, Stored};
use super::support::{Broker, Disk, Folder, PATIENCE, Trouble, on_small_disk};
use super::turn;

const INSERTERS: usize = 16;

// All records are small, so that the store's caches, which are bounded and stay, hardly grow between two rounds.

/// Inserts from many sides while something is done; how many were refused.
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

/// Until so many more are acknowledged.
fn await_more(stored: &Stored, count: usize) {
    let (before, begin) = (stored.len(), Instant::now());
    while stored.len() < before + count {
        assert!(begin.elapsed() < PATIENCE, "inserts don't go on");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Until nothing is acknowledged for a while.
fn await_standstill(stored: &Stored) {
    let (mut before, begin) = (usize::MAX, Instant::now());
    while before != stored.len() {
        assert!(begin.elapsed() < PATIENCE, "inserts go on");
        before = stored.len();
        thread::sleep(Duration::from_millis(300));
    }
}

fn await_health(broker: &Broker, status: u16) {
    let begin = Instant::now();
    while broker.get("/healthz").status != status {
        assert!(begin.elapsed() < PATIENCE, "the store never comes to {status}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_slow_disk_slows_down_records_and_nothing_else() {
    let _turn = turn();
    let disk = Disk::new();
    let broker = disk.start(&["--heartbeat", "1s"]);
    let (fast, stored, ledger) = (Fast::start(&broker, 100), Stored::new(), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    let mut refused = 0;
    survives("disk slow", &broker, 100 + 1 + 1, SLACK, || {
        disk.begin(Trouble::Slow);
        refused += insert_during(&broker, &stored, || {
            await_more(&stored, 5 * INSERTERS);
            fast.await_more(50);
        });
        disk.end(Trouble::Slow);
        insert_during(&broker, &stored, || await_more(&stored, 10 * INSERTERS));
        disk.begin(Trouble::Hung);
        insert_during(&broker, &stored, || {
            await_standstill(&stored);
            fast.await_more(50);
            stored.assert_kept(&broker);
            disk.end(Trouble::Hung);
        });
    });
    eprintln!("{} records kept, {refused} refused, each of the fast got {}", stored.len(), fast.finish());
    oracle.judge();
    broker.signal("KILL");
    broker.wait();
    stored.assert_kept(&disk.start(&[]));
}

#[test]
fn a_disk_that_fails_under_load_loses_nothing_acknowledged_or_shown() {
    let _turn = turn();
    for trouble in [Trouble::Failing, Trouble::Refusing] {
        let disk = Disk::new();
        let mut broker = disk.start(&["--heartbeat", "1s"]);
        let stored = Stored::new();
        for _ in 0..3 {
            let fast = Fast::start(&broker, 50);
            let mut listener = broker.subscribe("/events", "");
            let refused = insert_during(&broker, &stored, || {
                await_more(&stored, 10 * INSERTERS);
                disk.begin(trouble);
                await_health(&broker, 503);
                fast.await_more(20);
                disk.end(trouble);
            });
            let kept = stored.len();
            eprintln!("{trouble:?}: {kept} kept, {refused} refused, each of the fast got {}", fast.finish());
            stored.assert_kept(&broker);
            broker.signal("KILL");
            broker.wait();
            broker = disk.start(&["--heartbeat", "1s"]);
            stored.assert_kept(&broker);
            let mut shown = Vec::new();
            while let Some(event) = listener.event_within(Duration::from_millis(500)) {
                shown.push((event.name.clone().expect("a record has a name"), event.number(), event.data));
            }
            super::records::assert_shown(&broker, &shown);
        }
        assert!(insert_during(&broker, &stored, || await_more(&stored, INSERTERS)) == 0, "all is well again");
        broker.assert_well();
    }
}

/// Another program takes all that there is, at once.
#[test]
fn a_disk_that_somebody_else_fills_is_recovered_from() {
    let _turn = turn();
    let folder = Folder::new();
    let place = folder.path.join("data").display().to_string();
    std::fs::create_dir(&place).expect("a folder can be made");
    let broker = Broker::start_as(on_small_disk(&place, "200M"), &["--data", &place, "--heartbeat", "1s"]);
    let filler = format!("/proc/{}/root{place}/filler", broker.pid());
    let (fast, stored) = (Fast::start(&broker, 100), Stored::new());
    let mut refused = 0;
    survives("disk full", &broker, 100 + 1, SLACK, || {
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
    stored.assert_kept(&broker);
    eprintln!("{} records kept, {refused} refused, each of the fast got {}", stored.len(), fast.finish());
}

/// Writes until there is no room.
fn fill(filler: &Path) {
    let mut file = std::fs::File::create(filler).expect("root reaches into the broker's disk");
    let block = vec![0; 1 << 20];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}
