//! One broker after the other is restarted, as for an upgrade.

use std::time::Duration;

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::{DURABLE, crowd_size, lock_machine};

#[test]
fn nobody_notices_a_rolling_restart() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::start(3, &["--engine", &redis.url()]);
    let publishers = (4, Duration::from_millis(400));
    let load = Load::start_with(&cluster, &Ledger::new(), publishers, crowd_size(1000, 2000));
    for index in 0..cluster.nodes.len() {
        load.await_accepted(10);
        cluster.nodes[index].terminate();
        cluster.nodes[index].restart();
        load.followers.await_events(2);
    }
    let verdict = load.judge(&cluster, Gaps::Forbidden);
    eprintln!("{verdict}");
}
