//! Requests that wait for the engine.

use super::*;
use crate::api::subscribe::{Lookup, LookupReply};
use crate::engine::{Engine, EngineError, Sequenced};

const PUBLISH: &str = "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// Has a deferred publish carried out, and answers it in place of the engine.
#[track_caller]
fn answer(step: Step, service: &Service, engine: &Engine, result: &Result<Sequenced, EngineError>) -> DeferredResult {
    let Step::Defer(request) = step else { panic!("{step:?}") };
    let (sender, replies) = std::sync::mpsc::channel();
    request.run(service, move |reply| sender.send(reply.result).unwrap());
    engine.take_publishes().into_iter().for_each(|publish| publish.answer(result.clone()));
    replies.try_recv().expect("it is answered")
}

#[test]
fn pipelined_requests_wait_behind_a_deferred_publish() {
    let (service, engine) = service::with_engine();
    let tokens = RefCell::default();
    let context = context(&service, &tokens);
    let pipeline = [PUBLISH, PUBLISH, HEALTH].concat();
    let (mut exchange, mut out, mut taken) = (Exchange::default(), Vec::new(), 0);
    for id in [7, 8] {
        let (count, step) = exchange.advance(&pipeline.as_bytes()[taken..], context, &mut out);
        taken += count;
        assert_eq!((taken, exchange.awaited()), ((id - 6) * PUBLISH.len(), TimeoutKind::Engine));
        let (before, id) = (out.len(), id as u64);
        assert!(matches!(exchange.advance(&pipeline.as_bytes()[taken..], context, &mut out), (0, Step::Wait)));
        assert_eq!(out.len(), before, "nothing is answered before the result");
        let result = answer(step, &service, &engine, &Ok(Sequenced { id, events: 1 }));
        assert!(matches!(exchange.deliver(result, context, &mut out), Step::Responded));
    }
    exchange.advance(&pipeline.as_bytes()[taken..], context, &mut out);
    let out = String::from_utf8(out).unwrap();
    let places = [r#"{"id":"7","#, r#"{"id":"8","#, "\r\n\r\nok"].map(|part| out.find(part).expect(part));
    assert!(places.is_sorted(), "{out}");
}

#[test]
fn a_deferred_publish_times_out_with_504_and_a_late_reply_is_ignored() {
    let (service, engine) = service::with_engine();
    let tokens = RefCell::default();
    let context = context(&service, &tokens);
    let (mut exchange, mut out) = (Exchange::default(), Vec::new());
    let (_, step) = exchange.advance(PUBLISH.as_bytes(), context, &mut out);
    assert!(matches!(exchange.time_out(context, &mut out), Step::Close));
    let response = String::from_utf8(std::mem::take(&mut out)).unwrap();
    assert!(response.starts_with("HTTP/1.1 504 ") && response.contains("unknown whether"), "{response}");
    assert!(response.contains("Connection: close"), "the reply could be taken for another request's: {response}");
    let unknown = || service.metrics.worker(0).publishes_refused.get(PublishRefusal::Unknown as usize);
    assert_eq!(unknown(), 1);
    let late = answer(step, &service, &engine, &Err(EngineError::Unknown("late".into())));
    assert!(matches!(exchange.deliver(late, context, &mut out), Step::Read));
    assert_eq!((out.len(), unknown()), (0, 1), "it is counted once");
}

type Reply = fn(&mut Exchange, Context<'_>, &mut Vec<u8>) -> Step;

#[test]
fn a_stream_with_an_unknown_position_waits_for_one_barrier() {
    let (service, _engine) = service::with_engine();
    let tokens = RefCell::default();
    let context = context(&service, &tokens);
    let subscribe = |position: Option<&str>, out: &mut Vec<u8>| {
        let field = position.map_or(String::new(), |position| format!("Last-Event-ID: {position}\r\n"));
        let mut exchange = Exchange::default();
        let head = format!("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n{field}\r\n");
        let (_, step) = exchange.advance(head.as_bytes(), context, out);
        (exchange, step)
    };
    let replies: [(Reply, bool); 3] = [
        (|exchange, context, out| exchange.open_after_lookup(LookupReply::Found, context, out), true),
        (|exchange, context, out| exchange.open_after_lookup(LookupReply::Unavailable, context, out), false),
        (Exchange::time_out, false),
    ];
    for (reply, is_opened) in replies {
        let mut out = Vec::new();
        let (mut exchange, step) = subscribe(Some("unknown"), &mut out);
        assert!(matches!(step, Step::LookUp(Lookup::Barrier)) && out.is_empty(), "{step:?}");
        assert_eq!(exchange.awaited(), TimeoutKind::Lookup);
        let step = reply(&mut exchange, context, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        match step {
            // The position is still unknown, so there is a gap; it is not looked up again.
            Step::Stream(stream) => {
                assert!(is_opened && text.contains("event: gap"), "{text}");
                service.hub.abandon(0, &stream.joined);
            }
            Step::Close => {
                assert!(!is_opened && !text.contains("event: gap"), "{text}");
                assert!(
                    text.contains("\n: the broker can't reach the engine") && text.ends_with("0\r\n\r\n"),
                    "{text}"
                );
                let retry = text.split_once("\nretry: ").and_then(|(_, rest)| rest.split_once('\n')).unwrap().0;
                assert!((5_000..=15_000).contains(&retry.parse::<u64>().unwrap()), "{retry}");
            }
            step => panic!("{step:?}"),
        }
    }
    let metrics = service.metrics.worker(0);
    assert_eq!((metrics.turned_away.get(TurnedAway::Engine as usize), service.hub.counts().subscribers), (2, 0));
    for position in [None, Some("0")] {
        let (_, step) = subscribe(position, &mut Vec::new());
        let Step::Stream(stream) = step else { panic!("{position:?}: {step:?}") };
        service.hub.abandon(0, &stream.joined);
    }
}

#[test]
fn a_stream_that_waits_for_a_barrier_is_refused_if_the_broker_drains() {
    let (service, engine) = service::with_engine();
    let tokens = RefCell::default();
    let context = context(&service, &tokens);
    let (mut exchange, mut out) = (Exchange::default(), Vec::new());
    let head = "GET /subscribe/topicone1?lastEventId=unknown HTTP/1.1\r\nHost: h\r\n\r\n";
    let (_, step) = exchange.advance(head.as_bytes(), context, &mut out);
    let Step::LookUp(lookup) = step else { panic!("{step:?}") };
    let (sender, replies) = std::sync::mpsc::channel();
    lookup.run(&service, move |reply| sender.send(reply).unwrap());
    assert!(replies.try_recv().is_err());
    service.drain();
    engine.take_barriers().into_iter().for_each(|barrier| barrier(true));
    assert_eq!(replies.try_recv(), Ok(LookupReply::Found));
    assert!(matches!(exchange.open_after_lookup(LookupReply::Found, context, &mut out), Step::Close));
    assert_eq!(service.metrics.worker(0).turned_away.get(TurnedAway::Draining as usize), 1);
}
