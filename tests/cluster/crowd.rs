//! Many subscribers at each broker: all get every event, in the same order.

use std::time::Duration;

use super::balancer::Targets;
use super::cluster::{Cluster, Node};
use super::followers::Followers;
use super::ledger::Ledger;
use super::load::publish_finals;
use super::oracle::{Gaps, judge};
use super::publishers::Publishers;
use super::redis_server::RedisServer;
use super::{DURABLE, crowd_size, lock_machine};

#[test]
fn crowds_at_three_brokers_get_the_same_order() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 3);
    let join = |node: &Node| Followers::start(crowd_size(400, 2000), &Targets::new(&[node.address()]));
    let crowds: Vec<Followers> = cluster.nodes.iter().map(join).collect();
    let ledger = Ledger::new();
    // Each topic gets about one publish a second.
    let publishers = Publishers::start(4, Duration::from_secs(1), cluster.balancer.address, &ledger);
    crowds.iter().for_each(|crowd| crowd.await_events(5));
    publishers.stop();
    let finals = publish_finals(&cluster, &ledger);
    let all: Vec<_> = crowds.into_iter().flat_map(|crowd| crowd.finish(&finals)).collect();
    let verdict = judge(&ledger, &all, Gaps::Forbidden);
    eprintln!("{verdict}");
}
