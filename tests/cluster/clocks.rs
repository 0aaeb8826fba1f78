//! The clocks of brokers and server differ by an hour, and the server's is set back.

use super::cluster::{Cluster, Node};
use super::load::Load;
use super::oracle::Gaps;
use super::redis_server::RedisServer;
use super::test_clock::TestClock;
use super::{DURABLE, lock_machine};

const HOUR: i64 = 3600;

fn environment(clock: &TestClock) -> Vec<(&'static str, String)> {
    clock.environment().into_iter().map(|(name, path)| (name, path.display().to_string())).collect()
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn brokers_whose_clocks_differ_have_one_order() {
    let _lock = lock_machine();
    let clocks: Vec<TestClock> = [-HOUR, 0, HOUR].into_iter().map(clock_at).collect();
    let server_clock = clock_at(0);
    let redis = {
        let environment = environment(&server_clock);
        RedisServer::start_at([127, 0, 0, 1].into(), &DURABLE, &borrowed(&environment))
    };
    let start = |clock: &TestClock| {
        let environment = environment(clock);
        Node::start(&["--engine", &redis.url()], &borrowed(&environment))
    };
    let mut cluster = Cluster::of(clocks.iter().map(start).collect());
    let load = Load::start(&cluster, 6, 60);
    load.await_accepted(100);
    assert_same_histories(&cluster);

    server_clock.set(-HOUR);
    load.await_accepted(100);
    assert_same_histories(&cluster);
    cluster.kill_all();
    // Two clocks change places.
    clocks[0].set(HOUR);
    clocks[2].set(-HOUR);
    cluster.restart_all();
    load.await_accepted(50);
    server_clock.set(0);
    load.await_accepted(50);
    assert_same_histories(&cluster);
    eprintln!("{}", load.judge(&cluster, Gaps::Forbidden));
}

fn clock_at(seconds: i64) -> TestClock {
    let clock = TestClock::new();
    clock.set(seconds);
    clock
}

/// Asserts that each broker retains the same oldest events.
fn assert_same_histories(cluster: &Cluster) {
    let oldest = |node: &Node| {
        let mut stream = node.broker().subscribe("/subscribe/topiczero0", "Last-Event-ID: 0\r\n");
        stream.opening();
        (0..10).map(|_| stream.event().text).collect::<Vec<_>>()
    };
    let histories: Vec<_> = cluster.nodes.iter().map(oldest).collect();
    assert!(histories.windows(2).all(|pair| pair[0] == pair[1]), "{histories:#?}");
}
