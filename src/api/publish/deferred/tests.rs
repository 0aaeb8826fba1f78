//! Publishes that a test answers in place of the engine.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::*;
use crate::api::publish::{BodyFormat, QueryFields, finish};
use crate::api::{Body, DeferredReply, Service};
use crate::auth::Validity;
use crate::clock::{Clock, Now};
use crate::engine::Engine;
use crate::fuzz::service;
use crate::http::cors::Cors;
use crate::http::{ResponseParams, Version};
use crate::hub::Position;
use crate::quota::Client;

const TOPIC: &str = "topicone1";

fn topic() -> TopicName {
    TopicName::parse(TOPIC).unwrap()
}

fn context<T>(service: &Service, run: impl FnOnce(Context<'_>) -> T) -> T {
    let now = Now { id_micros: 50, unix_millis: 0, millis: 1 };
    run(service::context(service, &RefCell::default(), now))
}

/// Publishes SSE text until it is deferred or has a response.
fn publish(service: &Service, body: &str) -> Outcome {
    let query = QueryFields { name: None, id: None };
    let request =
        Request { topic: topic(), format: BodyFormat::Sse, query, validity: Validity::default(), principal: None };
    let mut outcome = context(service, |context| finish(request, Body::Read(body.as_bytes()), context));
    loop {
        outcome = match outcome {
            Outcome::Work(paused) => context(service, |context| crate::api::publish::resume(*paused, context)),
            outcome => return outcome,
        };
    }
}

/// Has a deferred request carried out.
#[track_caller]
fn run(service: &Service, outcome: Outcome) -> Receiver<DeferredReply> {
    let Outcome::Deferred(request) = outcome else { panic!("{outcome:?}") };
    let (sender, replies) = channel();
    request.run(service, move |reply| sender.send(reply).unwrap());
    replies
}

/// Publishes an event, answers in place of the engine, and returns the response as it is sent.
fn answer(service: &Service, engine: &Engine, result: Result<Sequenced, EngineError>) -> String {
    let replies = run(service, publish(service, "data: x"));
    engine.take_publishes().pop().expect("it is queued").answer(result);
    let reply = replies.try_recv().expect("it is answered");
    let params = ResponseParams { version: Version::Http11, keep_alive: true, head_only: false, cors: Cors::Any };
    let mut out = Vec::new();
    context(service, |context| params.write(&reply.result.into_response(context), context.headers, &mut out));
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn status(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Respond(response) => response.status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_engine_gets_all_events_and_the_hub_none() {
    let (service, engine) = service::with_engine();
    let replies = run(&service, publish(&service, ": a\nevent: e\ndata: 1\nid:  own \n\ndata: 2\n\n"));
    let mut queued = engine.take_publishes();
    assert_eq!(queued.len(), 1);
    let event = |id: Option<&str>, lines: &str| (TOPIC.to_owned(), id.map(str::to_owned), lines.to_owned());
    let expected = [event(Some("own"), ": a\nevent: e\ndata: 1\nid:  own \n"), event(None, "data: 2\n")];
    assert!(matches!(replies.try_recv(), Err(TryRecvError::Empty)), "there is no answer yet");
    assert!(service.has_pending_events() && service.hub.counts().published == 0);
    assert_eq!(queued.remove(0).events(), expected);
    assert!(!service.has_pending_events(), "the engine has dropped it");
}

#[test]
fn responses_say_what_the_log_says() {
    let (service, engine) = service::with_engine();
    let answer = |id, events| {
        let response = answer(&service, &engine, Ok(Sequenced { id, events }));
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
        response.split_once("\r\n\r\n").unwrap().1.trim_end().to_owned()
    };
    assert_eq!(answer(7, 1), r#"{"id":"7","events":1,"subscribers":0}"#);
    let _joined = service.hub.join(0, &[topic()], Position::Live).unwrap();
    assert_eq!(answer(8, 1), r#"{"id":"8","events":1,"subscribers":1}"#);
    assert_eq!(answer(7, 0), r#"{"id":"7","events":0,"subscribers":1,"duplicate":true}"#);
}

#[test]
fn every_error_of_the_engine_has_its_response_and_is_counted() {
    let (service, engine) = service::with_engine();
    let counts = || {
        let refused = &service.metrics.worker(0).publishes_refused;
        [PublishRefusal::Engine, PublishRefusal::Unknown, PublishRefusal::Draining].map(|why| refused.get(why as usize))
    };
    let mut before = counts();
    assert_eq!(before, [0; 3]);
    for (error, status, has_retry_after, kind) in [
        (EngineError::Busy, 503, true, 0),
        (EngineError::Unavailable("a cable is cut".into()), 503, true, 0),
        (EngineError::Unknown("a cable was cut".into()), 504, false, 1),
        (EngineError::Closed, 503, true, 2),
    ] {
        let response = answer(&service, &engine, Err(error.clone()));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.contains(&error.of_publish()), "{response}");
        assert_eq!(response.contains("\r\nRetry-After: "), has_retry_after, "{response}");
        before[kind] += 1;
        assert_eq!(counts(), before, "{error:?}");
    }
}

#[test]
fn memory_is_reserved_until_the_engine_answers() {
    let (service, engine) = service::with_engine();
    let body = format!("data: {}", "x".repeat(100_000));
    let _replies = run(&service, publish(&service, &body));
    assert!(service.bodies.bytes() >= body.len());
    let queued = engine.take_publishes();
    assert!(service.bodies.bytes() >= body.len(), "the engine still has it");
    queued.into_iter().for_each(|publish| publish.answer(Ok(Sequenced { id: 9, events: 1 })));
    assert_eq!(service.bodies.bytes(), 0);
    let other = |number| service.bodies.reservation(Client::Principal(crate::auth::Principal::Subject(number)));
    let mut others = Vec::new();
    for bytes in [1 << 20, 8 << 10, 16] {
        others.extend((0..).map(other).map(|mut body| body.grow(bytes).map(|()| body)).map_while(Result::ok));
    }
    assert_eq!(status(publish(&service, "data: x")), 503);
    assert!(engine.take_publishes().is_empty());
}

#[test]
fn what_can_be_refused_here_does_not_reach_the_engine() {
    let (service, engine) = service::with_engine();
    let large = "data: a small event among many\n\n".repeat(9_000);
    for number in 0.. {
        let other = TopicName::parse(&format!("othertopic{number}")).unwrap();
        if service.hub.join_local(&[other], Position::Live).is_err() {
            break;
        }
    }
    assert_eq!((status(publish(&service, "data: x")), status(publish(&service, &large))), (503, 503));
    let refused = &service.metrics.worker(0).publishes_refused;
    assert_eq!(refused.get(PublishRefusal::Topics as usize), 2);
    service.drain();
    assert_eq!(status(publish(&service, "data: x")), 503);
    assert_eq!(refused.get(PublishRefusal::Draining as usize), 1);
    assert!(engine.take_publishes().is_empty());
}

/// Backpressure of the hub is for the log's tail. A publish with more events than this hub could take now is deferred.
#[test]
fn a_large_publish_does_not_wait_for_room_in_the_hub() {
    let engine = Engine::new(Clock::new());
    // A hub that orders events itself is one that can have no room for a reason that is easy to bring about.
    let service = service::configured(|config| config).with_engine(engine.clone());
    let frames = || vec![crate::sse::Event::new("x").to_frame().unwrap()];
    let ahead = 1 << 50;
    service.hub.publish(&topic(), frames(), ahead, None).unwrap();
    assert!(service.hub.publish(&topic(), frames(), 50, None).is_err(), "ids are ahead of the clock");
    let _replies = run(&service, publish(&service, &"data: a small event among many\n\n".repeat(9_000)));
    assert_eq!(engine.take_publishes().remove(0).events().len(), 9_000);
}
