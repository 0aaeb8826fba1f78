//! `GET /subscribe/{topic},…`: the head, the opening, heartbeats, the end of a stream, and refusals.

use std::time::{Duration, Instant};

use super::support::{Broker, Stream};

fn retry_of(opening: &str) -> u64 {
    let line = opening.lines().find_map(|line| line.strip_prefix("retry: ")).expect("an opening has a retry");
    line.parse().expect("retry is a number")
}

#[test]
fn the_head_is_sent_together_with_the_opening() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    for field in [
        "Content-Type: text/event-stream\r\n",
        "Cache-Control: no-cache, no-store, no-transform\r\n",
        "X-Accel-Buffering: no\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Date: ",
    ] {
        assert!(stream.head.contains(field), "{}", stream.head);
    }
    let opening = stream.opening();
    let retry = retry_of(&opening);
    assert_eq!(opening, format!(":\nretry: {retry}\n"), "no blank line");
    assert!((2010..=3990).contains(&retry), "{retry}");
}

#[test]
fn retry_is_random_per_connection() {
    let broker = Broker::start(&["--retry", "30s"]);
    let drawn: std::collections::BTreeSet<_> =
        (0..20).map(|_| retry_of(&broker.subscribe("/subscribe/topicone1", "").opening())).collect();
    assert!(drawn.len() > 10, "{drawn:?}");
    assert!(drawn.iter().all(|retry| (20_100..=39_900).contains(retry)), "{drawn:?}");
}

#[test]
fn http_1_0_gets_the_same_bytes_without_chunks() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    connection.send("GET /subscribe/topicone1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = connection.head();
    assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close\r\n"), "{head}");
    let response = broker.publish("topicone1", "data: x");
    broker.signal("TERM");
    let text = String::from_utf8(connection.read_to_end()).expect("UTF-8");
    let (_, event) = text.split_once("\ndata").expect("an event");
    assert_eq!(event, format!(": x\nid: {}\n\n", response["id"].as_str().expect("an id")));
}

#[test]
fn prime_sends_the_newest_id_without_an_event() {
    let broker = Broker::start(&[]);
    let response = broker.publish("topictwo2", "data: elsewhere");
    let opening = broker.subscribe("/subscribe/topicone1?prime", "").opening();
    let lines: Vec<_> = opening.split('\n').collect();
    assert_eq!(
        (lines[0], lines[2], &lines[3..]),
        (":", &*format!("id: {}", response["id"].as_str().expect("an id")), &["", ""][..])
    );
    // Resuming subscribers are not primed.
    let opening = broker.subscribe("/subscribe/topicone1?prime", "Last-Event-ID: 0\r\n").opening();
    assert_eq!(opening.lines().count(), 2, "{opening:?}");
}

#[test]
fn several_topics_are_one_stream() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1,TopicOne1,topictwo2", "");
    stream.opening();
    assert_eq!(broker.publish("topicone1", "data: 1")["subscribers"], 1);
    broker.publish("topicthree3", "data: none of its business");
    broker.publish("topictwo2", "data: 2");
    assert_eq!(stream.data(2), ["1", "2"]);
    let many = (0..64).map(|number| format!("topicnumber{number}")).collect::<Vec<_>>().join(",");
    broker.subscribe(&format!("/subscribe/{many}"), "").opening();
    assert_eq!(broker.get(&format!("/subscribe/{many},onetoomany")).status, 400);
}

#[test]
fn invalid_topics_get_400() {
    let broker = Broker::start(&[]);
    for topics in
        ["", "short", "topicone1,", ",topicone1", "topicone1,,topictwo2", "with-dash1", "%00abcdefgh", "t%C3%BCpicone"]
    {
        let response = broker.get(&format!("/subscribe/{topics}"));
        assert_eq!(response.status, 400, "{topics}");
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
    }
    broker.subscribe("/subscribe/topicone1%2Ctopictwo2", "").opening();
}

#[test]
fn a_heartbeat_is_a_comment_without_a_blank_line() {
    let broker = Broker::start(&["--heartbeat", "200ms"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(stream.chunk().as_deref(), Some(":\n"));
        assert!(begin.elapsed() >= Duration::from_millis(150), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_head_request_gets_the_head_and_keeps_the_connection() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    connection.send("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(connection.head().contains("text/event-stream"));
    assert_eq!(connection.response().text(), "ok");
    assert_eq!(broker.stats()["subscribers"], 0);
}

#[test]
fn a_full_broker_sends_a_reconnection_time_with_200() {
    let broker = Broker::start(&["--max-subscribers", "2"]);
    let others: Vec<Stream> = (0..2).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    let mut turned_away = broker.subscribe("/subscribe/topicone1", "");
    let retry = retry_of(&turned_away.opening());
    assert!((5_000..=15_000).contains(&retry), "{retry}");
    assert_eq!(turned_away.chunk(), None);
    assert!(turned_away.connection.is_closed());
    drop(others);
    broker.wait_for("empty", |stats| stats["subscribers"] == 0);
    let opening = broker.subscribe("/subscribe/topicone1", "").opening();
    assert!(retry_of(&opening) < 5_000);
}

#[test]
fn subscribers_input_is_dropped_and_their_disconnect_noticed() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    stream.connection.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n");
    broker.publish("topicone1", "data: x");
    assert_eq!(stream.data(1), ["x"]);
    stream.connection.shutdown_write();
    assert!(stream.connection.is_closed());
    broker.wait_for("disconnected", |stats| stats["subscribers"] == 0);
}

#[test]
fn connecting_and_disconnecting_subscribers_leak_nothing() {
    let broker = Broker::start(&[]);
    let is_empty =
        |stats: &serde_json::Value| stats["subscribers"] == 0 && stats["topics"] == 0 && stats["clients"] == 1;
    let churn = |count: usize| {
        for round in 0..count {
            let target = |number: usize| format!("/subscribe/topic{:04}x,topicshared", (round * 20 + number) % 3000);
            let streams: Vec<Stream> = (0..20).map(|number| broker.subscribe(&target(number), "")).collect();
            drop(streams);
            // Otherwise a slow machine might have more of them at once in one half than in the other.
            if round % 10 == 9 {
                broker.wait_for("empty", is_empty);
            }
        }
        broker.private_bytes()
    };
    let before = churn(100);
    let after = churn(400);
    // A topic leaked for each of the 8000 would take twice as much.
    assert!(after < before + (1 << 20), "{before} then {after} bytes");
}
