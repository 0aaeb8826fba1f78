//! A hundred thousand topics, and then as many others: topics without subscribers whose events have expired are removed.

use std::time::Duration;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, Crowd};

const TOPICS: usize = 100_000;
/// This many removed topics are remembered for a while, in addition to existing ones.
const REMEMBERED: usize = 65_536;
/// Requests sent before their responses are read.
const PIPELINE: usize = 100;
/// As many topics as one subscription may have.
const EACH: usize = 64;
const SUBSCRIBERS: usize = 100;

#[test]
fn a_hundred_thousand_topics_are_removed_after_use() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s", "--history-age", "3s"]);
    let (fast, ledger) = (FastSubscribers::start(&broker, 100), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
    // The largest number of topics in this test, so that their memory stays allocated.
    drop(listen(&broker, 0, (TOPICS + REMEMBERED) / EACH + 1));
    let mut first = 0;
    assert_survives("100 000 topics", &broker, 100 + 1 + 2, 32 * SLACK, || {
        let mut crowd = listen(&broker, first, SUBSCRIBERS);
        let mut connection = broker.connect();
        for begin in (0..TOPICS).step_by(PIPELINE) {
            publish(&mut connection, first, begin);
            assert!(publisher.publish(&format!("{first} {begin}")));
            crowd.read_for(Duration::ZERO);
        }
        crowd.read_until("served", |crowd| crowd.all().iter().all(|member| member.received == EACH));
        assert!(crowd.all().iter().all(|member| member.gaps == 0));
        drop((crowd, connection));
        broker.wait_for("forgotten", |stats| stats["topics"].as_u64() <= Some(2));
        first += TOPICS;
    });
    drop(publisher);
    eprintln!("{}; each fast subscriber got {}", oracle.judge(), fast.finish());
}

fn topic(number: usize) -> String {
    format!("topic{number:07}")
}

/// Subscribes this many clients to the maximum number of topics each.
fn listen(broker: &Broker, first: usize, subscribers: usize) -> Crowd {
    let mut crowd = Crowd::new();
    crowd.join(broker.address, subscribers, |number| {
        let topics: Vec<_> = (0..EACH).map(|index| topic(first + number * EACH + index)).collect();
        format!("/subscribe/{}", topics.join(","))
    });
    crowd
}

/// Publishes one event to each of some topics. Numbers ascend for subscribers to several of them.
fn publish(connection: &mut Connection, first: usize, begin: usize) {
    let request = |number: usize| {
        let (topic, data) = (topic(first + number), format!("data: {}", number % EACH));
        format!("POST /publish/{topic} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{data}", data.len())
    };
    connection.send((begin..begin + PIPELINE).map(request).collect::<String>());
    assert!((0..PIPELINE).all(|_| connection.response().status == 200));
}
