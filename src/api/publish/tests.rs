//! What is done in slices, and what happens between two of them.

use std::cell::RefCell;

use super::*;
use crate::api::Service;
use crate::auth::Principal;
use crate::clock::Now;
use crate::fuzz::service;
use crate::quota::{Client, Quotas, Rate};

#[test]
fn two_media_types_mean_data() {
    for (text, kind) in [
        (Some("application/json"), Kind::Json),
        (Some(" application/json ;x=y"), Kind::Json),
        (Some("TEXT/plain; charset=utf-8"), Kind::Plain),
        (None, Kind::Text),
        (Some(""), Kind::Text),
        (Some("text/event-stream"), Kind::Text),
        (Some("application/x-www-form-urlencoded"), Kind::Text),
        (Some("application/jsonl"), Kind::Text),
    ] {
        assert_eq!(Kind::of(text), kind, "{text:?}");
    }
}

/// A moment, and what the routes need to know of it.
fn at<T>(service: &Service, second: u64, run: impl FnOnce(Context<'_>) -> T) -> T {
    let now = Now { id_micros: second * 1_000_000, unix_millis: second * 1000, millis: second * 1000 };
    run(service::context(service, &RefCell::default(), now))
}

fn request(kind: Kind) -> Request {
    let topic = TopicName::parse("topicone1").unwrap();
    let given = Given { name: None, id: None };
    Request { topic, kind, given, expires: Some(20), holder: Some(Principal::Subject(1)) }
}

/// Much work, and then one event.
fn long_text() -> String {
    format!("{}data: x", ": a comment\n".repeat(100_000))
}

fn begin(service: &Service, kind: Kind, body: &str) -> Outcome {
    at(service, 10, |context| finish(request(kind), Body::Read(body.as_bytes()), context))
}

#[track_caller]
fn unfinished(outcome: Outcome) -> Pending {
    match outcome {
        Outcome::Work(pending) => *pending,
        other => panic!("{other:?}"),
    }
}

/// Slices of work until the answer, and its status.
fn drive(service: &Service, mut outcome: Outcome, second: u64) -> (usize, u16) {
    for slices in 0.. {
        outcome = match outcome {
            Outcome::Work(pending) => at(service, second, |context| resume(*pending, context)),
            Outcome::Respond(response) => return (slices, response.status),
            other => panic!("{other:?}"),
        };
    }
    unreachable!("work ends")
}

#[test]
fn much_work_is_done_in_slices_and_little_at_once() {
    service::with(false, 1, |service| {
        for (kind, body) in [
            (Kind::Text, long_text()),
            (Kind::Text, "data: x\n\n".repeat(10_000)),
            (Kind::Text, "data\n".repeat(100_000)),
            (Kind::Plain, "x\n".repeat(100_000)),
            (Kind::Plain, format!("{}x", "id: x\n".repeat(100_000))),
            (Kind::Json, format!("[{}1]", "\n".repeat(100_000))),
        ] {
            let (slices, status) = drive(service, begin(service, kind, &body), 10);
            assert!((4..200).contains(&slices) && status == 200, "{slices} {status} {}", &body[..10]);
        }
        assert_eq!(drive(service, begin(service, Kind::Text, &"data: x\n\n".repeat(300)), 10), (0, 200));
        assert_eq!(drive(service, begin(service, Kind::Plain, &"data: x\n".repeat(100_000)), 10).1, 400);
    });
}

#[test]
fn a_token_that_expires_during_the_work_publishes_nothing() {
    service::with(false, 1, |service| {
        let pending = unfinished(begin(service, Kind::Text, &long_text()));
        let pending = unfinished(at(service, 19, |context| resume(pending, context)));
        assert_eq!(drive(service, Outcome::Work(Box::new(pending)), 20), (1, 401));
        assert_eq!((service.hub.counts().published, service.metrics.worker(0).denied.get()), (0, 1));
    });
}

#[test]
fn what_is_worked_on_is_held_and_given_back() {
    service::with(false, 1, |service| {
        let body = long_text();
        let pending = unfinished(begin(service, Kind::Text, &body));
        assert!(service.bodies.bytes() >= body.len());
        drop(pending);
        assert_eq!(service.bodies.bytes(), 0, "a client that vanishes gives it back");
        let pending = unfinished(begin(service, Kind::Text, &body));
        let other = |number| service.bodies.reservation(Client::Principal(Principal::Subject(number)));
        let full = (0..).map(other).map(|mut body| body.grow(8 << 10).map(|()| body));
        let others: Vec<_> = full.map_while(Result::ok).collect();
        // The comments of an event are copied into its frame, for which there is no room.
        assert_eq!(drive(service, Outcome::Work(Box::new(pending)), 10).1, 503);
        drop(others);
        assert_eq!(service.bodies.bytes(), 0, "all of it is given back");
        assert_eq!(service.hub.counts().published, 0);
    });
}

/// The work that is left shows when a publish was refused.
#[test]
fn the_rate_limit_and_the_room_are_asked_before_anything_is_encoded() {
    let body = "data: a small event among many\n\n".repeat(9_000);
    let all = service::with(false, 1, |service| drive(service, begin(service, Kind::Text, &body), 10));
    let mut limited = service::configured(|config| config);
    limited.quotas = Quotas::new(None, Some(Rate { per_second: 1, burst: 10_000 }));
    let pace = limited.quotas.publish_rate.as_ref().expect("there is a limit");
    pace.take(Principal::Subject(1), 2_000, 10_000).expect("the bucket was full");
    let (slices, status) = drive(&limited, begin(&limited, Kind::Text, &body), 10);
    assert!(status == 429 && slices * 3 < all.0, "{slices} of {all:?}");
    pace.take(Principal::Subject(1), 8_000, 10_000).expect("nothing was taken");
    assert_eq!(drive(&limited, begin(&limited, Kind::Json, "no JSON"), 10), (0, 429), "not even looked at");
    service::with(false, u64::MAX / 2, |service| {
        let mut outcome = begin(service, Kind::Text, &body);
        let mut slices = 0;
        let pending = loop {
            outcome = match outcome {
                Outcome::Work(pending) => at(service, 10, |context| resume(*pending, context)),
                Outcome::Wait(pending) => break pending,
                other => panic!("{other:?}"),
            };
            slices += 1;
        };
        assert!(matches!(pending.stage, Stage::Admitted(9_000, _)) && slices * 3 < all.0, "{slices} of {all:?}");
    });
}

#[test]
fn a_drain_that_begins_during_the_work_refuses_it() {
    let service = service::configured(|config| config);
    let pending = unfinished(begin(&service, Kind::Text, &long_text()));
    service.drain();
    assert_eq!(drive(&service, Outcome::Work(Box::new(pending)), 10), (1, 503));
    let metrics = service.metrics.worker(0);
    assert_eq!(metrics.publishes_refused.get(PublishRefusal::Draining as usize), 1);
}
