//! Memory runs out. A broker whose allocation fails aborts as a whole instead of continuing in part. After a restart, every
//! acknowledged record is there, and subscribers get a `gap` for lost events.

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::records::{Inserter, Stored};
use super::support::{Broker, TempDir};

/// Bytes the broker may allocate beyond what it has.
const MORE: u64 = 40 << 20;

fn limit_memory(broker: &Broker) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("the broker runs");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.strip_suffix("kB"));
    let kilobytes: u64 = size.and_then(|size| size.trim().parse().ok()).expect("the kernel reports the size");
    let limit = Some((kilobytes << 10) + MORE);
    let pid = Pid::from_raw(broker.pid().cast_signed());
    prlimit(pid, Resource::As, Rlimit { current: limit, maximum: limit }).expect("limits can be lowered");
}

#[test]
fn running_out_of_memory_loses_nothing_acknowledged() {
    let _lock = lock_machine();
    let dir = TempDir::new();
    let data = dir.path.join("data").display().to_string();
    let start = || Broker::start(&["--data", &data, "--heartbeat", "1s", "--history", "100000"]);
    let (stored, ledger, mut broker) = (Stored::new(), Ledger::new(), start());
    let eager = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    let slow = Oracle::start(broker.address, "topicone1", &ledger, Pace::Slow(20_000, Duration::from_millis(5)));
    for round in 0..2 {
        limit_memory(&broker);
        thread::scope(|scope| {
            let address = broker.address;
            let (stored, ledger) = (&stored, &ledger);
            scope.spawn(move || flood(&mut Publisher::new(address, "topicone1", ledger)));
            for number in 0..4 {
                let mut inserter = Inserter::padded(address, &format!("name{number}"), stored, 10_000);
                scope.spawn(move || while inserter.insert() {});
            }
        });
        let (code, log) = broker.wait();
        assert_eq!(code, None, "a signal ends the process: {log}");
        assert!(log.contains("memory allocation"), "{log}");
        broker = start();
        stored.assert_all_stored(&broker);
        eprintln!("{round}: {} events accepted, {} records kept", ledger.accepted(), stored.len());
        eager.reconnect_to(broker.address);
        slow.reconnect_to(broker.address);
    }
    eprintln!("no memory: {}; {}", eager.judge(), slow.judge());
    broker.assert_healthy();
}

/// Publishes until the broker ends.
fn flood(publisher: &mut Publisher) {
    let filling = "x".repeat(100_000);
    let is_there = |publisher: &mut Publisher| {
        publisher.publish(&format!("{} {filling}", fastrand::u64(..)));
        publisher.is_connected()
    };
    while is_there(publisher) {}
}
