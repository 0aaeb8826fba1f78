//! `--max-stream-age` ends streams so that their clients reconnect, to any broker, and resume.

use super::support::tokens::{SECRETS, bearer, now, subscriber_until};
use super::support::{Broker, EXPIRED};

#[test]
fn an_old_stream_ends_without_an_event_and_its_client_resumes() {
    let broker = Broker::start(&["--max-stream-age", "1s"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let mut plain = broker.connect();
    plain.send("GET /subscribe/topicone1 HTTP/1.0\r\n\r\n");
    plain.head();
    broker.publish("topicone1", "data: first");
    let first = stream.event();
    assert_eq!(first.data.as_deref(), Some("first"));
    assert_eq!(stream.chunk(), None, "the last chunk");
    assert!(stream.connection.is_closed());
    let rest = String::from_utf8(plain.read_to_end()).expect("streams are UTF-8");
    assert!(rest.ends_with(&first.text), "without chunks: {rest:?}");

    broker.publish("topicone1", "data: second");
    let position = format!("Last-Event-ID: {}\r\n", first.number());
    assert_eq!(broker.subscribe("/subscribe/topicone1", &position).data(1), ["second"]);
    let metrics =
        broker.metrics_once("closed", |metrics| metrics.labeled("esker_streams_closed_total", "reason", "aged") >= 2.0);
    assert_eq!(metrics.value("esker_streams_expired_total"), 0.0);
}

#[test]
fn a_token_that_expires_earlier_is_the_reason() {
    let broker = Broker::start_with_tokens(&["--max-stream-age", "1h"], &SECRETS);
    let token = bearer(&subscriber_until("topicone1", now() + 2));
    let mut stream = broker.subscribe("/subscribe/topicone1", &token);
    stream.opening();
    assert_eq!(stream.event().text, EXPIRED);
    assert_eq!(stream.chunk(), None, "the last chunk");
}

/// A full socket gets the rest of the event that it has begun to accept, and the end.
#[test]
fn a_slow_reader_gets_the_current_event_before_the_end() {
    let broker = Broker::start(&["--max-stream-age", "2s", "--history", "1000"]);
    let large = format!("data: {}", "x".repeat(700_000));
    (0..20).for_each(|_| {
        broker.publish("topicone1", &large);
    });
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=0", "");
    broker.wait_for("full", |stats| stats["subscribers_stalled"] == 1);
    let mut received = 0;
    while let Some(event) = stream.next() {
        assert_eq!((event.name, event.data.map(|data| data.len())), (None, Some(700_000)));
        received += 1;
    }
    assert!(received > 0);
    assert!(stream.connection.is_closed());
}
