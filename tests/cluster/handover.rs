//! A client publishes at one broker and subscribes at another, and goes on anywhere after brokers or the server were restarted.

use super::cluster::Cluster;
use super::redis_server::RedisServer;
use super::support::{Event, Stream};
use super::{DURABLE, lock_machine};

const TOPIC: &str = "topicone11";

/// Publishes events with these numbers, at both brokers in turn; returns their ids.
fn publish(cluster: &Cluster, numbers: std::ops::Range<usize>) -> Vec<String> {
    let publish = |number: usize| {
        let broker = cluster.nodes[number % cluster.nodes.len()].broker();
        let answer = broker.publish(TOPIC, &format!("data: {number}"));
        answer["id"].as_str().expect("an answer has an id").to_owned()
    };
    numbers.map(publish).collect()
}

fn subscribe(cluster: &Cluster, node: usize, position: &str) -> Stream {
    let fields = format!("Last-Event-ID: {position}\r\n");
    let mut stream = cluster.nodes[node].broker().subscribe(&format!("/subscribe/{TOPIC}"), &fields);
    stream.opening();
    stream
}

/// Asserts that the stream goes on with exactly these events.
fn assert_follow(stream: &mut Stream, ids: &[String], first: usize) {
    for (offset, id) in ids.iter().enumerate() {
        let Event { name, data, id: received, .. } = stream.event();
        let expected = (None, Some((first + offset).to_string()), Some(id.clone()));
        assert_eq!((name, data, received), expected);
    }
}

#[test]
fn clients_go_on_at_another_broker_and_after_restarts() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 2);
    let mut streams = [0, 1].map(|node| subscribe(&cluster, node, "0"));
    let mut ids = publish(&cluster, 0..20);
    streams.iter_mut().for_each(|stream| assert_follow(stream, &ids, 0));

    cluster.nodes[0].kill();
    assert_follow(&mut subscribe(&cluster, 1, &ids[9]), &ids[10..], 10);
    cluster.nodes[0].restart();
    assert_follow(&mut subscribe(&cluster, 0, &ids[9]), &ids[10..], 10);

    cluster.kill_all();
    cluster.restart_all();
    ids.extend(publish(&cluster, 20..30));
    assert_follow(&mut subscribe(&cluster, 0, &ids[4]), &ids[5..], 5);
    assert_follow(&mut subscribe(&cluster, 1, &ids[25]), &ids[26..], 26);

    let mut stream = subscribe(&cluster, 0, &ids[29]);
    redis.kill();
    redis.restart();
    ids.extend(publish(&cluster, 30..40));
    assert_follow(&mut stream, &ids[30..], 30);
    assert_follow(&mut subscribe(&cluster, 1, &ids[14]), &ids[15..], 15);
    assert!(ids.is_sorted_by_key(|id| id.parse::<u64>().expect("an id is a number")), "{ids:?}");
}

/// A client that has just been answered at one broker is known at the other, however little time has passed.
#[test]
fn a_position_of_another_broker_is_never_reported_as_a_gap() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 2);
    for number in 0..200 {
        let (here, there) = (number % 2, (number + 1) % 2);
        let own = format!("own-{number}");
        let body = if number % 3 == 0 { format!("data: {number}\nid: {own}") } else { format!("data: {number}") };
        let answer = cluster.nodes[here].broker().publish(TOPIC, &body);
        let id = answer["id"].as_str().expect("an answer has an id");
        let position = if number % 3 == 0 { &own } else { id };
        let mut stream = subscribe(&cluster, there, position);
        cluster.nodes[here].broker().publish(TOPIC, "data: next");
        assert_eq!(stream.event().data.as_deref(), Some("next"), "after {position}");
    }
}

#[test]
fn an_id_that_was_published_at_one_broker_is_a_duplicate_at_another() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 2);
    let mut stream = subscribe(&cluster, 1, "0");
    let first = cluster.nodes[0].broker().publish(TOPIC, "data: once\nid: mine");
    cluster.nodes[0].kill();
    cluster.nodes[0].restart();
    for node in [1, 0, 1] {
        let again = cluster.nodes[node].broker().publish(TOPIC, "data: once\nid: mine");
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &true.into()), "{again}");
    }
    let partly = cluster.nodes[1].broker().publish(TOPIC, "data: once\nid: mine\n\ndata: more\n\n");
    assert_eq!(partly["events"], 1, "{partly}");
    assert_eq!(stream.data(2), ["once", "more"]);
}
