//! The server is out of memory and evicts nothing.

use super::cluster::Cluster;
use super::load::Load;
use super::oracle::Gaps;
use super::publishers::Publisher;
use super::redis_server::RedisServer;
use super::{lock_machine, wait_until};

/// Bytes of an event.
const LARGE: usize = 500_000;

#[test]
fn publishing_resumes_when_the_server_has_memory_again() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&["--maxmemory", "20mb", "--maxmemory-policy", "noeviction"]);
    let cluster = Cluster::on(&redis.url(), 2);
    let load = Load::start(&cluster, 2, 30);
    load.await_accepted(20);
    let mut publisher = Publisher::new(cluster.balancer.address, &load.ledger);
    wait_until("refused for lack of memory", || {
        publisher.publish_large(0, LARGE).is_none() && load.ledger.entries().refusal.contains("memory")
    });
    load.followers.await_life(2);
    for node in &cluster.nodes {
        let mut stream = node.broker().subscribe("/subscribe/topiczero0", "Last-Event-ID: 0\r\n");
        assert!(stream.event().name.is_none(), "what is retained can be read");
    }
    redis.config_set("maxmemory", "0");
    load.await_accepted(50);
    let verdict = load.judge(&cluster, Gaps::Forbidden);
    eprintln!("{verdict}");
}
