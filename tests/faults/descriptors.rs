//! The process runs out of descriptors unexpectedly: existing connections are served in every way, the store reads and writes,
//! and waiting connections are accepted once descriptors are available again.

use rustix::process::{Resource, getrlimit};

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::records::{Inserter, Stored};
use super::support::{Broker, Connection, TempDir};

/// Connections opened while there are no descriptors.
const WAITING: usize = 500;
/// Idle connections in addition to them.
const IDLE: usize = 200;

#[test]
fn without_descriptors_open_connections_work_and_new_ones_wait() {
    let _lock = lock_machine();
    let dir = TempDir::new();
    let data = dir.path.join("data").display().to_string();
    let broker = Broker::start(&["--data", &data, "--heartbeat", "1s"]);
    let all = getrlimit(Resource::Nofile).maximum.expect("there is a limit");
    let (fast, stored, ledger) = (FastSubscribers::start(&broker, 100), Stored::new(), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    // Another oracle that keeps reconnecting.
    let fickle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Fickle(1000));
    assert_survives("no descriptors", &broker, 100 + 1 + 2, SLACK, || {
        // Idle connections are closed to make room, one at a time, the longest idle first. There are enough of them for a
        // while.
        let mut idle: Vec<_> = (0..IDLE).map(|_| broker.connect()).collect();
        idle.iter_mut().for_each(|connection| send_request(connection, "/healthz"));
        let mut inside: Vec<_> = (0..10).map(|_| broker.connect()).collect();
        inside.iter_mut().for_each(|connection| send_request(connection, "/healthz"));
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let mut inserter = Inserter::new(broker.address, "a", &stored);
        assert!(publisher.publish(&fastrand::u64(..).to_string()) && inserter.insert());
        // The limit is below the number of open descriptors, so a closed connection makes no room.
        broker.limit_descriptors(50);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| broker.connect()).collect();
        waiting.iter_mut().for_each(|connection| connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"));
        for _ in 0..50 {
            assert!(publisher.publish(&fastrand::u64(..).to_string()));
            assert!(inserter.insert());
            for (connection, path) in inside.iter_mut().zip(["/stats", "/metrics", "/healthz", "/audit/a", "/"]) {
                send_request(connection, path);
            }
        }
        fast.await_more(50);
        broker.limit_descriptors(all);
        assert!(waiting.iter_mut().all(|connection| connection.response().status == 200));
    });
    stored.assert_all_stored(&broker);
    eprintln!("{}; {}; each fast subscriber got {}", oracle.judge(), fickle.judge(), fast.finish());
}

fn send_request(connection: &mut Connection, path: &str) {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(connection.response().status, 200, "{path}");
}
