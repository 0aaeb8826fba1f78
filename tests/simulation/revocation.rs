//! A token that is revoked while the stream that it opens is on its way.

use esker::{Config, Revocation};

use super::script::Harness;
use super::tokens;

const NEVER: u64 = 4_000_000_000;

/// Inserts a record and returns its id.
fn insert(harness: &mut Harness, pipe: usize) -> u64 {
    let (body, token) = (r#"{"event":"user","data":1}"#, tokens::field(tokens::PUBLISHER, NEVER));
    let head = format!("POST /insert HTTP/1.1\r\nHost: h\r\n{token}Content-Length: {}\r\n\r\n", body.len());
    harness.send(pipe, format!("{head}{body}").as_bytes());
    harness.broker.step_store();
    harness.settle();
    let response = harness.received(pipe);
    let (_, rest) = response.split_once("\"id\":\"").expect("it is inserted");
    rest.split('"').next().and_then(|id| id.parse().ok()).expect("an id is a number")
}

/// The worker has looked through its streams before the stream begins, because its position is still looked up in the store.
#[test]
fn a_stream_ends_if_its_token_is_revoked_before_it_begins() {
    let config = Config::new().publisher_secret(tokens::PUBLISHER).subscriber_secret(tokens::SUBSCRIBER);
    let mut harness = Harness::start(config, 1);
    let publisher = harness.connect(1, None);
    let unknown = insert(&mut harness, publisher) - 1;
    let subscribe = |harness: &mut Harness, id: usize| {
        let pipe = harness.connect(2, None);
        let token = tokens::field_with_id(tokens::SUBSCRIBER, NEVER, id);
        let head = format!("GET /events HTTP/1.1\r\nHost: h\r\n{token}Last-Event-ID: {unknown}\r\n\r\n");
        harness.send(pipe, head.as_bytes());
        assert_eq!(harness.received(pipe), "", "its position is looked up");
        pipe
    };
    let (revoked, other) = (subscribe(&mut harness, 7), subscribe(&mut harness, 8));
    harness.broker.revoke(&Revocation::jti("7").expect("it is short"), NEVER);
    harness.settle();
    for _ in 0..2 {
        harness.broker.step_store();
        harness.settle();
    }
    let response = harness.received(revoked);
    assert!(response.contains("event: expired") && response.contains("token revoked"), "{response}");
    assert!(harness.is_over(revoked));
    let response = harness.received(other);
    assert!(response.contains("event: user") && !harness.is_over(other), "{response}");
}
