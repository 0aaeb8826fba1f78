//! The server stops answering for a while, with its connections open, as when its machine swaps.

use std::thread;
use std::time::Duration;

use super::cluster::Cluster;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine, rounds};

/// Longer than a publish waits to be appended, and than a command may take.
const PAUSE: Duration = Duration::from_secs(5);
/// Longer than a publish waits whose outcome is unknown.
const LONG_PAUSE: Duration = Duration::from_secs(40);

#[test]
fn streams_go_on_while_the_server_is_stopped() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 2);
    let load = Load::start(&cluster, 8, 60);
    load.await_accepted(100);
    redis.pause();
    thread::sleep(if rounds() > 1 { LONG_PAUSE } else { PAUSE });
    load.followers.await_heartbeats(2);
    load.await_refused(4);
    redis.resume();
    load.await_accepted(200);
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}

/// Clients of the other broker notice nothing, and those of the stopped one go on afterwards.
#[test]
fn a_stopped_broker_catches_up() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 2);
    let load = Load::start(&cluster, 8, 60);
    for node in &cluster.nodes {
        load.await_accepted(100);
        node.broker().signal("STOP");
        thread::sleep(PAUSE);
        node.broker().signal("CONT");
        load.followers.await_events(10);
    }
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}
