//! Sentinels replace a dead server by one of its replicas.

use std::net::SocketAddr;

use super::cluster::Cluster;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine, rounds, wait_until};

const NAME: &str = "events";

/// Each server and sentinel knows the others.
struct Group {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Group {
    /// Starts a primary with two replicas, and three sentinels.
    fn start() -> Self {
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&DURABLE)).collect();
        servers[1..].iter().for_each(|replica| replica.replicate(&servers[0]));
        let sentinels = (0..3).map(|_| RedisServer::start_sentinel(NAME, &servers[0], None)).collect();
        let group = Self { servers, sentinels };
        // Only the first may begin a failover, the others vote: two that begin at the same time may promote two replicas.
        let quorum = ["SENTINEL", "SET", NAME, "quorum", "4"];
        group.sentinels[1..].iter().for_each(|sentinel| sentinel.command::<()>(&quorum));
        group.await_complete();
        group
    }

    /// Waits until the sentinels know each other, and two replicas that are up.
    fn await_complete(&self) {
        let knows = |sentinel: &RedisServer| {
            let primary = sentinel.command::<Vec<String>>(&["SENTINEL", "MASTER", NAME]);
            let replicas = sentinel.command::<Vec<Vec<String>>>(&["SENTINEL", "REPLICAS", NAME]);
            has(&primary, ["num-other-sentinels", "2"])
                && has(&primary, ["flags", "master"])
                && replicas.iter().filter(|replica| has(replica, ["flags", "slave"])).count() == 2
        };
        wait_until("complete", || self.sentinels.iter().all(knows));
        self.primary().wait_for("connected_slaves:2");
    }

    fn primary_address(&self) -> SocketAddr {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let (ip, port) = self.sentinels[0].command::<(String, u16)>(&words);
        SocketAddr::new(ip.parse().expect("an address"), port)
    }

    fn primary_index(&self) -> usize {
        let address = self.primary_address();
        self.servers.iter().position(|server| server.address() == address).expect("it is one of the servers")
    }

    fn primary(&self) -> &RedisServer {
        &self.servers[self.primary_index()]
    }

    fn url(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.address().to_string()).collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }
}

/// Returns whether a reply of names and values contains a pair.
fn has(reply: &[String], pair: [&str; 2]) -> bool {
    reply.chunks(2).any(|words| words == pair)
}

/// All replicas must have what is acknowledged: a primary that is only slow for a moment is replaced as well, and Sentinel compares
/// replicas by what it last heard of them, which may be ten seconds old.
#[test]
fn a_failover_loses_nothing_that_all_replicas_had_to_have() {
    let _lock = lock_machine();
    let mut group = Group::start();
    let cluster = Cluster::start(2, &["--engine", &group.url(), "--engine-ack", "replicas:2"]);
    let load = Load::start(&cluster, 8, 60);
    for _ in 0..rounds() {
        load.await_accepted(100);
        let primary = group.primary_index();
        group.servers[primary].kill();
        wait_until("failed over", || group.primary_index() != primary);
        group.servers[primary].restart();
        group.await_complete();
        load.await_accepted(100);
    }
    // The brokers have read what no replica had: then a gap is told, though nothing acknowledged is missing.
    let verdict = load.judge(&cluster, Gaps::Allowed);
    eprintln!("{verdict}");
    assert_eq!(verdict.announced, 0, "what was acknowledged is delivered");
}

/// The server that was replaced goes on as if it still were the primary: it has not heard of its successor, and commands that
/// were sent to it before may wait in its connections.
#[test]
fn a_primary_that_returns_too_late_takes_nothing_with_it() {
    let _lock = lock_machine();
    let group = Group::start();
    let cluster = Cluster::start(2, &["--engine", &group.url(), "--engine-ack", "replicas:1"]);
    let load = Load::start(&cluster, 8, 60);
    for _ in 0..rounds() {
        load.await_accepted(100);
        let primary = group.primary_index();
        group.servers[primary].pause();
        wait_until("failed over", || group.primary_index() != primary);
        group.servers[primary].resume();
        load.await_accepted(100);
        group.await_complete();
    }
    // Of two primaries, one loses what it takes.
    eprintln!("{}", load.judge(&cluster, Gaps::Allowed));
}
