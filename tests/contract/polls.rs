//! `?poll`: a stream that ends with its first events, for networks that hold a response back until it ends.

use std::collections::VecDeque;

use super::records::insert;
use super::support::{Broker, Event, Stream};

/// A stream that has ended: its opening, and the blocks that followed.
struct Poll {
    head: String,
    opening: String,
    events: VecDeque<Event>,
}

impl Poll {
    /// Reads a stream to its end, which must be whole.
    fn read(mut stream: Stream) -> Self {
        let opening = stream.opening();
        let events = std::iter::from_fn(|| stream.next()).collect();
        assert!(stream.connection.is_closed());
        Self { head: stream.head, opening, events }
    }

    fn data(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event.data.as_deref()).collect()
    }
}

fn start(broker: &Broker, target: &str, position: &str) -> Stream {
    broker.subscribe(target, &format!("Last-Event-ID: {position}\r\n"))
}

fn poll(broker: &Broker, target: &str, position: &str) -> Poll {
    Poll::read(start(broker, target, position))
}

/// Returns the id in the opening of a stream that was opened with `prime`.
fn primed(opening: &str) -> String {
    let id = opening.strip_prefix(":\nretry: 100\nid: ").and_then(|rest| rest.strip_suffix("\n\n"));
    id.unwrap_or_else(|| panic!("no id: {opening:?}")).to_owned()
}

#[test]
fn a_poll_ends_with_its_first_events() {
    let broker = Broker::start(&["--retry", "30s"]);
    let waiting = start(&broker, "/subscribe/topicone1?poll", "");
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let response = broker.publish("topicone1", "data: 1\n\ndata: 2");
    assert_eq!(response["subscribers"], 2);
    let waiting = Poll::read(waiting);
    assert_eq!((waiting.data(), &*waiting.opening), (vec!["1", "2"], ":\nretry: 100\n"));
    assert!(waiting.head.contains("Connection: close\r\n"), "a proxy must not reuse it: {}", waiting.head);
    assert_eq!(stream.data(2), ["1", "2"]);
    let resumed = poll(&broker, "/subscribe/topicone1?poll", "0");
    assert_eq!(resumed.data(), ["1", "2"]);
    broker.metrics_once("closed", |metrics| {
        metrics.labeled("esker_streams_closed_total", "reason", "polled") == 2.0
            && metrics.sum("esker_subscribers") == 1.0
    });
}

#[test]
fn nothing_is_lost_or_duplicated_between_two_polls() {
    let broker = Broker::start(&[]);
    broker.publish("topicone1", "data: before");
    let mut first = start(&broker, "/subscribe/topicone1?poll&prime", "");
    let mut position = primed(&first.opening());
    // The connection breaks before the first event.
    drop(first);
    let mut received = Vec::new();
    for round in 0..20 {
        let waits = (round % 3 == 0).then(|| start(&broker, "/subscribe/topicone1?poll&prime", &position));
        (0..=round % 4).for_each(|number| {
            broker.publish("topicone1", &format!("data: {round} {number}"));
        });
        let polled = Poll::read(waits.unwrap_or_else(|| start(&broker, "/subscribe/topicone1?poll&prime", &position)));
        assert_eq!(polled.opening, ":\nretry: 100\n", "there is a position");
        position = polled.events.back().and_then(|event| event.id.clone()).expect("an id");
        received.extend(polled.events.into_iter().filter_map(|event| event.data));
    }
    while received.len() < 50 {
        let polled = poll(&broker, "/subscribe/topicone1?poll&prime", &position);
        position = polled.events.back().and_then(|event| event.id.clone()).expect("an id");
        received.extend(polled.events.into_iter().filter_map(|event| event.data));
    }
    let sent: Vec<_> =
        (0..20).flat_map(|round| (0..=round % 4).map(move |number| format!("{round} {number}"))).collect();
    assert_eq!(received, sent);
}

#[test]
fn a_poll_without_an_event_ends_instead_of_the_heartbeat() {
    let broker = Broker::start(&["--heartbeat", "200ms"]);
    for target in ["/subscribe/topicone1?poll", "/events?poll"] {
        let polled = poll(&broker, target, "");
        assert_eq!((&*polled.opening, polled.events.len()), (":\nretry: 100\n", 0), "{target}");
    }
    let mut plain = broker.connect();
    plain.send("GET /subscribe/topicone1?poll HTTP/1.0\r\n\r\n");
    assert!(plain.head().contains("Connection: close\r\n"));
    assert_eq!(plain.read_to_end(), b":\nretry: 100\n");
}

#[test]
fn http_1_0_gets_the_same_bytes_without_chunks() {
    let broker = Broker::start(&[]);
    let response = broker.publish("topicone1", "data: x");
    let mut plain = broker.connect();
    plain.send("GET /subscribe/topicone1?poll HTTP/1.0\r\nLast-Event-ID: 0\r\n\r\n");
    plain.head();
    let text = String::from_utf8(plain.read_to_end()).expect("UTF-8");
    assert_eq!(text, format!(":\nretry: 100\ndata: x\nid: {}\n\n", response["id"].as_str().expect("an id")));
}

#[test]
fn more_than_one_write_takes_several_polls() {
    let broker = Broker::start(&["--history", "5000"]);
    let body = (0..1000).map(|number| format!("data: {number}\n\n")).collect::<String>();
    broker.publish("topicone1", &body);
    let (mut position, mut received, mut polls) = ("0".to_owned(), Vec::new(), 0);
    while received.len() < 1000 {
        let polled = poll(&broker, "/subscribe/topicone1?poll", &position);
        position = polled.events.back().and_then(|event| event.id.clone()).expect("an id");
        received.extend(polled.events.into_iter().filter_map(|event| event.data));
        polls += 1;
    }
    assert_eq!(received, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!((2..20).contains(&polls), "{polls}");
}

#[test]
fn a_gap_that_no_event_follows_is_reported_once() {
    let broker = Broker::start(&["--heartbeat", "300ms"]);
    broker.publish("topictwo2", "data: elsewhere");
    let polled = poll(&broker, "/subscribe/topicone1?poll&prime", "unknown");
    let [gap, position] = [&polled.events[0], &polled.events[1]];
    assert_eq!(gap.text, "event: gap\ndata: {\"after\":\"unknown\",\"oldest\":null}\n\n");
    assert_eq!((position.text.clone(), polled.events.len()), (format!("id: {}\n\n", position.number()), 2));
    let next = poll(&broker, "/subscribe/topicone1?poll&prime", &position.number().to_string());
    assert_eq!(next.events.len(), 0, "the position is known: {:?}", next.events);
    broker.wait_for("left", |stats| stats["subscribers"] == 0);
    // Without an id to continue from, polling again at once would only repeat the gap.
    let mut waits = start(&broker, "/subscribe/topicone1?poll", "unknown");
    waits.opening();
    assert_eq!(waits.event().name.as_deref(), Some("gap"));
    broker.publish("topicone1", "data: x");
    assert_eq!(waits.data(1), ["x"]);
    assert_eq!(waits.chunk(), None, "the last chunk");
    // Retained events have ids.
    let polled = poll(&broker, "/subscribe/topicone1?poll&prime", "unknown");
    assert_eq!((polled.events[0].name.as_deref(), polled.events[1].data.as_deref()), (Some("gap"), Some("x")));
    assert_eq!((polled.events.len(), polled.events[2].number()), (3, polled.events[1].number()));
}

/// An evicted event had the same id of its publisher, so that every resume from it would begin with a gap and this event.
#[test]
fn a_primed_poll_ends_with_a_position_that_is_not_in_doubt() {
    let broker = Broker::start(&["--history", "1", "--heartbeat", "300ms"]);
    for id in ["again", "other", "again"] {
        broker.publish("topicone1", &format!("id: {id}\ndata: x"));
    }
    assert_eq!(poll(&broker, "/subscribe/topicone1?poll", "again").data().len(), 2, "a gap and an event");
    let polled = poll(&broker, "/subscribe/topicone1?poll&prime", "again");
    let ids: Vec<_> = polled.events.iter().map(|event| event.id.as_deref()).collect();
    assert_eq!((ids.len(), ids[1]), (3, Some("again")));
    let position = polled.events[2].number().to_string();
    assert_eq!(poll(&broker, "/subscribe/topicone1?poll&prime", &position).events.len(), 0);
}

#[test]
fn records_can_be_polled() {
    let broker = Broker::start(&[]);
    insert(&broker, "a", "1");
    insert(&broker, "b", "2");
    let polled = poll(&broker, "/events?poll", "");
    assert_eq!(polled.data(), ["1", "2"]);
    let position = polled.events[1].number().to_string();
    let waiting = start(&broker, "/events?poll", &position);
    insert(&broker, "a", "3");
    assert_eq!(Poll::read(waiting).data(), ["3"]);
    assert_eq!(poll(&broker, "/events?poll&event=a", &position).data(), ["3"]);
}

#[test]
fn a_full_broker_and_a_draining_one_end_a_poll_like_any_stream() {
    let broker = Broker::start(&["--max-subscribers", "1"]);
    let waiting = start(&broker, "/subscribe/topicone1?poll", "");
    let polled = poll(&broker, "/subscribe/topicone1?poll", "");
    let retry = polled.opening.rsplit_once("retry: ").and_then(|(_, retry)| retry.trim().parse::<u64>().ok());
    assert!(retry.is_some_and(|retry| (5_000..=15_000).contains(&retry)), "{}", polled.opening);
    broker.signal("TERM");
    assert_eq!(Poll::read(waiting).events.len(), 0);
}

#[test]
fn a_slow_poller_gets_the_end_after_the_current_event() {
    let broker = Broker::start(&["--history", "1000"]);
    let large = format!("data: {}", "x".repeat(700_000));
    (0..20).for_each(|_| {
        broker.publish("topicone1", &large);
    });
    let polled = start(&broker, "/subscribe/topicone1?poll", "0");
    let polled = Poll::read(polled);
    assert!((1..20).contains(&polled.events.len()));
    assert!(polled.data().iter().all(|data| data.len() == 700_000));
    assert_eq!(broker.get("/healthz").text(), "ok");
}
