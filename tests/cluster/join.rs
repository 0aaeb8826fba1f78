//! A broker joins others that have published much, while they publish more.

use super::cluster::{Cluster, Node};
use super::followers::Followers;
use super::ledger::TOPICS;
use super::load::{Load, publish_finals};
use super::oracle::{Gaps, judge};
use super::publishers::Publisher;
use super::redis_server::RedisServer;
use super::{DURABLE, crowd_size, lock_machine};

/// Events of one body.
const PER_BODY: usize = 1000;

#[test]
fn a_broker_that_joins_listens_when_it_has_caught_up() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 1);
    let mut publisher = Publisher::new(cluster.balancer.address, &super::ledger::Ledger::new());
    for body in 0..crowd_size(30, 300) {
        assert_eq!(publisher.publish_many(body % TOPICS.len(), PER_BODY).len(), PER_BODY);
    }
    let load = Load::start(&cluster, 8, 30);
    load.await_accepted(100);
    let newest = load.ledger.newest();
    let node = Node::start(&["--engine", &redis.url()], &[]);
    let mut stream = node.broker().subscribe("/subscribe/topiczero0?prime", "");
    assert!(stream.event().number() >= newest, "what was acknowledged before it listens is known");
    let mut stream = node.broker().subscribe("/subscribe/topiczero0", "Last-Event-ID: 0\r\n");
    (0..PER_BODY).for_each(|_| assert!(stream.event().name.is_none()));

    cluster.add(node);
    let newcomers = Followers::start(30, cluster.targets());
    cluster.nodes[0].kill();
    load.await_accepted(100);
    let ledger = std::sync::Arc::clone(&load.ledger);
    let followers = load.stop();
    let finals = publish_finals(&cluster, &ledger);
    let all: Vec<_> = followers.finish(&finals).into_iter().chain(newcomers.finish(&finals)).collect();
    eprintln!("{}", judge(&ledger, &all, Gaps::Forbidden));
}
