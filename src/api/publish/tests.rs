//! Tests of publishes in slices, and of changes between two slices.

use std::cell::RefCell;

use super::*;
use crate::api::Service;
use crate::auth::{Principal, Validity};
use crate::clock::Now;
use crate::fuzz::service;
use crate::quota::{Client, Quotas, Rate};

#[test]
fn two_media_types_make_the_body_data() {
    for (text, format) in [
        (Some("application/json"), BodyFormat::Json),
        (Some(" application/json ;x=y"), BodyFormat::Json),
        (Some("TEXT/plain; charset=utf-8"), BodyFormat::PlainText),
        (None, BodyFormat::Sse),
        (Some(""), BodyFormat::Sse),
        (Some("text/event-stream"), BodyFormat::Sse),
        (Some("application/x-www-form-urlencoded"), BodyFormat::Sse),
        (Some("application/jsonl"), BodyFormat::Sse),
    ] {
        assert_eq!(BodyFormat::of(text), format, "{text:?}");
    }
}

/// Runs something at a second since the Unix epoch.
fn at<T>(service: &Service, second: u64, run: impl FnOnce(Context<'_>) -> T) -> T {
    let now = Now { id_micros: second * 1_000_000, unix_millis: second * 1000, millis: second * 1000 };
    run(service::context(service, &RefCell::default(), now))
}

fn request(format: BodyFormat) -> Request {
    let topic = TopicName::parse("topicone1").unwrap();
    let query = QueryFields { name: None, id: None };
    Request {
        topic,
        format,
        query,
        validity: Validity { expires: Some(20), token: None },
        principal: Some(Principal::Subject(1)),
    }
}

/// Returns a text that takes much work to check and has one event.
fn long_text() -> String {
    format!("{}data: x", ": a comment\n".repeat(100_000))
}

fn begin(service: &Service, format: BodyFormat, body: &str) -> Outcome {
    at(service, 10, |context| finish(request(format), Body::Read(body.as_bytes()), context))
}

#[track_caller]
fn unfinished(outcome: Outcome) -> PausedPublish {
    match outcome {
        Outcome::Work(paused) => *paused,
        other => panic!("{other:?}"),
    }
}

/// Resumes until the response. Returns the number of slices and the status.
fn drive(service: &Service, mut outcome: Outcome, second: u64) -> (usize, u16) {
    for slices in 0.. {
        outcome = match outcome {
            Outcome::Work(paused) => at(service, second, |context| resume(*paused, context)),
            Outcome::Respond(response) => return (slices, response.status),
            other => panic!("{other:?}"),
        };
    }
    unreachable!("work ends")
}

#[test]
fn large_bodies_are_handled_in_slices_and_small_ones_at_once() {
    service::with(false, 1, |service| {
        for (format, body) in [
            (BodyFormat::Sse, long_text()),
            (BodyFormat::Sse, "data: x\n\n".repeat(10_000)),
            (BodyFormat::Sse, "data\n".repeat(100_000)),
            (BodyFormat::PlainText, "x\n".repeat(100_000)),
            (BodyFormat::PlainText, format!("{}x", "id: x\n".repeat(100_000))),
            (BodyFormat::Json, format!("[{}1]", "\n".repeat(100_000))),
        ] {
            let (slices, status) = drive(service, begin(service, format, &body), 10);
            assert!((4..200).contains(&slices) && status == 200, "{slices} {status} {}", &body[..10]);
        }
        assert_eq!(drive(service, begin(service, BodyFormat::Sse, &"data: x\n\n".repeat(300)), 10), (0, 200));
        assert_eq!(drive(service, begin(service, BodyFormat::PlainText, &"data: x\n".repeat(100_000)), 10).1, 400);
    });
}

#[test]
fn a_token_that_expires_between_slices_publishes_nothing() {
    service::with(false, 1, |service| {
        let paused = unfinished(begin(service, BodyFormat::Sse, &long_text()));
        let paused = unfinished(at(service, 19, |context| resume(paused, context)));
        assert_eq!(drive(service, Outcome::Work(Box::new(paused)), 20), (1, 401));
        assert_eq!((service.hub.counts().published, service.metrics.worker(0).denied.get()), (0, 1));
    });
}

#[test]
fn the_memory_of_a_paused_publish_is_reserved_and_released() {
    service::with(false, 1, |service| {
        let body = long_text();
        let paused = unfinished(begin(service, BodyFormat::Sse, &body));
        assert!(service.bodies.bytes() >= body.len());
        drop(paused);
        assert_eq!(service.bodies.bytes(), 0, "the reservation ends with the publish");
        let paused = unfinished(begin(service, BodyFormat::Sse, &body));
        let other = |number| service.bodies.reservation(Client::Principal(Principal::Subject(number)));
        let full = (0..).map(other).map(|mut body| body.grow(8 << 10).map(|()| body));
        let others: Vec<_> = full.map_while(Result::ok).collect();
        // The comments of an event are copied into its frame, for which no memory is left.
        assert_eq!(drive(service, Outcome::Work(Box::new(paused)), 10).1, 503);
        drop(others);
        assert_eq!(service.bodies.bytes(), 0, "everything is released");
        assert_eq!(service.hub.counts().published, 0);
    });
}

/// Fewer slices than for the whole publish show that encoding had not begun.
#[test]
fn rate_limit_and_room_are_checked_before_encoding() {
    let body = "data: a small event among many\n\n".repeat(9_000);
    let all = service::with(false, 1, |service| drive(service, begin(service, BodyFormat::Sse, &body), 10));
    let mut limited = service::configured(|config| config);
    limited.quotas = Quotas::new(None, Some(Rate { per_second: 1, burst: 10_000 }));
    let limiter = limited.quotas.publish_rate.as_ref().expect("there is a limit");
    limiter.take(Principal::Subject(1), 2_000, 10_000).expect("the bucket was full");
    let (slices, status) = drive(&limited, begin(&limited, BodyFormat::Sse, &body), 10);
    assert!(status == 429 && slices * 3 < all.0, "{slices} of {all:?}");
    limiter.take(Principal::Subject(1), 8_000, 10_000).expect("nothing was taken");
    assert_eq!(
        drive(&limited, begin(&limited, BodyFormat::Json, "no JSON"), 10),
        (0, 429),
        "refused before it is parsed"
    );
    service::with(false, u64::MAX / 2, |service| {
        let mut outcome = begin(service, BodyFormat::Sse, &body);
        let mut slices = 0;
        let paused = loop {
            outcome = match outcome {
                Outcome::Work(paused) => at(service, 10, |context| resume(*paused, context)),
                Outcome::Wait(paused) => break paused,
                other => panic!("{other:?}"),
            };
            slices += 1;
        };
        assert!(matches!(paused.state, State::Valid(9_000, _)) && slices * 3 < all.0, "{slices} of {all:?}");
    });
}

#[test]
fn a_drain_that_begins_between_slices_refuses_the_publish() {
    let service = service::configured(|config| config);
    let paused = unfinished(begin(&service, BodyFormat::Sse, &long_text()));
    service.drain();
    assert_eq!(drive(&service, Outcome::Work(Box::new(paused)), 10), (1, 503));
    let metrics = service.metrics.worker(0);
    assert_eq!(metrics.publishes_refused.get(PublishRefusal::Draining as usize), 1);
}
