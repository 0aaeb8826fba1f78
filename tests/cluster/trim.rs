//! A broker is stopped for so long that the log does not have any more what it has not read.

use super::balancer::Targets;
use super::cluster::Cluster;
use super::followers::Followers;
use super::ledger::{Ledger, TOPICS};
use super::load::publish_finals;
use super::oracle::{Gaps, judge};
use super::publishers::Publisher;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine};

/// Bytes of an event.
const LARGE: usize = 60_000;

#[test]
fn what_was_trimmed_before_a_broker_read_it_is_reported_as_a_gap() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::start(2, &["--engine", &redis.url(), "--history-bytes", "2M"]);
    let ledger = Ledger::new();
    let stopped = cluster.nodes[1].broker();
    let followers = Followers::start(12, &Targets::new(&[stopped.address]));
    let mut publisher = Publisher::new(cluster.nodes[0].address(), &ledger);
    stopped.signal("STOP");
    for number in 0..200 {
        assert!(publisher.publish_large(number % TOPICS.len(), LARGE).is_some());
    }
    stopped.signal("CONT");
    followers.await_gaps();
    let finals = publish_finals(&cluster, &ledger);
    let verdict = judge(&ledger, &followers.finish(&finals), Gaps::Allowed);
    eprintln!("{verdict}");
    assert!(verdict.announced > 0, "some events were trimmed");
}
