//! Fuzzes a whole connection. The responses must not depend on the pieces in which the bytes arrive, every response must be
//! well-formed for a naive client, and no more than a head may be buffered.

use std::cell::RefCell;
use std::path::Path;

use super::input::{Input, cuts, pieces};
use super::naive::{ParsedResponse, dispatched, parse_responses, unchunked};
use super::service;
use crate::api::erase::{self, Erased};
use crate::api::{Context, Deferred, DeferredResult, Service, audit, revoke};
use crate::auth::TokenCache;
use crate::clock::Now;
use crate::conn::exchange::{Exchange, Step};
use crate::conn::timeout::TimeoutKind;
use crate::http::head::MAX_HEAD;
use crate::ids::MAX_CLOCK_LEAD;
use crate::net::ListenerRole;
use crate::records::insert::{Condition, InsertOutcome, InsertRequest};
use crate::store::Page;

/// Returns some outcome of a request, as if no condition ever held and no key were new.
fn outcome(request: &InsertRequest, id: u64) -> InsertOutcome {
    match (&request.condition, &request.key) {
        (_, Some(key)) if key.as_str().len() > 8 => InsertOutcome::KeyReused,
        (_, Some(_)) => InsertOutcome::Repeated(id),
        (Condition::Always, None) => InsertOutcome::Stored(id),
        (Condition::Absent, None) => InsertOutcome::Conflict(Some(id)),
        (Condition::Exists | Condition::NewestIs(_), None) => InsertOutcome::Conflict(None),
    }
}

/// The time of every input, in microseconds.
const SECOND: u64 = 1_000_000;
/// An interim response that is sent if the body has not arrived with the head. It alone may depend on the pieces.
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Runs one input: choices, and the bytes of a connection.
pub fn exchange(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (choice, cutting) = (input.choice(), input.choice());
    let bytes = repeat_byte(&mut input);
    let role = [ListenerRole::All, ListenerRole::Public, ListenerRole::Administration, ListenerRole::All]
        [usize::from(choice >> 1 & 3)];
    // A hub whose ids are ahead of the clock makes publishes wait.
    let first_id = if choice & 8 == 0 { 1 } else { SECOND + 3 * MAX_CLOCK_LEAD };
    let run = |cuts: &[usize]| {
        service::with(choice & 1 == 1, first_id, |service| {
            Connection::new(service, role).run_to_end(pieces(&bytes, cuts))
        })
    };
    let (whole, end) = run(&[]);
    let (parts, same) = run(&cuts(cutting, bytes.len()));
    assert_eq!(same, end, "{parts}");
    compare(&whole, &parts);
}

/// Returns the bytes with one of them repeated as often as the choices say, so that a short input can reach the limits.
fn repeat_byte(input: &mut Input<'_>) -> Vec<u8> {
    let (at, times) = (input.number(), input.number());
    let mut bytes = input.0.to_vec();
    if let Some(&byte) = bytes.get(at) {
        bytes.splice(at..at, std::iter::repeat_n(byte, times % (MAX_HEAD + 500)));
    }
    bytes
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Stream,
    TimedOut(TimeoutKind),
}

struct Connection<'a> {
    service: &'a Service,
    role: ListenerRole,
    now: u64,
    exchange: Exchange,
    verified: RefCell<TokenCache>,
    inserted: u64,
    out: Vec<u8>,
}

impl<'a> Connection<'a> {
    fn new(service: &'a Service, role: ListenerRole) -> Self {
        // Makes the random reconnection times reproducible.
        fastrand::seed(7);
        let (exchange, verified) = (Exchange::default(), RefCell::default());
        Self { service, role, now: SECOND, exchange, verified, inserted: 0, out: Vec::new() }
    }

    /// Feeds the pieces as a worker does, and lets the wait for more bytes time out.
    fn run_to_end<'b>(mut self, pieces: impl Iterator<Item = &'b [u8]>) -> (String, End) {
        let mut kept = Vec::new();
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            kept.extend_from_slice(piece);
            if let Some(end) = self.take(&mut kept) {
                return (self.into_output(), end);
            }
            assert!(kept.len() <= MAX_HEAD, "{} bytes are kept", kept.len());
        }
        let patience = self.exchange.awaited();
        let step = self.time_out();
        match self.settle(step) {
            Step::Close => {}
            // An unwanted body did not arrive, and the request opens a stream.
            Step::Stream(entry) if patience == TimeoutKind::Drop => self.service.hub.abandon(0, &entry.joined),
            step => panic!("{step:?}: a timeout ends the connection"),
        }
        (self.into_output(), End::TimedOut(patience))
    }

    /// Advances until more bytes are needed.
    fn take(&mut self, kept: &mut Vec<u8>) -> Option<End> {
        let mut taken = 0;
        while taken < kept.len() {
            let (count, step) = self.advance(&kept[taken..]);
            taken += count;
            match self.settle(step) {
                Step::Responded => {}
                Step::Read => break,
                Step::Close => return Some(End::Closed),
                Step::Stream(entry) => {
                    self.service.hub.abandon(0, &entry.joined);
                    assert_eq!(self.service.hub.counts().subscribers, 0);
                    return Some(End::Stream);
                }
                step => panic!("{step:?} is settled"),
            }
        }
        kept.drain(..taken);
        None
    }

    /// Advances the time while there is no room in the hub, and replies for the store.
    fn settle(&mut self, mut step: Step) -> Step {
        loop {
            step = match step {
                Step::Wait => {
                    assert!(self.now < 10 * SECOND, "there is room by now");
                    assert_eq!(self.exchange.awaited(), TimeoutKind::Room);
                    self.now += MAX_CLOCK_LEAD;
                    self.resume()
                }
                Step::Work => {
                    assert_eq!(self.exchange.awaited(), TimeoutKind::Work);
                    self.resume()
                }
                Step::Defer(request) => {
                    assert_eq!(self.exchange.awaited(), TimeoutKind::Store);
                    let result = self.reply_for_store(request);
                    self.deliver(result)
                }
                step => return step,
            }
        }
    }

    fn reply_for_store(&mut self, request: Deferred) -> DeferredResult {
        let response = match request {
            Deferred::Publish(_) => panic!("there is no engine"),
            Deferred::Insert(request) => {
                self.inserted += 1;
                let outcome = Ok(outcome(&request, self.inserted));
                return DeferredResult::Stored(request.record.name, outcome, Path::new(".").into());
            }
            Deferred::Revoke(revoked) => revoke::response(Ok(revoked)),
            Deferred::Erase(request) => erase::response(Ok(Erased { name: request.name, versions: self.inserted })),
            Deferred::Audit(request) => {
                let next = (request.query.limit == 1).then_some(request.query.after);
                audit::page_response(&request, Page { body: "{}".into(), next })
            }
        };
        DeferredResult::Response(response)
    }

    fn into_output(self) -> String {
        String::from_utf8(self.out).expect("responses are text")
    }
}

/// The functions of the exchange, each with the current context.
impl Connection<'_> {
    fn with<T>(&mut self, run: impl FnOnce(&mut Exchange, Context<'_>, &mut Vec<u8>) -> T) -> T {
        let Self { service, role, now, exchange, verified, out, .. } = self;
        let now = Now { id_micros: *now, unix_millis: SECOND, millis: 1 };
        let context = Context { role: *role, ..service::context(service, verified, now) };
        run(exchange, context, out)
    }

    fn advance(&mut self, bytes: &[u8]) -> (usize, Step) {
        let (taken, step) = self.with(|exchange, context, out| exchange.advance(bytes, context, out));
        assert!(taken <= bytes.len());
        assert!(taken > 0 || !matches!(step, Step::Responded), "a response without a request");
        (taken, step)
    }

    fn resume(&mut self) -> Step {
        self.with(Exchange::resume)
    }

    fn deliver(&mut self, result: DeferredResult) -> Step {
        self.with(|exchange, context, out| exchange.deliver(result, context, out))
    }

    fn time_out(&mut self) -> Step {
        self.with(Exchange::time_out)
    }
}

fn compare(whole: &str, parts: &str) {
    let (whole, parts) = (whole.replace(CONTINUE, ""), parts.replace(CONTINUE, ""));
    let (whole, parts) = (parse_responses(&whole), parse_responses(&parts));
    assert_eq!(whole.len(), parts.len(), "{whole:?}\n{parts:?}");
    let count = whole.len();
    for (number, (one, other)) in whole.iter().zip(&parts).enumerate() {
        check_response(one);
        let may_lack_cors = number + 1 == count && one.status >= 400;
        assert_eq!(comparable_parts(one, may_lack_cors), comparable_parts(other, may_lack_cors));
    }
}

/// Returns the parts of a response that must not depend on the pieces. Excluded are current metrics, and the CORS fields of an
/// error for a malformed head, whose `Origin` may not have arrived.
fn comparable_parts<'a>(
    response: &ParsedResponse<'a>,
    may_lack_cors: bool,
) -> impl PartialEq + std::fmt::Debug + use<'a> {
    let is_momentary = response.body.contains("\"uptime") || response.body.starts_with("# HELP");
    let is_same = move |name: &str| {
        let is_cors = name.starts_with("Access-Control") || name == "Vary";
        !(is_cors && may_lack_cors) && name != "Content-Length"
    };
    let fields: Vec<_> = response.fields.iter().copied().filter(|(name, _)| is_same(name)).collect();
    (response.status, fields, if is_momentary { "" } else { response.body })
}

fn check_response(response: &ParsedResponse<'_>) {
    assert!(
        matches!(response.status, 200 | 204 | 400..=405 | 408 | 411..=415 | 417 | 421 | 422 | 431 | 501 | 503 | 505)
    );
    match response.field("Content-Type") {
        Some("application/problem+json") if !response.body.is_empty() => {
            let problem: serde_json::Value = serde_json::from_str(response.body).expect("a problem is JSON");
            assert_eq!(problem["status"], response.status);
        }
        Some("application/json") if !response.body.is_empty() => {
            serde_json::from_str::<serde_json::Value>(response.body).expect("it is JSON");
        }
        Some("text/event-stream") if !response.body.is_empty() => check_stream(response),
        _ => {}
    }
}

/// Checks the opening of a stream, which has no events except a gap.
fn check_stream(response: &ParsedResponse<'_>) {
    let text = match response.field("Transfer-Encoding") {
        Some(_) => unchunked(response.body).0,
        None => response.body.to_owned(),
    };
    assert!(text.starts_with(":\nretry: "), "{text}");
    for (name, data, _) in dispatched(&text) {
        assert_eq!(name, "gap");
        serde_json::from_str::<serde_json::Value>(&data).expect("a gap is JSON");
    }
}
