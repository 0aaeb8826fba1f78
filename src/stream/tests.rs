//! Losses of the log that the hub follows: every stream of topics gets one gap, whatever its subscriber is doing, and then
//! everything after the loss.

mod erasures;
mod polls;
mod records;
mod resets;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;

use super::*;
use crate::hub::{HubLimits, Position, RecordStart, TopicName, inbox};
use crate::records::Record;
use crate::sse::{UnsequencedFrame, record_frame};

const LIMITS: HubLimits = HubLimits {
    events_per_topic: 100_000,
    age_micros: u64::MAX,
    bytes: 1 << 30,
    topics: 99,
    subscribers: 99_999,
    latest_bytes: usize::MAX,
};

/// Accepts as many bytes as it has room for, and keeps them.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<PipeState>>);

#[derive(Default)]
struct PipeState {
    room: usize,
    received: Vec<u8>,
}

impl Pipe {
    fn with_room(room: usize) -> Self {
        let pipe = Self::default();
        pipe.0.borrow_mut().room = room;
        pipe
    }
}

impl Socket for Pipe {
    fn set_patient(&self, _: bool) {}
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let count = bytes.len().min(state.room);
        state.room -= count;
        state.received.extend_from_slice(&bytes[..count]);
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(&slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A subscriber and its end of the stream.
struct Client {
    key: SubscriberKey,
    pipe: Pipe,
    framing: Framing,
}

/// What a stream contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Event(u64),
    Erased(u64),
    Gap { after: u64, oldest: Option<u64> },
}

use Item::{Erased, Event, Gap};

struct Fixture {
    hub: Arc<Hub>,
    streams: Streams<Pipe>,
}

impl Fixture {
    fn new() -> Self {
        Self::with_limits(LIMITS)
    }

    fn with_limits(limits: HubLimits) -> Self {
        let (outbox, inbox) = inbox(Box::new(|| {}));
        let hub = Arc::new(Hub::following(limits, vec![outbox], 1));
        let streams = Streams::new(Arc::clone(&hub), 0, inbox);
        Self { hub, streams }
    }

    fn admit(&mut self, topics: &[&str], position: Position<'_>, framing: Framing) -> PendingSubscription {
        let names: Vec<_> = topics.iter().map(|topic| TopicName::parse(topic).unwrap()).collect();
        let joined = self.hub.join(0, &names, position).unwrap();
        self.streams.admit(joined, framing, None)
    }

    fn start(&mut self, pending: PendingSubscription, room: usize, framing: Framing) -> Client {
        let (key, pipe) = (self.streams.next_key(), Pipe::with_room(room));
        self.streams.start(pending, pipe.clone(), 0);
        Client { key, pipe, framing }
    }

    fn join(&mut self, topics: &[&str], position: Position<'_>, room: usize, framing: Framing) -> Client {
        let pending = self.admit(topics, position, framing);
        self.start(pending, room, framing)
    }

    fn apply(&self, topic: &str, ids: impl IntoIterator<Item = u64>) {
        let frame = |id| {
            let mut writer = UnsequencedFrame::writer(10);
            writer.field("data", "0123456789");
            (TopicName::parse(topic).unwrap(), writer.finish(None).assign_id(id))
        };
        let mut events: VecDeque<_> = ids.into_iter().map(frame).collect();
        self.hub.apply(&mut events).unwrap();
        assert!(events.is_empty());
    }

    fn iterate(&mut self) {
        self.streams.clear_wake();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
    }

    fn iterate_until_idle(&mut self) {
        while self.streams.has_work() {
            self.iterate();
        }
    }

    /// Lets the client read everything, and returns what it has received since the beginning.
    fn read(&mut self, client: &Client) -> Vec<Item> {
        client.pipe.0.borrow_mut().room = usize::MAX;
        self.streams.writable(client.key);
        self.iterate_until_idle();
        let received = client.pipe.0.borrow().received.clone();
        parse(&String::from_utf8(received).unwrap(), client.framing)
    }
}

fn parse(text: &str, framing: Framing) -> Vec<Item> {
    dechunk(text, framing).split_terminator("\n\n").map(parse_event).collect()
}

/// Returns a stream's text without its framing.
fn dechunk(mut text: &str, framing: Framing) -> String {
    let mut plain = String::new();
    while framing == Framing::Chunked && !text.is_empty() {
        let (size, rest) = text.split_once("\r\n").unwrap();
        let (chunk, rest) = rest.split_at(usize::from_str_radix(size, 16).unwrap());
        plain.push_str(chunk);
        text = rest.strip_prefix("\r\n").unwrap();
    }
    plain.push_str(text);
    plain
}

fn parse_event(event: &str) -> Item {
    let Some(gap) = event.strip_prefix("event: gap\ndata: ") else {
        let (lines, id) = event.rsplit_once("\nid: ").unwrap();
        if lines.starts_with("event: erased\ndata: {\"event\":") {
            return Erased(id.parse().unwrap());
        }
        assert!(lines.ends_with("data: 0123456789"));
        return Event(id.parse().unwrap());
    };
    let gap: serde_json::Value = serde_json::from_str(gap).unwrap();
    let id = |value: &serde_json::Value| value.as_str().map(|id| id.parse().unwrap());
    Gap { after: id(&gap["after"]).unwrap(), oldest: id(&gap["oldest"]) }
}

/// The bytes of one event on the wire.
const FRAME: usize = "1a\r\ndata: 0123456789\nid: 100\n\n\r\n".len();

#[test]
fn every_stream_gets_one_gap_after_a_loss_and_then_what_follows() {
    for framing in [Framing::Chunked, Framing::Plain] {
        let mut fixture = Fixture::new();
        fixture.apply("topicone1", [100, 110]);
        let all = usize::MAX;
        let live = fixture.join(&["topicone1"], Position::Live, all, framing);
        let quiet = fixture.join(&["topicquiet"], Position::Live, all, framing);
        let several = fixture.join(&["topicone1", "topicquiet", "topictwo2"], Position::After("100"), all, framing);
        let within = fixture.join(&["topicone1"], Position::After("100"), FRAME / 2, framing);
        let between = fixture.join(&["topicone1", "topictwo2"], Position::Live, 0, framing);
        let (opening, late) = (&["topicone1"], &["topictwo2", "topicquiet"]);
        let opening = fixture.admit(opening, Position::After("100"), framing);
        fixture.iterate_until_idle();
        fixture.apply("topictwo2", [120]);
        fixture.iterate_until_idle();
        let never_written = fixture.admit(late, Position::Live, framing);
        fixture.hub.lose_through(200);
        fixture.iterate_until_idle();
        assert_eq!(fixture.read(&live), [Gap { after: 110, oldest: None }]);
        let opening = fixture.start(opening, all, framing);
        fixture.apply("topicone1", [210, 220]);
        let never_written = fixture.start(never_written, all, framing);
        fixture.apply("topicquiet", [230]);
        fixture.iterate_until_idle();
        let gap = |after, oldest| Gap { after, oldest: Some(oldest) };
        let one = [Event(210), Event(220)];
        assert_eq!(fixture.read(&live)[1..], one);
        assert_eq!(fixture.read(&quiet), [Gap { after: 110, oldest: None }, Event(230)]);
        let expected = [Event(110), Event(120), Gap { after: 120, oldest: None }, Event(210), Event(220), Event(230)];
        assert_eq!(fixture.read(&several), expected);
        assert_eq!(fixture.read(&within), [Event(110), gap(110, 210), Event(210), Event(220)]);
        assert_eq!(fixture.read(&between), [gap(110, 210), Event(210), Event(220)]);
        assert_eq!(fixture.read(&opening), [gap(100, 210), Event(210), Event(220)]);
        assert_eq!(fixture.read(&never_written), [gap(120, 230), Event(230)]);
        assert_eq!(fixture.streams.take_counters().gaps, 7);
    }
}

#[test]
fn events_that_are_lost_before_the_worker_takes_them_are_not_delivered() {
    let mut fixture = Fixture::new();
    let client = fixture.join(&["topicone1"], Position::Live, usize::MAX, Framing::Chunked);
    fixture.apply("topicone1", [100]);
    fixture.iterate_until_idle();
    fixture.apply("topicone1", [110, 120]);
    fixture.hub.lose_through(200);
    fixture.apply("topicone1", [210]);
    fixture.hub.lose_through(300);
    fixture.apply("topicone1", [310]);
    let late = fixture.join(&["topicone1"], Position::After("0"), usize::MAX, Framing::Chunked);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Event(100), Gap { after: 100, oldest: Some(310) }, Event(310)]);
    assert_eq!(fixture.read(&late), [Event(310)], "it joined after the loss");
}

#[test]
fn a_subscriber_within_a_lost_event_gets_the_rest_of_it() {
    let mut fixture = Fixture::new();
    let client = fixture.join(&["topicone1"], Position::Live, FRAME + FRAME / 2, Framing::Chunked);
    fixture.iterate_until_idle();
    fixture.apply("topicone1", [100, 101, 102]);
    fixture.iterate_until_idle();
    fixture.hub.lose_through(200);
    fixture.iterate_until_idle();
    assert_eq!((fixture.streams.replica.events(), fixture.streams.blocked()), (0, 1));
    fixture.hub.lose_through(300);
    fixture.iterate_until_idle();
    assert_eq!(fixture.read(&client), [Event(100), Event(101), Gap { after: 101, oldest: None }]);
}

#[test]
fn a_loss_costs_no_iteration_more_than_its_budget() {
    const SUBSCRIBERS: usize = 3_000;
    let mut fixture = Fixture::new();
    (1_000..11_000).step_by(1_000).for_each(|first| fixture.apply("topicone1", first..first + 1_000));
    let clients: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| {
            let topic = if number % 3 == 0 { "topicone1" } else { "topicquiet" };
            fixture.join(&[topic], Position::Live, usize::MAX, Framing::Chunked)
        })
        .collect();
    fixture.iterate_until_idle();
    assert_eq!(fixture.streams.replica.events(), 10_000);
    fixture.hub.lose_through(20_000);
    let (mut gaps, mut events) = (0, fixture.streams.replica.events());
    while fixture.streams.has_work() {
        fixture.iterate();
        let (told, left) = (fixture.streams.take_counters().gaps as usize, fixture.streams.replica.events());
        assert!(told <= BUDGET_PER_ITERATION && events - left <= 2_000, "{told} gaps, {} evictions", events - left);
        (gaps, events) = (gaps + told, left);
    }
    assert_eq!((gaps, events), (SUBSCRIBERS, 0));
    assert!(clients.iter().all(|client| matches!(fixture.read(client)[..], [Gap { oldest: None, .. }])));
}

#[test]
fn a_loss_does_not_concern_streams_of_records() {
    let mut fixture = Fixture::new();
    let joined = fixture.hub.join_records(0, Arc::from([]), RecordStart::Newest, 0).unwrap();
    let pending = fixture.streams.admit(joined, Framing::Plain, None);
    let client = fixture.start(pending, usize::MAX, Framing::Plain);
    fixture.hub.publish_records(vec![record_frame(&Record::shared("user", "1", 2))]);
    fixture.iterate_until_idle();
    fixture.hub.lose_through(200);
    fixture.hub.publish_records(vec![record_frame(&Record::shared("user", "2", 3))]);
    fixture.iterate_until_idle();
    let received = String::from_utf8(client.pipe.0.borrow().received.clone()).unwrap();
    assert_eq!(received, "event: user\ndata: 1\nid: 2\n\nevent: user\ndata: 2\nid: 3\n\n");
}
