//! The effects that connections return, and their order.

mod engine;

use std::sync::Arc;

use super::*;
use crate::api::{Deferred, DeferredReply};
use crate::clock::{Clock, ManualClock};
use crate::fuzz::service;
use crate::http::{Problem, Response};
use crate::net::ListenerRole;
use crate::net::testing::{IdleReactor, TestSocket};

const SUBSCRIBE: &str = "GET /subscribe/topicone1";
const INSERT: &str = "POST /insert";
const RECORD: &str = r#"{"event":"user","data":1}"#;

struct Fixture {
    connections: Connections<TestSocket>,
    cx: IterationContext,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new() -> Self {
        Self::of(service::configured(|config| config))
    }

    fn of(service: crate::api::Service) -> Self {
        let (clock, service) = (Arc::new(ManualClock::default()), Arc::new(service));
        let cx = IterationContext::new(0, service, Clock::manual(Arc::clone(&clock)));
        Self { connections: Connections::new(1), cx, clock }
    }

    /// Accepts a connection with a request, whose socket has room for `room` bytes of output.
    fn accept(&mut self, request: &str, room: usize) {
        self.accept_with_body(request, if request.starts_with("POST") { RECORD } else { "" }, room);
    }

    fn accept_with_body(&mut self, request: &str, body: &str, room: usize) {
        let length = body.len();
        let text = format!("{request} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}");
        let socket = TestSocket::with_room(room).receiving(text.as_bytes());
        let accepted = Accepted { socket, role: ListenerRole::All, address: None };
        self.connections.add(accepted, &self.cx, &IdleReactor).expect("the reactor accepts everything");
    }

    /// Drives what is queued.
    fn drive(&mut self) -> Vec<Effect<TestSocket>> {
        let mut round = self.connections.begin_round(&self.cx);
        while self.connections.drive_next(&mut round, &self.cx, &IdleReactor) {}
        self.effects()
    }

    /// Lets time pass, and times out what is late.
    fn time_out(&mut self, seconds: u64) -> Vec<Effect<TestSocket>> {
        self.clock.advance(seconds * 1_000_000);
        self.cx.advance();
        let mut late = self.connections.late(self.cx.now.millis);
        self.connections.begin_budget(1_000, &self.cx);
        while self.connections.time_out_next(&mut late, &self.cx, &IdleReactor) {}
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect<TestSocket>> {
        std::iter::from_fn(|| self.connections.next_effect()).collect()
    }
}

#[test]
fn a_stream_begins_after_it_is_prepared() {
    let mut fixture = Fixture::new();
    fixture.accept(SUBSCRIBE, usize::MAX);
    let effects = fixture.drive();
    assert!(matches!(effects[..], [Effect::PrepareStream(0, _), Effect::BeginStream(0, ..)]), "{effects:?}");
    assert!(fixture.connections.is_empty());
}

#[test]
fn a_stream_whose_opening_blocks_is_abandoned_before_its_socket_is_closed() {
    let mut fixture = Fixture::new();
    fixture.accept(SUBSCRIBE, 10);
    let effects = fixture.drive();
    assert!(matches!(effects[..], [Effect::PrepareStream(0, _)]), "{effects:?}");
    let effects = fixture.time_out(3600);
    assert!(matches!(effects[..], [Effect::AbandonStream(0, Close::Stalled), Effect::Close(..)]), "{effects:?}");
    assert!(fixture.connections.is_empty());
    assert_eq!(fixture.connections.buffered(), 0);
}

#[test]
fn a_reply_reaches_only_the_connection_that_asked() {
    let mut fixture = Fixture::new();
    let reply = || DeferredReply::from(Response::from(Problem::new(503, "busy")));
    fixture.accept(INSERT, usize::MAX);
    let effects = fixture.drive();
    let [Effect::Defer(id, Deferred::Insert(_))] = effects[..] else { panic!("{effects:?}") };
    let other = ConnectionId { serial: id.serial + 1, ..id };
    fixture.connections.deliver(other, reply(), &fixture.cx);
    assert!(!fixture.connections.has_work());
    fixture.connections.deliver(id, reply(), &fixture.cx);
    assert!(fixture.connections.has_work());
    assert!(fixture.drive().is_empty());
    assert_eq!(fixture.cx.metrics().responses.sum(), 1);
    // It is idle now, and is closed when its time is over.
    assert!(matches!(fixture.time_out(3600)[..], [Effect::Close(..)]));
    fixture.connections.deliver(id, reply(), &fixture.cx);
    assert!(!fixture.connections.has_work());
}
