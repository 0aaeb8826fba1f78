//! Descriptors run out though the broker reckoned with more: whoever is inside is served in every way, the store reads and
//! writes, and whoever waits outside comes in as soon as there are some again.

use rustix::process::{Resource, getrlimit};

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::records::{Inserter, Stored};
use super::support::{Broker, Connection, Folder};
use super::turn;

/// So many come while there are none.
const WAITING: usize = 500;
/// And so many are there, and have nothing to ask.
const IDLE: usize = 200;

#[test]
fn without_descriptors_those_inside_miss_nothing_and_those_outside_wait() {
    let _turn = turn();
    let folder = Folder::new();
    let data = folder.path.join("data").display().to_string();
    let broker = Broker::start(&["--data", &data, "--heartbeat", "1s"]);
    let all = getrlimit(Resource::Nofile).maximum.expect("there is a limit");
    let (fast, stored, ledger) = (Fast::start(&broker, 100), Stored::new(), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    // Another one that tries to come back all the time.
    let fickle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Fickle(1000));
    survives("no descriptors", &broker, 100 + 1 + 2, SLACK, || {
        // Idle connections are closed for those who wait, now and then and the longest idle first: these are enough for a while.
        let mut idle: Vec<_> = (0..IDLE).map(|_| broker.connect()).collect();
        idle.iter_mut().for_each(|connection| ask(connection, "/healthz"));
        let mut inside: Vec<_> = (0..10).map(|_| broker.connect()).collect();
        inside.iter_mut().for_each(|connection| ask(connection, "/healthz"));
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let mut inserter = Inserter::new(broker.address, "a", &stored);
        assert!(publisher.publish(&fastrand::u64(..).to_string()) && inserter.insert());
        // Fewer than are open, so that one that leaves makes no room.
        broker.limit_descriptors(50);
        let mut waiting: Vec<_> = (0..WAITING).map(|_| broker.connect()).collect();
        waiting.iter_mut().for_each(|connection| connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"));
        for _ in 0..50 {
            assert!(publisher.publish(&fastrand::u64(..).to_string()));
            assert!(inserter.insert());
            for (connection, path) in inside.iter_mut().zip(["/stats", "/metrics", "/healthz", "/audit/a", "/"]) {
                ask(connection, path);
            }
        }
        fast.await_more(50);
        broker.limit_descriptors(all);
        assert!(waiting.iter_mut().all(|connection| connection.response().status == 200));
    });
    stored.assert_kept(&broker);
    eprintln!("{}; {}; each of the fast got {}", oracle.judge(), fickle.judge(), fast.finish());
}

fn ask(connection: &mut Connection, path: &str) {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(connection.response().status, 200, "{path}");
}
