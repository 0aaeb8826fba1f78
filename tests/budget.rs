//! Tests the exact budgets: bytes per idle subscriber, allocations and writes per delivery. There is only one test, because
//! the counting allocator counts the whole process.

#[path = "budget/descriptor.rs"]
mod descriptor;

use std::alloc::System;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use descriptor::{BYTES, Socket, WRITES, one_worker};
use esker::internals::hub::{Hub, Position, TopicName};
use esker::internals::sse::{Framing, frames_from_text};
use esker::internals::stream::subscriber::Subscriber;
use esker::internals::stream::{Close, Streams};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Fixture {
    hub: Arc<Hub>,
    streams: Streams<Socket>,
    topic: TopicName,
    now: u64,
    /// How often the clock was read while serving.
    clock_reads: Cell<usize>,
}

impl Fixture {
    fn new() -> Self {
        let (hub, streams) = one_worker();
        Self {
            hub,
            streams,
            topic: TopicName::parse("topicone1").expect("a topic"),
            now: 1_000_000,
            clock_reads: Cell::new(0),
        }
    }

    fn subscribe(&mut self, count: usize, expires: Option<u64>) {
        for _ in 0..count {
            let joined = self.hub.join(0, &[self.topic], Position::Live).expect("there is room");
            let pending = self.streams.admit(joined, Framing::Chunked, expires);
            self.streams.start(pending, Socket::new(), 0);
            self.streams.serve(usize::MAX, 0, &|| 0);
        }
    }

    fn publish(&mut self, events: usize) {
        for _ in 0..events {
            self.now += 1;
            let frames = frames_from_text("data: hello, world").expect("a good body");
            self.hub.publish(&self.topic, frames, self.now, None).expect("there is room");
        }
        self.streams.take_inbox();
    }

    /// Serves everything that is due. Returns the number of allocations and writes.
    fn serve(&mut self) -> (usize, usize) {
        let region = Region::new(ALLOCATOR);
        let before = WRITES.load(Ordering::Relaxed);
        let Self { streams, now, clock_reads, .. } = self;
        while streams.has_work() {
            streams.serve(esker::internals::stream::BUDGET_PER_ITERATION, 0, &|| {
                clock_reads.set(clock_reads.get() + 1);
                *now
            });
        }
        let allocations = region.change().allocations + region.change().reallocations;
        (allocations, WRITES.load(Ordering::Relaxed) - before)
    }
}

#[test]
fn budgets_are_kept() {
    a_subscriber_is_24_bytes();
    idle_subscribers_cost_at_most_64_bytes_each();
    topics_with_an_event_are_small_and_listed_without_allocations();
    delivery_allocates_nothing_and_writes_once();
    replaced_subscribers_leave_no_memory_behind();
    a_drain_writes_once_to_each();
}

fn a_subscriber_is_24_bytes() {
    assert_eq!(size_of::<Subscriber<Socket>>(), 24);
}

/// Measured right after the vectors doubled, when they are largest in relation to their content.
fn idle_subscribers_cost_at_most_64_bytes_each() {
    // A slab entry and a ready index; with a token, also the second in which it expires.
    for (expires, live) in [(None, 24 + 4), (Some(1_800_000_000), 24 + 4 + 4)] {
        let mut fixture = Fixture::new();
        fixture.subscribe(1, expires);
        let region = Region::new(ALLOCATOR);
        let count = (1 << 18) + 1;
        fixture.subscribe(count, expires);
        let change = region.change();
        let heap = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        let each = heap as f64 / count as f64;
        assert!(each <= 64.0, "{each} bytes of heap per subscriber");
        assert!(each >= f64::from(live), "{each} bytes are too few: the allocator was not counted");
    }
}

/// Measured right after the table of topics has doubled, when it is largest in relation to its content.
fn topics_with_an_event_are_small_and_listed_without_allocations() {
    let fixture = Fixture::new();
    let count = (1 << 17) * 7 / 8 + 1;
    let region = Region::new(ALLOCATOR);
    for number in 0..count {
        let topic = TopicName::parse(&format!("topic{number:07}")).expect("a topic");
        let frames = frames_from_text("data: hello, world").expect("a good body");
        fixture.hub.publish(&topic, frames, fixture.now + number, None).expect("there is room");
    }
    let change = region.change();
    let each = (change.bytes_allocated as isize - change.bytes_deallocated as isize) as f64 / count as f64;
    assert!(each <= 430.0, "{each} bytes of heap per topic");
    // The only allocation is that of the page, before the lock is taken.
    let region = Region::new(ALLOCATOR);
    let page = fixture.hub.topics(None, 1000);
    assert_eq!((page.topics.len(), region.change().allocations, region.change().reallocations), (1000, 1, 0));
}

/// Slab entries and ready indexes are reused; delivery is as before.
fn replaced_subscribers_leave_no_memory_behind() {
    const SUBSCRIBERS: usize = 1000;
    let mut fixture = Fixture::new();
    fixture.subscribe(SUBSCRIBERS, None);
    let before = ALLOCATOR.stats();
    for round in 0..10 {
        // The even keys and the odd keys in turn.
        (0..SUBSCRIBERS as u32)
            .filter(|key| (key + round) % 2 == 0)
            .for_each(|key| fixture.streams.remove(key, Close::Peer));
        assert_eq!(fixture.streams.take_closed().count(), SUBSCRIBERS / 2);
        fixture.subscribe(SUBSCRIBERS / 2, None);
    }
    let after = ALLOCATOR.stats();
    let grown = after.bytes_allocated - before.bytes_allocated;
    let shrunk = after.bytes_deallocated - before.bytes_deallocated;
    assert_eq!(grown, shrunk, "nothing is kept for subscribers that left");
    fixture.publish(1);
    assert_eq!(fixture.serve(), (0, SUBSCRIBERS));
}

fn a_drain_writes_once_to_each() {
    const SUBSCRIBERS: usize = 20_000;
    const BUDGET: usize = 512;
    let mut fixture = Fixture::new();
    fixture.subscribe(SUBSCRIBERS, None);
    let (mut slices, before) = (0, WRITES.load(Ordering::Relaxed));
    while fixture.streams.drain(usize::MAX, BUDGET, 0) {
        slices += 1;
        assert!(fixture.streams.take_closed().count() <= BUDGET);
    }
    assert_eq!((fixture.streams.len(), WRITES.load(Ordering::Relaxed) - before), (0, SUBSCRIBERS));
    assert!(slices <= SUBSCRIBERS.div_ceil(BUDGET) + 2, "{slices} slices check no subscriber twice");
}

fn delivery_allocates_nothing_and_writes_once() {
    const SUBSCRIBERS: usize = 1000;
    let mut fixture = Fixture::new();
    fixture.subscribe(SUBSCRIBERS, None);
    for events in [1, 1, 64, 200] {
        fixture.publish(events);
        let bytes = BYTES.load(Ordering::Relaxed);
        fixture.streams.take_counters();
        fixture.clock_reads.set(0);
        assert_eq!(fixture.serve(), (0, SUBSCRIBERS), "{events} events at once");
        assert_eq!(
            fixture.streams.take_counters().latency.count() as usize,
            SUBSCRIBERS * events,
            "the latency of all was measured"
        );
        assert!(fixture.clock_reads.get() <= SUBSCRIBERS / 20, "{} readings of the clock", fixture.clock_reads.get());
        assert!(BYTES.load(Ordering::Relaxed) - bytes >= SUBSCRIBERS * events * "data: hello, world\n".len());
    }
}
