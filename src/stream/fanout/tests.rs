//! Tests of serving in slices: what one loop iteration writes at most, which subscribers wait for others, whose latency is
//! measured, and which subscribers are closed.

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::hub::{Hub, HubLimits, Position, RecordStart, TopicName, inbox};
use crate::metrics::Buckets;
use crate::records::Record;
use crate::sse::{Framing, UnsequencedFrame, record_frame};
use crate::stream::BUDGET_PER_ITERATION;

/// Accepts everything, and counts the bytes.
struct Sink(Rc<Cell<usize>>);

impl Socket for Sink {
    fn set_patient(&self, _: bool) {}
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len());
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        slices.iter().map(|slice| self.write(slice)).sum()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that is full only at its first write.
struct Hesitant(Cell<bool>);

impl Socket for Hesitant {
    fn set_patient(&self, _: bool) {}
}

impl Write for Hesitant {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.replace(false) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes.len()) }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        slices.iter().map(|slice| self.write(slice)).sum()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fixture<S = Sink> {
    hub: Arc<Hub>,
    streams: Streams<S>,
    live: Rc<Cell<usize>>,
    behind: Rc<Cell<usize>>,
}

impl<S: Socket> Fixture<S> {
    fn new() -> Self {
        let (outbox, inbox) = inbox(Box::new(|| {}));
        let limits = HubLimits {
            events_per_topic: 100,
            age_micros: u64::MAX,
            bytes: 1 << 30,
            topics: 9,
            subscribers: 9999,
            latest_bytes: usize::MAX,
        };
        let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
        let streams = Streams::new(Arc::clone(&hub), 0, inbox);
        Self { hub, streams, live: Rc::default(), behind: Rc::default() }
    }

    fn start(&mut self, topic: &str, position: Position<'_>, socket: S) {
        let joined = self.hub.join(0, &[TopicName::parse(topic).unwrap()], position).unwrap();
        let pending = self.streams.admit(joined, Framing::Chunked, None);
        self.streams.start(pending, socket, 0);
    }

    fn publish(&mut self, topic: &str, len: usize) {
        let mut writer = UnsequencedFrame::writer(len);
        writer.field("data", &"x".repeat(len));
        self.hub.publish(&TopicName::parse(topic).unwrap(), vec![writer.finish(None)], 1, None).unwrap();
    }

    /// Runs one loop iteration. Returns the number of bytes that it wrote.
    fn iterate(&mut self) -> usize {
        let before = self.live.get() + self.behind.get();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
        self.live.get() + self.behind.get() - before
    }
}

impl Fixture {
    /// One subscriber is live on a topic; thousands have just asked for the history of another one.
    fn with_many_behind() -> Self {
        let mut fixture = Self::new();
        (0..100).for_each(|_| fixture.publish("topicone1", 100_000));
        let (live, behind) = (Rc::clone(&fixture.live), Rc::clone(&fixture.behind));
        fixture.join("livetopic1", Position::Live, &live);
        fixture.iterate();
        (0..2000).for_each(|_| fixture.join("topicone1", Position::After("0"), &behind));
        fixture
    }

    fn join(&mut self, topic: &str, position: Position<'_>, counter: &Rc<Cell<usize>>) {
        self.start(topic, position, Sink(Rc::clone(counter)));
    }
}

#[test]
fn an_iteration_writes_a_bounded_number_of_bytes_and_loses_none() {
    let mut fixture = Fixture::new();
    let live = Rc::clone(&fixture.live);
    (0..300).for_each(|_| fixture.join("topicone1", Position::Live, &live));
    while fixture.streams.has_work() {
        fixture.iterate();
    }
    fixture.publish("topicone1", 1 << 20);
    while fixture.streams.has_work() {
        let written = fixture.iterate();
        assert!(written <= (BUDGET_PER_ITERATION << 14) + (2 << 20), "{written}");
    }
    assert_eq!(fixture.streams.take_counters().delivered, 300);
}

#[test]
fn latency_is_measured_for_every_event_of_ready_subscribers_only() {
    let mut fixture = Fixture::new();
    let live = Rc::clone(&fixture.live);
    fixture.publish("topicone1", 10);
    (0..100).for_each(|_| fixture.join("topicone1", Position::After("0"), &live));
    fixture.iterate();
    assert_eq!(fixture.streams.take_counters().latency, Buckets::default(), "the history is not measured");
    (0..5).for_each(|_| fixture.publish("topicone1", 10));
    fixture.streams.take_inbox();
    while fixture.streams.has_work() {
        fixture.streams.serve(BUDGET_PER_ITERATION, 0, &|| 1_000);
    }
    let latency = fixture.streams.take_counters().latency;
    // The ids are 3 to 7: a little less than a millisecond each.
    assert_eq!((latency.count(), latency.sum_seconds()), (500, 100.0 * (5.0 * 1_000.0 - 25.0) / 1e6));
    fixture.publish("topicone1", 10);
    fixture.iterate();
    assert_eq!(fixture.streams.take_counters().latency.sum_seconds(), 0.0, "an id ahead of the clock took no time");
}

#[test]
fn a_record_may_arrive_after_an_event_with_a_larger_id() {
    let mut fixture = Fixture::new();
    let live = Rc::clone(&fixture.live);
    fixture.join("topicone1", Position::Live, &live);
    let joined = fixture.hub.join_records(0, Arc::from([]), RecordStart::Newest, 0).unwrap();
    let pending = fixture.streams.admit(joined, Framing::Chunked, None);
    fixture.streams.start(pending, Sink(live), 0);
    fixture.iterate();
    let id = fixture.hub.reserve(1, 1).unwrap();
    fixture.publish("topicone1", 10);
    // Its commit took this long.
    fixture.hub.publish_records(vec![record_frame(&Record::shared("user", "1", id))]);
    fixture.iterate();
    assert_eq!(fixture.streams.take_counters().delivered, 2);
}

#[test]
fn a_blocked_subscriber_whose_key_is_in_the_queue_twice_catches_up() {
    let mut fixture = Fixture::<Hesitant>::new();
    (0..10).for_each(|_| fixture.publish("topicone1", 100_000));
    fixture.start("topicone1", Position::After("0"), Hesitant(Cell::new(false)));
    fixture.streams.remove(0, Close::Peer);
    // It reuses the key that is already in the queue: the first write blocks, the second one is truncated.
    fixture.start("topicone1", Position::After("0"), Hesitant(Cell::new(true)));
    while fixture.streams.has_work() {
        fixture.iterate();
    }
    assert_eq!((fixture.streams.take_counters().delivered, fixture.streams.blocked()), (10, 0));
}

#[test]
fn catching_up_does_not_delay_publishers() {
    let mut fixture = Fixture::with_many_behind();
    for _ in 0..5000 {
        fixture.publish("livetopic1", 10);
        fixture.iterate();
    }
}

#[test]
fn catching_up_does_not_delay_live_events() {
    let mut fixture = Fixture::with_many_behind();
    fixture.publish("livetopic1", 10);
    fixture.iterate();
    assert!(fixture.live.get() > 0, "served in the first iteration");
    assert!(fixture.streams.has_work(), "others still have much to catch up with");
}

/// Accepts as many bytes as it has room for.
struct Narrow {
    room: Rc<Cell<usize>>,
    taken: Rc<Cell<usize>>,
}

impl Socket for Narrow {
    fn set_patient(&self, _: bool) {}
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - count);
        self.taken.set(self.taken.get() + count);
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write(&slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_socket_causes_a_gap_only_beyond_the_bytes_kept_over_the_limit() {
    const HISTORY_BYTES: usize = 80_000;
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let limits = HubLimits {
        events_per_topic: 3,
        age_micros: u64::MAX,
        bytes: HISTORY_BYTES,
        topics: 9,
        subscribers: 9,
        latest_bytes: usize::MAX,
    };
    let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
    let mut streams = Streams::new(Arc::clone(&hub), 0, inbox);
    let name = TopicName::parse("topicone1").unwrap();
    let (room, taken) = (Rc::new(Cell::new(0)), Rc::<Cell<usize>>::default());
    let joined = hub.join(0, &[name], Position::Live).unwrap();
    let pending = streams.admit(joined, Framing::Chunked, None);
    streams.start(pending, Narrow { room: Rc::clone(&room), taken: Rc::clone(&taken) }, 0);
    let publish = |streams: &mut Streams<Narrow>, count: usize| {
        for _ in 0..count {
            let mut writer = UnsequencedFrame::writer(100);
            writer.field("data", &"x".repeat(100));
            hub.publish(&name, vec![writer.finish(None)], 1, None).unwrap();
            streams.take_inbox();
            streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
        }
    };
    publish(&mut streams, 30);
    room.set(usize::MAX);
    streams.writable(0);
    streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
    streams.evict_idle();
    assert_eq!((streams.counters.delivered, streams.counters.gaps), (30, 0));
    assert_eq!(streams.replica.events(), 3, "no subscriber needs the events over the limit any more");
    room.set(0);
    publish(&mut streams, 1000);
    assert!(streams.replica.over_limit_bytes() <= HISTORY_BYTES / OVER_LIMIT_SHARE);
    room.set(usize::MAX);
    streams.writable(0);
    (0..3).for_each(|_| streams.serve(BUDGET_PER_ITERATION, 0, &|| 0));
    assert_eq!(streams.counters.gaps, 1);
}

#[test]
fn subscribers_that_keep_too_many_evicted_bytes_are_closed_and_counted() {
    const LARGE: usize = 1 << 20;
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let limits = HubLimits {
        events_per_topic: 1,
        age_micros: u64::MAX,
        bytes: 4 * LARGE,
        topics: 9,
        subscribers: 99,
        latest_bytes: usize::MAX,
    };
    let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
    let mut streams = Streams::new(Arc::clone(&hub), 0, inbox);
    let name = TopicName::parse("topicone1").unwrap();
    for _ in 0..40 {
        let joined = hub.join(0, &[name], Position::Live).unwrap();
        let pending = streams.admit(joined, Framing::Chunked, None);
        streams.start(pending, Narrow { room: Rc::new(Cell::new(10)), taken: Rc::default() }, 0);
        streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
        let mut writer = UnsequencedFrame::writer(LARGE);
        writer.field("data", &"x".repeat(LARGE));
        hub.publish(&name, vec![writer.finish(None)], 1, None).unwrap();
        streams.take_inbox();
        streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
    }
    let shed = streams.take_counters().closed[Close::Shed as usize];
    assert!((1..20).contains(&shed), "{shed} of 40 within 40 MB");
    assert_eq!(streams.len() as u64, 40 - shed);
}
