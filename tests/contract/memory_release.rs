//! After a flood the ebb: whatever came, once it has gone the broker's memory and descriptors are where they were. Each load
//! comes twice to warm the broker up, and then again; what it took at its height shows that there was something to give back.

use std::time::{Duration, Instant};

use super::scale::turn;
use super::support::{Broker, Connection, Crowd, PATIENCE, connect_small, tokens};

/// Memory that is not looked at: pages that a thread keeps for its next allocations, or that hold little.
const SLACK: usize = 1 << 20;
/// What a broker that was busy once has more than one that never was.
const WARM: usize = 4 << 20;
/// So long nothing is given back before it is said that nothing more will be.
const CALM: Duration = Duration::from_secs(2);

/// Puts the load on it twice, and then twice more. The load answers the memory at its height, which must be so many bytes more.
fn assert_ebb(broker: &Broker, height: usize, load: impl Fn(&Broker) -> usize) {
    let (fresh, descriptors) = (broker.private_bytes(), broker.descriptors());
    let flow = || {
        let high = load(broker);
        broker.wait_for("alone", |stats| stats["clients"] == 1 && stats["subscribers"] == 0);
        high
    };
    flow();
    flow();
    let warm = settled(broker);
    assert!(warm < fresh + WARM, "{fresh} bytes at first, {warm} after the load");
    for _ in 0..2 {
        let high = flow();
        assert!(high > warm + height, "{high} bytes at the height, {warm} before");
        let bound = warm + (warm / 50).max(SLACK);
        wait_until(|| broker.private_bytes() <= bound, || format!("{warm} bytes, now {}", broker.private_bytes()));
        wait_until(|| broker.descriptors() == descriptors, || format!("{descriptors}, now {}", broker.descriptors()));
    }
    broker.assert_well();
}

/// The least memory, once it no longer falls.
fn settled(broker: &Broker) -> usize {
    let (mut least, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < CALM {
        let bytes = broker.private_bytes();
        if bytes < least {
            (least, since) = (bytes, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}

fn wait_until(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never back: {}", what());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// So many connections that each have said this and no more; the memory while they are there.
fn half_requests(broker: &Broker, count: usize, text: &str) -> usize {
    let half = |_| {
        let mut connection = broker.connect();
        connection.send(text);
        connection
    };
    let connections: Vec<Connection> = (0..count).map(half).collect();
    wait_for_clients(broker, count);
    // What was sent last may still be on its way.
    let high = settled_high(broker);
    drop(connections);
    high
}

fn wait_for_clients(broker: &Broker, count: usize) {
    broker.wait_for("all there", |stats| stats["clients"].as_u64() >= Some(count as u64));
}

/// The most memory within a moment.
fn settled_high(broker: &Broker) -> usize {
    let looks = (0..10).map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        broker.private_bytes()
    });
    looks.max().unwrap_or(0)
}

/// Publishes on one connection, as many at once as are given together.
fn publish_all<'a>(broker: &Broker, batches: impl Iterator<Item = Vec<(String, &'a str)>>) {
    let mut connection = broker.connect();
    for batch in batches {
        let requests = batch.iter().map(|(topic, body)| {
            let length = body.len();
            format!("POST /publish/{topic} HTTP/1.1\r\nHost: esker\r\nContent-Length: {length}\r\n\r\n{body}")
        });
        connection.send(requests.collect::<String>());
        batch.iter().for_each(|_| assert_eq!(connection.response().status, 200));
    }
}

fn wait_for_empty_history(broker: &Broker) {
    broker.wait_for("aged", |stats| stats["topics"] == 0 && stats["history_events"] == 0);
}

/// Each with a topic and a token of its own.
#[test]
fn of_subscribers() {
    let _turn = turn();
    let in_an_hour = tokens::now() + 3600;
    let broker = Broker::start_secured(&[], &tokens::SECRETS);
    assert_ebb(&broker, 2 << 20, |broker| {
        let mut crowd = Crowd::new();
        crowd.join(broker.address, 5_000, |number| {
            let (topic, expires) = (format!("topic{number:06}"), in_an_hour + number as u64 % 1000);
            format!("/subscribe/{topic}?token={}", tokens::subscriber_until(&topic, expires))
        });
        broker.private_bytes()
    });
}

#[test]
fn of_requests_that_never_end() {
    let _turn = turn();
    let broker = Broker::start(&[]);
    let head = format!("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(1000));
    let body = format!(
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\ndata: {}",
        "a".repeat(20_000)
    );
    assert_ebb(&broker, 20 << 20, |broker| {
        half_requests(broker, 3_000, &head);
        half_requests(broker, 1_200, &body)
    });
}

#[test]
fn of_topics() {
    let _turn = turn();
    let broker = Broker::start(&["--history-age", "1s"]);
    assert_ebb(&broker, 3 << 20, |broker| {
        let topic = |number| (format!("topic{number:06}"), "data: hello");
        publish_all(broker, (0..100).map(|batch| (batch * 200..(batch + 1) * 200).map(topic).collect()));
        let high = broker.private_bytes();
        wait_for_empty_history(broker);
        high
    });
}

#[test]
fn of_events_large_and_small() {
    let _turn = turn();
    let broker = Broker::start(&["--history", "100000", "--history-age", "1s"]);
    let large = format!("data: {}", "x".repeat(1_000_000));
    assert_ebb(&broker, 12 << 20, |broker| {
        let one = || ("topicone1".to_owned(), large.as_str());
        publish_all(broker, (0..40).map(|_| vec![one()]));
        let high = broker.private_bytes();
        publish_all(broker, (0..20).map(|_| vec![("topicone1".to_owned(), "data: small"); 500]));
        wait_for_empty_history(broker);
        high
    });
}

#[test]
fn of_the_stalled() {
    let _turn = turn();
    let broker = Broker::start(&["--history", "10000", "--history-bytes", "8M", "--history-age", "1s"]);
    let body = format!("data: {}", "x".repeat(10_000));
    assert_ebb(&broker, 6 << 20, |broker| {
        let topic = |number: usize| format!("topic{:04}", number % 50);
        let mut crowd = Crowd::new();
        for number in 0..200 {
            let target = format!("/subscribe/{},topicone1", topic(number));
            crowd.join_deaf(1, &target, || connect_small(broker.address));
        }
        broker.wait_for("joined", |stats| stats["subscribers"] == 200);
        publish_all(broker, (0..80).map(|_| (0..50).map(|number| (topic(number), body.as_str())).collect()));
        let high = broker.private_bytes();
        drop(crowd);
        wait_for_empty_history(broker);
        high
    });
}
