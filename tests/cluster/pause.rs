//! The server stops answering for a while, with its connections open, as when its machine swaps.

use std::thread;
use std::time::Duration;

use super::cluster::Cluster;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine};

/// Longer than a publish waits to be appended, and than a command may take.
const PAUSE: Duration = Duration::from_secs(5);

#[test]
fn streams_go_on_while_the_server_is_stopped() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 2);
    let load = Load::start(&cluster, 8, 60);
    load.await_accepted(100);
    redis.pause();
    thread::sleep(PAUSE);
    load.followers.await_heartbeats(2);
    load.await_refused(4);
    redis.resume();
    load.await_accepted(200);
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}
