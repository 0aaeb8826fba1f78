//! The exchange without a socket: whole requests, in one piece and in many.

mod deferred;
mod lookups;

use super::*;
use crate::api::Service;
use crate::auth::{Principal, TokenCache};
use crate::clock::Now;
use crate::fuzz::service::{self, MAX_BODY};
use crate::http::access_log::AccessLogFormat;
use crate::metrics::{PublishRefusal, TurnedAway};
use crate::quota::Client;
use std::cell::RefCell;

fn context<'a>(service: &'a Service, tokens: &'a RefCell<TokenCache>) -> Context<'a> {
    service::context(service, tokens, Now { id_micros: 50, unix_millis: 0, millis: 1 })
}

/// Feeds bytes in pieces that end at `cuts`. Returns what was written, and the last step.
fn converse(bytes: &[u8], cuts: &[usize]) -> (String, Step) {
    service::with(false, 1, |service| converse_with(service, bytes, cuts))
}

fn converse_with(service: &Service, bytes: &[u8], cuts: &[usize]) -> (String, Step) {
    let tokens = RefCell::default();
    let context = context(service, &tokens);
    let (mut exchange, mut out, mut begin, mut last) = (Exchange::default(), Vec::new(), 0, Step::Read);
    for &end in cuts.iter().chain([&bytes.len()]) {
        loop {
            let (taken, step) = exchange.advance(&bytes[begin..end], context, &mut out);
            begin += taken;
            last = step;
            if !matches!(last, Step::Responded) || begin == end {
                break;
            }
        }
        if !matches!(last, Step::Read | Step::Responded) {
            break;
        }
    }
    (String::from_utf8(out).unwrap(), last)
}

#[test]
fn responses_do_not_depend_on_how_the_bytes_are_split() {
    let requests = b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
        POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x\
        POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n3;x\r\n: y\r\n0\r\nA: b\r\n\r\n\
        HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /publish/x HTTP/1.1\r\nHost: h\r\nContent-Length: 29\r\n\r\nGET / HTTP/1.1\r\nHost: not\r\n\r\n\
        DELETE /nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n3;x\r\n: y\r\n0\r\nA: b\r\n\r\n\
        DELETE /stats HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n";
    let (whole, _) = converse(requests, &[]);
    let statuses: Vec<_> = whole.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect();
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
fn an_expected_continue_is_sent_only_if_the_body_is_used() {
    let head = |target: &str, length| {
        let text =
            format!("POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        converse(text.as_bytes(), &[])
    };
    let (text, last) = head("/publish/topicone1", 7);
    assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(matches!(last, Step::Read));
    for (target, length, status) in [
        ("/publish/topicone1", MAX_BODY + 1, "413"),
        ("/nowhere", 7, "404"),
        ("/publish/x", 7, "400"),
        ("/healthz", 7, "405"),
    ] {
        let (text, last) = head(target, length);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("Connection: close"), "{text}");
        assert!(matches!(last, Step::Close));
    }
}

/// The length is in the head, or in a chunk that arrives in any number of pieces.
#[test]
fn an_unwanted_body_is_dropped_up_to_a_limit() {
    let (most, text) = (MAX_DROPPED_BODY, "x".repeat(MAX_DROPPED_BODY + 1));
    let chunks = |length: usize| format!("{:x}\r\n{}\r\n0\r\n\r\n", length, &text[..length]);
    let service = service::configured(|config| config.max_body(1 << 20));
    for (framing, body, is_kept_open) in [
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
                let (responses, last) = converse_with(&service, all, cuts);
                let count = responses.matches("HTTP/1.1 ").count();
                assert!(responses.starts_with(&format!("HTTP/1.1 {status} ")), "{responses}");
                assert_eq!((count, matches!(last, Step::Close)), if is_kept_open { (2, false) } else { (1, true) });
                assert_eq!(responses.contains("Connection: close"), !is_kept_open, "{responses}");
            }
        }
    }
}

#[test]
fn an_unwanted_body_that_does_not_arrive_times_out() {
    for (request, status) in [("GET /healthz", "200"), ("POST /nowhere", "404")] {
        let request = format!("{request} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
        let (mut exchange, mut out) = (Exchange::default(), Vec::new());
        service::with(false, 1, |service| {
            let tokens = RefCell::default();
            let context = context(service, &tokens);
            let (taken, step) = exchange.advance(request.as_bytes(), context, &mut out);
            assert!(taken == request.len() && matches!(step, Step::Read));
            assert_eq!((exchange.awaited(), out.len()), (TimeoutKind::Drop, 0));
            assert!(matches!(exchange.time_out(context, &mut out), Step::Close));
        });
        let response = String::from_utf8(out).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.contains("Connection: close"), "{response}");
    }
}

#[test]
fn an_unwanted_body_that_is_malformed_ends_the_connection() {
    let (response, last) =
        converse(b"POST /nowhere HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd", &[]);
    assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("Connection: close"), "{response}");
    assert!(matches!(last, Step::Close));
}

#[test]
fn publishes_that_wait_for_room_count_against_the_memory_for_bodies() {
    // The hub's ids are so far ahead of the clock that every publish has to wait.
    service::with(false, 1_000_000, |service| {
        let tokens = RefCell::default();
        let context = context(service, &tokens);
        let publish = |exchange: &mut Exchange, out: &mut Vec<u8>| {
            let text = b"POST /publish/topicfull1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
            exchange.advance(text, context, out).1
        };
        let (mut waiting, mut refused, mut out) = (Exchange::default(), Exchange::default(), Vec::new());
        assert!(matches!(publish(&mut waiting, &mut out), Step::Wait));
        // Many others take all that is left.
        let other = |number| service.bodies.reservation(Client::Principal(Principal::Subject(number)));
        let mut bodies = Vec::new();
        for bytes in [8 << 10, 16] {
            let full = (0..).map(other).map(|mut body| body.grow(bytes).map(|()| body));
            bodies.extend(full.map_while(Result::ok));
        }
        assert!(matches!(publish(&mut refused, &mut out), Step::Responded));
        assert!(out.starts_with(b"HTTP/1.1 503 "));
        let (room, metrics) = (PublishRefusal::Room as usize, service.metrics.worker(0));
        assert_eq!((metrics.publishes_refused.get(room), metrics.responses.sum()), (1, 1));
        drop(waiting);
        assert!(matches!(publish(&mut refused, &mut out), Step::Wait));
    });
}

#[test]
fn behind_a_proxy_a_body_counts_for_its_client() {
    let service = service::configured(|config| config.max_body(1 << 20).trusted_proxy("unix"));
    let address = |number| Some(IpAddr::from([192, 0, 2, number]));
    // As much as one client may hold.
    let mut held = service.bodies.reservation(Client::from(address(1)));
    assert_eq!(held.resize(120 << 20), Ok(()));
    let tokens = RefCell::default();
    let publish = |forwarded_for: &str| {
        let (mut exchange, mut out) = (Exchange::default(), Vec::new());
        let head =
            format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{forwarded_for}Content-Length: 50000\r\n\r\n");
        // The parts of a body count for the same client as its head.
        exchange.advance(head.as_bytes(), context(&service, &tokens), &mut out);
        let (_, step) = exchange.advance(&[b'x'; 40_000], context(&service, &tokens), &mut out);
        (exchange.client_address(None), matches!(step, Step::Read), out.starts_with(b"HTTP/1.1 503 "))
    };
    assert_eq!(publish("X-Forwarded-For: 192.0.2.2, 192.0.2.1\r\n"), (address(1), false, true));
    assert_eq!(publish("X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n"), (address(2), true, false));
    assert_eq!(publish("X-Forwarded-For: 192.0.2.1, unknown\r\n"), (None, true, false));
}

#[test]
fn every_response_has_one_line_in_the_access_log() {
    let (sender, lines) = crossbeam_channel::unbounded();
    let service = service::configured(|config| {
        config.max_body(MAX_BODY).access_log(AccessLogFormat::Common, move |line| sender.send(line).unwrap())
    });
    let requests = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\ndata: x\
        OPTIONS /insert HTTP/1.1\r\nHost: h\r\n\r\n\
        HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n\
        GET /a?token=s3cret HTTP/1.1\r\nHost: h\r\n\r\n\
        GET / HTTP/1.1\r\n\r\n";
    for cut in 0..requests.len() {
        converse_with(&service, requests, &[cut]);
        let ends: Vec<_> = lines.try_iter().map(|line| line.split_once("] ").unwrap().1.to_owned()).collect();
        let begins = [
            "\"GET /livez HTTP/1.1\" 200 2\n",
            "\"POST /publish/topicone1 HTTP/1.1\" 200 ",
            "\"OPTIONS /insert HTTP/1.1\" 204 0\n",
            "\"HEAD /subscribe/topicone1 HTTP/1.1\" 200 0\n",
            "\"GET /a?token=*** HTTP/1.1\" 404 ",
            "\"-\" 400 ",
        ];
        assert_eq!(ends.len(), begins.len(), "{cut}: {ends:?}");
        assert!(ends.iter().zip(begins).all(|(end, begin)| end.starts_with(begin)), "{cut}: {ends:?}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        converse(&bytes, &[]);
        converse(&[b"POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), &[]);
    }
}
