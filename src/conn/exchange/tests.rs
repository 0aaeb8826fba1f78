mod lookups;

use super::*;
use crate::api::{ListenerRole, Service};
use crate::auth::{Auth, Principal, TokenCache};
use crate::clock::Now;
use crate::config::Config;
use crate::fuzz::service::NoOrder;
use crate::http::response::CommonHeaders;
use crate::hub::{Hub, HubLimits, inbox};
use crate::metrics::{Metrics, PublishRefusal};
use crate::quota::Client;
use crate::store::{Location, Store};
use std::cell::RefCell;
use std::sync::Arc;

fn service() -> Service {
    service_from(1)
}

fn service_from(first_id: u64) -> Service {
    service_with(first_id, |config| config.max_body(100))
}

fn service_with(first_id: u64, configure: impl Fn(Config) -> Config) -> Service {
    let limits = HubLimits {
        events_per_topic: 1000,
        age_micros: 1 << 40,
        bytes: 1 << 20,
        topics: 100,
        subscribers: 100,
        latest_bytes: usize::MAX,
    };
    let (outbox, _) = inbox(Box::new(|| {}));
    let settings = configure(Config::new().no_auth(true).port(0).threads(1)).settle(1000).unwrap();
    let store = Store::open(&Location::Memory).unwrap().start(Box::new(NoOrder)).unwrap();
    let hub = Arc::new(Hub::new(limits, vec![outbox], first_id));
    Service::new(hub, store, settings, Auth::Open, Metrics::new(1, 0))
}

fn context<'a>(service: &'a Service, verified: &'a RefCell<TokenCache>) -> Context<'a> {
    let house = CommonHeaders { date: "now", origins: &service.settings.origins };
    Context {
        service,
        role: ListenerRole::All,
        address: None,
        house,
        now: Now { id_micros: 50, unix_millis: 0, millis: 1 },
        worker: 0,
        verified,
    }
}

/// Feeds bytes in pieces that end at `cuts`; what was written, and the last step.
fn converse(bytes: &[u8], cuts: &[usize]) -> (String, Step) {
    converse_with(&service(), bytes, cuts)
}

fn converse_with(service: &Service, bytes: &[u8], cuts: &[usize]) -> (String, Step) {
    let verified = RefCell::default();
    let context = context(service, &verified);
    let (mut exchange, mut out, mut begin, mut last) = (Exchange::default(), Vec::new(), 0, Step::Read);
    for &end in cuts.iter().chain([&bytes.len()]) {
        loop {
            let (taken, step) = exchange.advance(&bytes[begin..end], context, &mut out);
            begin += taken;
            last = step;
            if !matches!(last, Step::Answered) || begin == end {
                break;
            }
        }
        if !matches!(last, Step::Read | Step::Answered) {
            break;
        }
    }
    (String::from_utf8(out).unwrap(), last)
}

#[test]
fn answers_do_not_depend_on_the_pieces() {
    let requests = b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
        POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x\
        POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n3;x\r\n: y\r\n0\r\nA: b\r\n\r\n\
        HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /publish/x HTTP/1.1\r\nHost: h\r\nContent-Length: 29\r\n\r\nGET / HTTP/1.1\r\nHost: not\r\n\r\n\
        DELETE /nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n3;x\r\n: y\r\n0\r\nA: b\r\n\r\n\
        DELETE /stats HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n";
    let (whole, _) = converse(requests, &[]);
    let statuses: Vec<_> = whole.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "400", "404", "405"]);
    for cut in 0..requests.len() {
        for next in [cut, cut + 1, cut + 7] {
            let (text, last) = converse(requests, &[cut, next.min(requests.len())]);
            assert_eq!(text, whole, "{cut} {next}");
            assert!(matches!(last, Step::Close));
        }
    }
}

#[test]
fn a_stream_ends_the_exchange_after_its_opening() {
    let (text, last) = converse(b"GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n", &[]);
    assert!(matches!(last, Step::Stream(..)));
    assert!(text.ends_with("\n\r\n") && text.contains("\r\n\r\ne\r\n:\nretry: "), "{text}");
}

#[test]
fn an_expectation_is_met_only_if_the_body_is_wanted() {
    let head = |target: &str, length| {
        let text =
            format!("POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        converse(text.as_bytes(), &[])
    };
    let (text, last) = head("/publish/topicone1", 7);
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(matches!(last, Step::Read));
    for (target, length, status) in
        [("/publish/topicone1", 101, "413"), ("/nowhere", 7, "404"), ("/publish/x", 7, "400"), ("/healthz", 7, "405")]
    {
        let (text, last) = head(target, length);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("Connection: close"), "{text}");
        assert!(matches!(last, Step::Close));
    }
}

/// The size is known by the head, or told by a chunk in whatever pieces it comes.
#[test]
fn an_unwanted_body_is_dropped_up_to_a_bound() {
    let (most, text) = (MAX_DROPPED_BODY, "x".repeat(MAX_DROPPED_BODY + 1));
    let chunks = |length: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", length, &text[..length]);
    let settings = |config: Config| config.max_body(1 << 20);
    for (framing, body, goes_on) in [
        (format!("Content-Length: {most}"), text[..most].to_owned(), true),
        (format!("Content-Length: {}", most + 1), text.clone(), false),
        ("Transfer-Encoding: chunked".to_owned(), chunks(most), true),
        ("Transfer-Encoding: chunked".to_owned(), chunks(most + 1), false),
    ] {
        for (target, status) in [("/nowhere", 404), ("/publish/x", 400), ("/healthz", 405)] {
            let next = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
            let request = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n{body}{next}");
            let (head, all) = (request.len() - body.len() - next.len(), request.as_bytes());
            for cuts in [&[][..], &[head], &[head + 3, head + 5, all.len() - next.len()]] {
                let (answers, last) = converse_with(&service_with(1, settings), all, cuts);
                let count = answers.matches("HTTP/1.1 ").count();
                assert!(answers.starts_with(&format!("HTTP/1.1 {status} ")), "{answers}");
                assert_eq!((count, matches!(last, Step::Close)), if goes_on { (2, false) } else { (1, true) });
                assert_eq!(answers.contains("Connection: close"), !goes_on, "{answers}");
            }
        }
    }
}

#[test]
fn an_unwanted_body_that_does_not_come_is_not_waited_for_without_end() {
    let (service, verified) = (service(), RefCell::default());
    let context = context(&service, &verified);
    for (request, status) in [("GET /healthz", "200"), ("POST /nowhere", "404")] {
        let (mut exchange, mut out) = (Exchange::default(), Vec::new());
        let request = format!("{request} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
        assert!(
            matches!(exchange.advance(request.as_bytes(), context, &mut out), (taken, Step::Read) if taken == request.len())
        );
        assert_eq!((exchange.patience(), out.len()), (TimeoutKind::Drop, 0));
        assert!(matches!(exchange.time_out(context, &mut out), Step::Close));
        let answer = String::from_utf8(out).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("Connection: close"), "{answer}");
    }
}

#[test]
fn an_unwanted_body_that_is_malformed_ends_the_connection() {
    let (answer, last) =
        converse(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd", &[]);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close"), "{answer}");
    assert!(matches!(last, Step::Close));
}

#[test]
fn what_waits_for_room_is_bounded_as_what_is_received() {
    // Its ids are so far ahead of the clock that every publish has to wait.
    let service = service_from(1_000_000);
    let verified = RefCell::default();
    let context = context(&service, &verified);
    let publish = |exchange: &mut Exchange, out: &mut Vec<u8>| {
        let text = b"POST /publish/topicfull1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
        exchange.advance(text, context, out).1
    };
    let (mut waiting, mut refused, mut out) = (Exchange::default(), Exchange::default(), Vec::new());
    assert!(matches!(publish(&mut waiting, &mut out), Step::Wait));
    // All that is left, for many others.
    let other = |number| service.bodies.reservation(Client::Principal(Principal::Subject(number)));
    let mut bodies = Vec::new();
    for bytes in [8 << 10, 16] {
        let full = (0..).map(other).map(|mut body| body.grow(bytes).map(|()| body));
        bodies.extend(full.map_while(Result::ok));
    }
    assert!(matches!(publish(&mut refused, &mut out), Step::Answered));
    assert!(out.starts_with(b"HTTP/1.1 503 "));
    let (room, metrics) = (PublishRefusal::Room as usize, service.metrics.worker(0));
    assert_eq!((metrics.publishes_refused.get(room), metrics.responses.sum()), (1, 1));
    drop(waiting);
    assert!(matches!(publish(&mut refused, &mut out), Step::Wait));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        converse(&bytes, &[]);
        converse(&[b"POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), &[]);
    }
}
