//! Memory and descriptors are released after a load. Each load runs twice to warm the broker up, and is then measured; the peak
//! shows that there was something to release.

use std::time::{Duration, Instant};

use super::scale::lock_machine;
use super::support::{Broker, Connection, Crowd, TIMEOUT, connect_small, tokens};

/// Tolerance in bytes: pages that threads cache for their next allocations, or that are partly used.
const SLACK: usize = 1 << 20;
/// Bytes by which a broker that has been busy may exceed a fresh one.
const WARM_UP_BYTES: usize = 4 << 20;
/// Memory counts as settled when it hasn't decreased for this long.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Runs the load twice, and then twice more. The load returns the peak memory, which must exceed the baseline by at least
/// `height` bytes.
fn assert_released(broker: &Broker, height: usize, load: impl Fn(&Broker) -> usize) {
    let (fresh, descriptors) = (broker.private_bytes(), broker.descriptors());
    let flow = || {
        let high = load(broker);
        broker.wait_for("the only client", |stats| stats["clients"] == 1 && stats["subscribers"] == 0);
        high
    };
    flow();
    flow();
    let warm = settled_memory(broker);
    assert!(warm < fresh + WARM_UP_BYTES, "{fresh} bytes before, {warm} after the load");
    for _ in 0..2 {
        let high = flow();
        assert!(high > warm + height, "{high} bytes at the peak, {warm} before");
        let bound = warm + (warm / 50).max(SLACK);
        wait_until(|| broker.private_bytes() <= bound, || format!("{warm} bytes, now {}", broker.private_bytes()));
        wait_until(|| broker.descriptors() == descriptors, || format!("{descriptors}, now {}", broker.descriptors()));
    }
    broker.assert_healthy();
}

/// Returns the lowest memory use, once it no longer decreases.
fn settled_memory(broker: &Broker) -> usize {
    let (mut least, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < SETTLE_TIME {
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
        assert!(begin.elapsed() < TIMEOUT, "never back: {}", what());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Opens this many connections that each send `text`, and returns the memory use while they are open.
fn half_requests(broker: &Broker, count: usize, text: &str) -> usize {
    let half = |_| {
        let mut connection = broker.connect();
        connection.send(text);
        connection
    };
    let connections: Vec<Connection> = (0..count).map(half).collect();
    wait_for_clients(broker, count);
    // The last bytes sent may still be in transit.
    let high = peak_memory(broker);
    drop(connections);
    high
}

fn wait_for_clients(broker: &Broker, count: usize) {
    broker.wait_for("all connected", |stats| stats["clients"].as_u64() >= Some(count as u64));
}

/// Returns the highest memory use within a short time.
fn peak_memory(broker: &Broker) -> usize {
    let looks = (0..10).map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        broker.private_bytes()
    });
    looks.max().unwrap_or(0)
}

/// Publishes on one connection, pipelining the events of each batch.
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

/// Each subscriber has a topic and a token of its own.
#[test]
fn subscribers_release_their_memory() {
    let _lock = lock_machine();
    let in_an_hour = tokens::now() + 3600;
    let broker = Broker::start_with_tokens(&[], &tokens::SECRETS);
    assert_released(&broker, 2 << 20, |broker| {
        let mut crowd = Crowd::new();
        crowd.join(broker.address, 5_000, |number| {
            let (topic, expires) = (format!("topic{number:06}"), in_an_hour + number as u64 % 1000);
            format!("/subscribe/{topic}?token={}", tokens::subscriber_until(&topic, expires))
        });
        broker.private_bytes()
    });
}

#[test]
fn incomplete_requests_release_their_memory() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let head = format!("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(1000));
    let body = format!(
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\ndata: {}",
        "a".repeat(20_000)
    );
    assert_released(&broker, 20 << 20, |broker| {
        half_requests(broker, 3_000, &head);
        half_requests(broker, 1_200, &body)
    });
}

#[test]
fn topics_release_their_memory() {
    let _lock = lock_machine();
    // Long enough that even a busy machine publishes to all topics before the first ones expire.
    let broker = Broker::start(&["--history-age", "6s"]);
    assert_released(&broker, 3 << 20, |broker| {
        let topic = |number| (format!("topic{number:06}"), "data: hello");
        publish_all(broker, (0..100).map(|batch| (batch * 200..(batch + 1) * 200).map(topic).collect()));
        let high = broker.private_bytes();
        wait_for_empty_history(broker);
        high
    });
}

#[test]
fn events_release_their_memory() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--history", "100000", "--history-age", "1s"]);
    let large = format!("data: {}", "x".repeat(1_000_000));
    assert_released(&broker, 12 << 20, |broker| {
        let one = || ("topicone1".to_owned(), large.as_str());
        publish_all(broker, (0..40).map(|_| vec![one()]));
        let high = broker.private_bytes();
        publish_all(broker, (0..20).map(|_| vec![("topicone1".to_owned(), "data: small"); 500]));
        wait_for_empty_history(broker);
        high
    });
}

#[test]
fn stalled_subscribers_release_their_memory() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--history", "10000", "--history-bytes", "8M", "--history-age", "1s"]);
    let body = format!("data: {}", "x".repeat(10_000));
    assert_released(&broker, 6 << 20, |broker| {
        let topic = |number: usize| format!("topic{:04}", number % 50);
        let mut crowd = Crowd::new();
        for number in 0..200 {
            let target = format!("/subscribe/{},topicone1", topic(number));
            crowd.join_paused(1, &target, || connect_small(broker.address));
        }
        broker.wait_for("joined", |stats| stats["subscribers"] == 200);
        publish_all(broker, (0..80).map(|_| (0..50).map(|number| (topic(number), body.as_str())).collect()));
        let high = broker.private_bytes();
        drop(crowd);
        wait_for_empty_history(broker);
        high
    });
}
