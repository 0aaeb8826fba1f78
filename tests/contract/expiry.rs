//! A stream ends in the second in which its token expires, with an `expired` event, and no other stream ends then. Seconds
//! are part of the contract, so these tests measure them, and share a lock with the tests in `scale`.

use std::time::SystemTime;

use super::scale::lock_machine;
use super::support::tokens::{
    self, SECRETS, assert_denied, assert_in_time, bearer, now, subscriber_until, try_subscribe,
};
use super::support::{Broker, Crowd, EXPIRED, Stream, connect_small};

fn subscribe(broker: &Broker, token: &str) -> Stream {
    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(token));
    stream.opening();
    stream
}

/// Publishes with a publisher's token.
fn publish(broker: &Broker, body: &str) {
    broker.publish(&format!("topicone1?token={}", tokens::publisher("topicone1")), body);
}

#[test]
fn a_stream_gets_an_expired_event_and_ends_with_its_token() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let expires = now() + 2;
    let token = subscriber_until("topicone1", expires);
    let mut stream = subscribe(&broker, &token);
    let mut plain = broker.connect();
    plain.send(format!("GET /subscribe/topicone1 HTTP/1.0\r\n{}\r\n", bearer(&token)));
    assert!(!plain.head().contains("Transfer-Encoding"));
    let mut longer = subscribe(&broker, &tokens::subscriber("topicone1"));
    publish(&broker, "data: in time");

    assert_eq!(stream.data(1), ["in time"]);
    assert_eq!(stream.event().text, EXPIRED);
    assert_in_time(expires, SystemTime::now());
    assert_eq!(stream.chunk(), None, "the last chunk");
    assert!(stream.connection.is_closed());
    let rest = String::from_utf8(plain.read_to_end()).expect("streams are UTF-8");
    assert_in_time(expires, SystemTime::now());
    assert!(rest.ends_with(&format!("\n\n{EXPIRED}")), "without chunks: {rest:?}");

    publish(&broker, "data: later");
    assert_eq!(longer.data(2), ["in time", "later"]);
    let again = try_subscribe(&broker, "/subscribe/topicone1", &bearer(&token));
    assert_denied(&again, 401, "the token expired at");
    broker.wait_for("counted", |stats| {
        stats["streams_expired"] == 2 && stats["subscribers"] == 1 && stats["requests_denied"] == 1
    });
}

/// Seconds that a full socket stays open after its token has expired.
const GRACE: u64 = 2;

/// The socket has no room for an `expired` event, but the connection still closes in time.
#[test]
fn an_unread_stream_ends_with_its_token() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    // Filling the socket's buffers may take long on a busy machine.
    let expires = now() + 6;
    let target = format!("/subscribe/topicone1?token={}", subscriber_until("topicone1", expires));
    let mut crowd = Crowd::new();
    crowd.join_paused(1, &target, || connect_small(broker.address));
    broker.wait_for("joined", |stats| stats["subscribers"] == 1);
    let large = format!("data: {}", "x".repeat(500_000));
    while broker.stats()["subscribers_stalled"] == 0 {
        assert!(now() < expires, "the socket never fills");
        publish(&broker, &large);
    }
    // The remaining client is the one that requests the metrics.
    broker.wait_for("closed", |stats| {
        stats["clients"] == 1 && stats["subscribers_stalled"] == 0 && stats["streams_expired"] == 1
    });
    assert_in_time(expires + GRACE, SystemTime::now());
}

/// The socket is full when the token expires, and the reader has some seconds to read the current frame to its end.
#[test]
fn a_slow_reader_gets_the_current_frame_and_the_expired_event() {
    let broker = Broker::start_with_tokens(&["--history", "1000"], &SECRETS);
    let large = format!("data: {}", "x".repeat(700_000));
    (0..20).for_each(|_| publish(&broker, &large));
    let expires = now() + 2;
    let token = bearer(&subscriber_until("topicone1", expires));
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=0", &token);
    broker.wait_for("full", |stats| stats["subscribers_stalled"] == 1);
    broker.wait_for("expired", |stats| stats["streams_expired"] == 1);
    let mut last = None;
    while let Some(event) = stream.next() {
        last = Some(event);
    }
    let last = last.expect("a stream has events");
    assert_eq!(last.name.as_deref(), Some("expired"), "{:.100}", last.text);
    assert!(stream.connection.is_closed());
}

#[test]
fn many_streams_end_each_in_its_own_second() {
    const EACH: usize = 200;
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&["--threads", "2"], &SECRETS);
    let first = now() + 4;
    let mut crowd = Crowd::new();
    // Tokens expire within four seconds, and every fifth one outlives the test.
    let expiry = |number: usize| first + [0, 1, 2, 3, 3600][number % 5];
    crowd.join(broker.address, 5 * EACH, |number| {
        format!("/subscribe/topicone1?token={}", subscriber_until("topicone1", expiry(number)))
    });
    let publisher = format!("topicone1?token={}", tokens::publisher("topicone1"));
    let mut ended = 0;
    for second in 0..4 {
        broker.publish(&publisher, &format!("data: {second}"));
        ended += EACH;
        crowd.read_until("ended", |crowd| crowd.all().iter().filter(|member| member.has_ended).count() >= ended);
    }
    for (number, member) in crowd.all().iter().enumerate().filter(|(number, _)| number % 5 < 4) {
        assert!(member.is_expired && member.has_ended, "{number}");
        assert_in_time(expiry(number), member.ended_at.expect("it has ended"));
        assert!((1..=number % 5 + 1).contains(&member.received), "events arrived after the stream's end");
    }
    broker.publish(&publisher, "data: 4");
    let outlives = |number: usize| number % 5 == 4;
    crowd.read_until("served", |crowd| {
        crowd.all().iter().enumerate().filter(|(number, _)| outlives(*number)).all(|(_, member)| member.received == 5)
    });
    crowd.read_until("closed", |crowd| crowd.all().iter().filter(|member| member.is_closed).count() == 4 * EACH);
    broker.wait_for("counted", |stats| stats["streams_expired"] == 4 * EACH && stats["subscribers"] == EACH);
}
