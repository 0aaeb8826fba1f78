//! The server, a broker, or both are killed under load, and started again.

use super::cluster::Cluster;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine, rounds};

const FAULTS: [Fault; 3] = [Fault::Server, Fault::Broker, Fault::Both];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Server,
    Broker,
    Both,
}

#[test]
fn killed_servers_and_brokers_lose_nothing() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 3);
    let load = Load::start(&cluster, 8, 200);
    for round in 0..rounds() {
        for fault in FAULTS {
            load.await_accepted(50);
            let victim = fastrand::usize(..cluster.nodes.len());
            if !matches!(fault, Fault::Server) {
                cluster.nodes[victim].kill();
            }
            if !matches!(fault, Fault::Broker) {
                redis.kill();
                // Sometimes the server is back before anything is refused.
                if round % 2 == 0 {
                    load.await_refused(1);
                }
                redis.restart();
            }
            if !matches!(fault, Fault::Server) {
                cluster.nodes[victim].restart();
            }
        }
    }
    load.await_accepted(50);
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}

/// All brokers are killed at once: the log alone knows what was published.
#[test]
fn all_brokers_are_killed_and_nothing_is_lost() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 2);
    let load = Load::start(&cluster, 8, 50);
    for _ in 0..rounds() {
        load.await_accepted(50);
        cluster.kill_all();
        cluster.restart_all();
    }
    load.await_accepted(50);
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}
