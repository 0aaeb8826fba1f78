//! Erasures and retention: what one broker removes is gone at all of them, and their streams are told in order.

use std::fmt::Display;

use super::super::DURABLE;
use super::super::cluster::{Cluster, Node};
use super::super::failover::Failover;
use super::super::redis_server::RedisServer;
use super::super::support::{Broker, run};
use super::super::wait_until;

fn insert(broker: &Broker, name: &str) -> String {
    let answer = broker.post("/insert", "", format!("{{\"event\":\"{name}\",\"data\":1}}"));
    answer.json()["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn erase(broker: &Broker, target: impl Display) -> u64 {
    let answer = broker.request(format!("DELETE /audit/{target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    answer.json()["erased"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
}

fn versions(broker: &Broker, name: &str) -> usize {
    broker.get(&format!("/audit/{name}")).json().as_object().map_or(0, serde_json::Map::len)
}

/// Resumes, and returns the name of the first event and its id.
fn resume(broker: &Broker, position: &str) -> (String, Option<String>) {
    let event = broker.subscribe("/events", &format!("Last-Event-ID: {position}\r\n")).event();
    (event.name.unwrap_or_default(), event.id)
}

#[test]
fn streams_of_every_broker_are_told_of_an_erasure_in_order() {
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 2);
    let [one, other] = [0, 1].map(|index| cluster.nodes[index].broker());
    let first = insert(one, "user");
    let kept = insert(one, "order");
    let mut streams = [one, other].map(|broker| broker.subscribe("/events", ""));
    for stream in &mut streams {
        assert_eq!([stream.event().id, stream.event().id], [Some(first.clone()), Some(kept.clone())]);
    }
    let second = insert(other, "user");
    assert_eq!(erase(one, format!("user?before={second}")), 1);
    assert_eq!((versions(one, "user"), versions(other, "user")), (1, 1));
    assert_eq!(erase(other, "user"), 1);
    let last = insert(one, "order");
    let mut erasures = Vec::new();
    for stream in &mut streams {
        assert_eq!(stream.event().id, Some(second.clone()), "nobody is told of an older version");
        let event = stream.event();
        assert_eq!((event.name.as_deref(), event.data.as_deref()), (Some("erased"), Some("{\"event\":\"user\"}")));
        erasures.push(event.id.expect("an erasure has an id"));
        assert_eq!(stream.event().id, Some(last.clone()));
    }
    assert_eq!(erasures[0], erasures[1]);
    drop(streams);
    for is_restarted in [false, true] {
        if is_restarted {
            cluster.kill_all();
            cluster.restart_all();
        }
        for node in &cluster.nodes {
            let broker = node.broker();
            assert_eq!((versions(broker, "user"), erase(broker, "user")), (0, 0));
            for doubtful in [&first, &kept, &second] {
                assert_eq!(resume(broker, doubtful).0, "gap", "restarted: {is_restarted}");
            }
            assert_eq!(resume(broker, &erasures[0]), ("order".to_owned(), Some(last.clone())));
            assert_eq!(broker.subscribe("/events", "").event().id, Some(last.clone()));
        }
    }
    let again = insert(cluster.nodes[1].broker(), "user");
    assert_eq!(resume(cluster.nodes[0].broker(), &last), ("user".to_owned(), Some(again)));
}

#[test]
fn the_command_erases_while_brokers_are_running() {
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 1);
    let broker = cluster.nodes[0].broker();
    (0..3).for_each(|_| drop(insert(broker, "user")));
    let mut stream = broker.subscribe("/events", "");
    assert_eq!(stream.event().name.as_deref(), Some("user"));
    let (code, out, err) = run(&["erase", &redis.url(), "--event", "user"], &[]);
    assert!(code == Some(0) && err.contains("versions erased: 3"), "{out}{err}");
    assert_eq!(stream.event().name.as_deref(), Some("erased"));
    assert_eq!(versions(broker, "user"), 0);
    let (code, out, err) = run(&["check", &redis.url()], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn an_erasure_stays_after_a_failover_to_a_replica_that_has_it() {
    let mut servers = Failover::start();
    let cluster = Cluster::of(
        (0..2).map(|_| Node::start(&["--engine", &servers.url(), "--engine-ack", "replicas:1"], &[])).collect(),
    );
    let [one, other] = [0, 1].map(|index| cluster.nodes[index].broker());
    let mut known = String::new();
    wait_until("the replica has it", || {
        let answer = one.post("/insert", "", "{\"event\":\"user\",\"data\":1}");
        known = answer.json()["id"].as_str().unwrap_or_default().to_owned();
        answer.status == 200
    });
    let mut stream = other.subscribe("/events", "");
    assert_eq!(stream.event().id, Some(known.clone()));
    assert!(erase(one, "user") >= 1);
    assert_eq!(stream.event().name.as_deref(), Some("erased"));
    servers.fail_over();
    for broker in [one, other] {
        wait_until("at the new primary", || broker.get("/healthz").status == 200);
        assert_eq!(versions(broker, "user"), 0);
        assert_eq!(resume(broker, &known).0, "gap");
    }
    // It has no replica that could confirm it.
    assert_eq!(one.post("/insert", "", "{\"event\":\"order\",\"data\":1}").status, 504);
    assert_eq!(stream.event().name.as_deref(), Some("order"), "and no gap: nothing is lost");
}

#[test]
fn versions_beyond_the_number_are_removed_for_all_brokers() {
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 1);
    let before = insert(cluster.nodes[0].broker(), "quiet");
    (0..4).for_each(|_| drop(insert(cluster.nodes[0].broker(), "quiet")));
    cluster.nodes.push(Node::start(&["--engine", &redis.url(), "--versions", "2"], &[]));
    let [one, other] = [0, 1].map(|index| cluster.nodes[index].broker());
    let mut stream = one.subscribe("/events", "");
    assert_eq!(stream.event().name.as_deref(), Some("quiet"));
    wait_until("swept", || versions(one, "quiet") == 2);
    for _ in 0..5 {
        let id = insert(other, "user");
        assert_eq!(stream.event().id, Some(id), "no version that is there is missed, and there is no gap");
    }
    assert_eq!((versions(one, "user"), versions(other, "quiet")), (2, 2));
    assert_eq!(resume(other, &before).0, "gap", "the version does not exist any more");
    let (code, out, err) = run(&["check", &redis.url()], &[]);
    assert_eq!(code, Some(0), "{out}{err}");
}
