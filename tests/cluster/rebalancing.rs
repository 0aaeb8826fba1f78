//! A rolling restart behind each of the guide's load balancers, with `--drain` and `--max-stream-age`: nobody misses an event, and
//! the streams spread over all brokers again.

use std::time::Duration;

use super::cluster::{Cluster, Node};
use super::ledger::Ledger;
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::support::front::{CADDY, HAPROXY, NGINX, ProxyKind, load_balancer, start};
use super::{DURABLE, lock_machine, wait_until};

const CLIENTS: u64 = 120;
/// The streams of each of three brokers, if every client has chosen one of them at random: any broker has more or fewer with a
/// probability of 4 in 10⁷, by the binomial distribution. A load balancer that chooses in turn, or the broker with the fewest
/// connections, is more even than that.
const BALANCED: std::ops::RangeInclusive<u64> = 13..=67;

fn streams_at(node: &Node) -> u64 {
    node.broker().stats()["subscribers"].as_u64().expect("a number")
}

/// Returns the number of streams at each broker, at a moment at which no client is reconnecting.
fn all_streams(cluster: &Cluster) -> Vec<u64> {
    let mut counts = Vec::new();
    wait_until("all connected", || {
        counts = cluster.nodes.iter().map(streams_at).collect();
        counts.iter().sum::<u64>() == CLIENTS
    });
    counts
}

/// Restarts one broker after the other, as the guide says. Returns the number of streams at the last one when it listens again.
fn restart_all(cluster: &mut Cluster) -> u64 {
    let mut streams = CLIENTS;
    for node in &mut cluster.nodes {
        node.terminate();
        node.restart();
        streams = streams_at(node);
        wait_until("ready", || node.broker().get("/healthz").status == 200);
    }
    streams
}

fn assert_rebalances(kind: &ProxyKind, language: &str) {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let arguments = ["--engine", &redis.url(), "--drain", "2s", "--max-stream-age", "8s"];
    let mut cluster = Cluster::start(3, &arguments);
    let addresses = [0, 1, 2].map(|index: usize| cluster.nodes[index].address());
    let (balancer, _front) = start(kind, |listen| load_balancer(language, addresses, listen));
    let publishers = (2, Duration::from_millis(100));
    let load = Load::start_through(balancer, &Ledger::new(), publishers, CLIENTS as usize);
    let at_last = restart_all(&mut cluster);
    assert!(!BALANCED.contains(&at_last), "{at_last} streams at a broker that has just been started");
    wait_until("used by the load balancer", || {
        load.followers.assert_running();
        cluster.nodes.iter().all(|node| streams_at(node) > 0)
    });
    load.followers.await_openings(1);
    let balanced = all_streams(&cluster);
    assert!(balanced.iter().all(|count| BALANCED.contains(count)), "{balanced:?}");
    let verdict = load.judge(&cluster, Gaps::Forbidden);
    eprintln!("{}: {at_last} streams at the last broker, then {balanced:?}; {verdict}", kind.program);
}

#[test]
fn streams_spread_again_behind_the_guides_haproxy() {
    assert_rebalances(&HAPROXY, "haproxy");
}

#[test]
fn streams_spread_again_behind_the_guides_caddy() {
    assert_rebalances(&CADDY, "caddy");
}

#[test]
fn streams_spread_again_behind_the_guides_nginx() {
    assert_rebalances(&NGINX, "nginx");
}
