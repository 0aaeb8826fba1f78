//! Publishes whose connection waits for the engine.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::engine::{Engine, Sequenced};
use crate::metrics::CODES;

const PUBLISH: &str = "POST /publish/topicone1";

/// Sends a publish, and has it queued at the engine.
fn deferred() -> (Fixture, Engine, ConnectionId, Receiver<DeferredReply>) {
    let (service, engine) = service::with_engine();
    let mut fixture = Fixture::of(service);
    fixture.accept_with_body(PUBLISH, "data: x", usize::MAX);
    let mut effects = fixture.drive();
    let Some(Effect::Defer(id, request)) = effects.pop() else { panic!("it is deferred") };
    assert!(effects.is_empty(), "{effects:?}");
    let (sender, replies) = channel();
    request.run(&fixture.cx.service, move |reply| sender.send(reply).unwrap());
    (fixture, engine, id, replies)
}

fn answer(engine: &Engine, replies: &Receiver<DeferredReply>) -> DeferredReply {
    let mut queued = engine.take_publishes();
    assert_eq!(queued.len(), 1);
    queued.remove(0).answer(Ok(Sequenced { id: 7, events: 1 }));
    replies.try_recv().expect("it is answered")
}

fn responses(fixture: &Fixture, status: u16) -> u64 {
    fixture.cx.metrics().responses.get(CODES.iter().position(|&code| code == status).unwrap())
}

#[test]
fn a_publish_is_answered_when_the_engine_has_replied() {
    let (mut fixture, engine, id, replies) = deferred();
    assert!(fixture.time_out(34).is_empty(), "the engine has more time");
    assert_eq!(fixture.cx.metrics().responses.sum(), 0);
    fixture.connections.deliver(id, answer(&engine, &replies), &fixture.cx);
    assert!(fixture.drive().is_empty());
    assert_eq!((responses(&fixture, 200), fixture.cx.metrics().responses.sum()), (1, 1));
}

#[test]
fn a_publish_happens_even_if_its_client_is_gone() {
    let (mut fixture, engine, id, replies) = deferred();
    fixture.connections.close(id.key, &fixture.cx);
    assert!(matches!(fixture.effects()[..], [Effect::Close(..)]));
    // Another connection gets its key.
    fixture.accept_with_body(PUBLISH, "data: y", usize::MAX);
    assert!(matches!(fixture.drive()[..], [Effect::Defer(other, _)] if other.key == id.key && other != id));
    fixture.connections.deliver(id, answer(&engine, &replies), &fixture.cx);
    assert!(!fixture.connections.has_work());
    assert_eq!(fixture.cx.metrics().responses.sum(), 0);
}

#[test]
fn a_publish_without_a_reply_gets_504() {
    let (mut fixture, _engine, ..) = deferred();
    fixture.time_out(36);
    assert_eq!(responses(&fixture, 504), 1);
}

#[test]
fn a_drain_gives_publishes_less_time() {
    let (mut fixture, engine, id, replies) = deferred();
    let until = fixture.cx.now.millis + 6_000;
    fixture.connections.drain(until, &fixture.cx);
    assert!(fixture.time_out(5).is_empty());
    assert_eq!(fixture.cx.metrics().responses.sum(), 0);
    fixture.time_out(2);
    assert_eq!(responses(&fixture, 504), 1);
    fixture.connections.deliver(id, answer(&engine, &replies), &fixture.cx);
    assert_eq!(fixture.cx.metrics().responses.sum(), 1, "a late reply is ignored");
}
