//! One broker's network cable is unplugged in the middle of its appends. Nobody sees a reset or a lost carrier, and what was
//! sent before may arrive afterwards.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::cluster::{Cluster, Node};
use super::ledger::Ledger;
use super::load::{Load, publish_finals};
use super::network::{BROKER_ADDRESS, Machine, Network};
use super::oracle::{Gaps, judge};
use super::publishers::Publisher;
use super::redis_server::RedisServer;
use super::{DURABLE, lock_machine, wait_until};

/// Publishers of each broker, and their pauses: something is being appended nearly all the time.
const PUBLISHERS: (usize, Duration) = (8, Duration::from_millis(15));
const FOLLOWERS: usize = 20;

/// The first is too short for anybody to notice, the last longer than any time limit of the engine.
const CUTS: [Duration; 3] = [Duration::from_millis(300), Duration::from_millis(2500), Duration::from_secs(5)];

#[test]
fn a_broker_that_was_cut_off_has_lost_nothing() {
    let _lock = lock_machine();
    let net = Network::new();
    let redis = net.run_on(Machine::Brokers, || RedisServer::start_at(BROKER_ADDRESS.into(), &DURABLE, &[]));
    let ledger = Ledger::new();
    let join = || {
        let cluster = Cluster::of(vec![Node::start(&["--engine", &redis.url()], &[])]);
        let load = Load::start_with(&cluster, &ledger, PUBLISHERS, FOLLOWERS);
        (cluster, load)
    };
    // The one is on the server's machine, the other behind the cable.
    let (near, near_load) = net.run_on(Machine::Brokers, join);
    let (far, far_load) = net.run_on(Machine::Peers, join);
    for cut in CUTS {
        far_load.await_accepted(100);
        net.unplug();
        thread::sleep(cut);
        near_load.await_accepted(20);
        far_load.followers.await_heartbeats(1);
        net.plug_in();
        net.run_on(Machine::Peers, || await_accepted(&far, &ledger));
        near_load.followers.await_events(10);
        far_load.followers.await_events(10);
    }
    let mut followers = Vec::new();
    let (near_followers, far_followers) = (near_load.stop(), far_load.stop());
    let finals = net.run_on(Machine::Brokers, || publish_finals(&near, &ledger));
    followers.extend(near_followers.finish(&finals));
    followers.extend(far_followers.finish(&finals));
    eprintln!("{}", judge(&ledger, &followers, Gaps::Forbidden));
}

/// Waits until a broker accepts again.
fn await_accepted(cluster: &Cluster, ledger: &Arc<Ledger>) {
    let mut publisher = Publisher::new(cluster.balancer.address, ledger);
    wait_until("accepted again", || publisher.publish(0).is_some());
}
