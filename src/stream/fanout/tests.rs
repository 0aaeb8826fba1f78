//! Serving in slices: what a turn writes at most, who waits for whom, who is timed, and who is given up.

use std::cell::Cell;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use super::*;
use crate::hub::{Hub, HubLimits, Position, TopicName, inbox};
use crate::sse::{Framing, UnsequencedFrame};
use crate::stream::{Buckets, SURPLUS_SHARE};

/// Takes whatever it is offered, and counts the bytes.
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

struct CommonHeaders {
    hub: Arc<Hub>,
    streams: Streams<Sink>,
    live: Rc<Cell<usize>>,
    behind: Rc<Cell<usize>>,
}

impl CommonHeaders {
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

    /// One listens to the present of a topic, thousands have just asked for the past of another.
    fn of_many_behind() -> Self {
        let mut house = Self::new();
        (0..100).for_each(|_| house.publish("topicone1", 100_000));
        let (live, behind) = (Rc::clone(&house.live), Rc::clone(&house.behind));
        house.join("livetopic1", Position::Live, &live);
        house.turn();
        (0..2000).for_each(|_| house.join("topicone1", Position::After("0"), &behind));
        house
    }

    fn join(&mut self, topic: &str, position: Position<'_>, counter: &Rc<Cell<usize>>) {
        let joined = self.hub.join(0, &[TopicName::parse(topic).unwrap()], position).unwrap();
        let ticket = self.streams.admit(joined, Framing::Chunked, None);
        self.streams.seat(ticket, Sink(Rc::clone(counter)), 0);
    }

    fn publish(&mut self, topic: &str, len: usize) {
        let mut writer = UnsequencedFrame::writer(len);
        writer.field("data", &"x".repeat(len));
        self.hub.publish(&TopicName::parse(topic).unwrap(), vec![writer.finish(None)], 1, None).unwrap();
    }

    /// One turn; the bytes it wrote.
    fn turn(&mut self) -> usize {
        let before = self.live.get() + self.behind.get();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
        self.live.get() + self.behind.get() - before
    }
}

#[test]
fn a_turn_is_bounded_in_bytes_and_loses_none() {
    let mut house = CommonHeaders::new();
    let live = Rc::clone(&house.live);
    (0..300).for_each(|_| house.join("topicone1", Position::Live, &live));
    while house.streams.has_work() {
        house.turn();
    }
    house.publish("topicone1", 1 << 20);
    while house.streams.has_work() {
        let written = house.turn();
        assert!(written <= (BUDGET_PER_ITERATION << 14) + (2 << 20), "{written}");
    }
    assert_eq!(house.streams.take_tally().delivered, 300);
}

#[test]
fn only_those_who_are_caught_up_are_timed_and_each_event_of_theirs() {
    let mut house = CommonHeaders::new();
    let live = Rc::clone(&house.live);
    house.publish("topicone1", 10);
    (0..100).for_each(|_| house.join("topicone1", Position::After("0"), &live));
    house.turn();
    assert_eq!(house.streams.take_tally().latency, Buckets::default(), "the past is not timed");
    (0..5).for_each(|_| house.publish("topicone1", 10));
    house.streams.take_inbox();
    while house.streams.has_work() {
        house.streams.serve(BUDGET_PER_ITERATION, 0, &|| 1_000);
    }
    let latency = house.streams.take_tally().latency;
    // The ids are 3 to 7: a little less than a millisecond each.
    assert_eq!((latency.count(), latency.sum_seconds()), (500, 100.0 * (5.0 * 1_000.0 - 25.0) / 1e6));
    house.publish("topicone1", 10);
    house.turn();
    assert_eq!(house.streams.take_tally().latency.sum_seconds(), 0.0, "an id ahead of the clock took no time");
}

#[test]
fn those_who_catch_up_keep_no_publisher_waiting() {
    let mut house = CommonHeaders::of_many_behind();
    for _ in 0..5000 {
        house.publish("livetopic1", 10);
        house.turn();
    }
}

#[test]
fn those_who_catch_up_keep_no_live_event_waiting() {
    let mut house = CommonHeaders::of_many_behind();
    house.publish("livetopic1", 10);
    house.turn();
    assert!(house.live.get() > 0, "served in the first turn");
    assert!(house.streams.has_work(), "though others have far to go");
}

/// Takes so many bytes, and then none until more are granted.
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
fn a_full_socket_is_no_gap_within_the_surplus_and_one_beyond_it() {
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
    let ticket = streams.admit(joined, Framing::Chunked, None);
    streams.seat(ticket, Narrow { room: Rc::clone(&room), taken: Rc::clone(&taken) }, 0);
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
    streams.trim_idle();
    assert_eq!((streams.tally.delivered, streams.tally.gaps), (30, 0));
    assert_eq!(streams.replica.feeds.events(), 3, "nobody waits for the surplus any more");
    room.set(0);
    publish(&mut streams, 1000);
    assert!(streams.replica.feeds.over_limit_bytes() <= HISTORY_BYTES / SURPLUS_SHARE);
    room.set(usize::MAX);
    streams.writable(0);
    (0..3).for_each(|_| streams.serve(BUDGET_PER_ITERATION, 0, &|| 0));
    assert_eq!(streams.tally.gaps, 1);
}

#[test]
fn those_for_whom_too_much_is_kept_are_shed_and_counted() {
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
        let ticket = streams.admit(joined, Framing::Chunked, None);
        streams.seat(ticket, Narrow { room: Rc::new(Cell::new(10)), taken: Rc::default() }, 0);
        streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
        let mut writer = UnsequencedFrame::writer(LARGE);
        writer.field("data", &"x".repeat(LARGE));
        hub.publish(&name, vec![writer.finish(None)], 1, None).unwrap();
        streams.take_inbox();
        streams.serve(BUDGET_PER_ITERATION, 0, &|| 0);
    }
    let shed = streams.take_tally().closed[Close::Shed as usize];
    assert!((1..20).contains(&shed), "{shed} of 40 within 40 MB");
    assert_eq!(streams.len() as u64, 40 - shed);
}
