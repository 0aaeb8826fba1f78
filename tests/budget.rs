//! The exact budgets: bytes per idle subscriber, allocations and writes per delivery. One test, for
//! the counting allocator counts the whole process.

#[path = "budget/descriptor.rs"]
mod descriptor;

use std::alloc::System;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use descriptor::{BYTES, Socket, WRITES, one_worker};
use esker::hub::{Hub, Position, TopicName};
use esker::sse::{Framing, drafts_from_text};
use esker::stream::subscriber::Subscriber;
use esker::stream::{Close, Streams};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct CommonHeaders {
    hub: Arc<Hub>,
    streams: Streams<Socket>,
    topic: TopicName,
    now: u64,
    /// How often the clock was looked at while serving.
    looks: Cell<usize>,
}

impl CommonHeaders {
    fn new() -> Self {
        let (hub, streams) = one_worker();
        Self {
            hub,
            streams,
            topic: TopicName::parse("topicone1").expect("a topic"),
            now: 1_000_000,
            looks: Cell::new(0),
        }
    }

    fn subscribe(&mut self, count: usize, expires: Option<u64>) {
        for _ in 0..count {
            let joined = self.hub.join(0, &[self.topic], Position::Live).expect("there is room");
            let ticket = self.streams.admit(joined, Framing::Chunked, expires);
            self.streams.seat(ticket, Socket::new(), 0);
            self.streams.serve(usize::MAX, 0, &|| 0);
        }
    }

    fn publish(&mut self, events: usize) {
        for _ in 0..events {
            self.now += 1;
            let drafts = drafts_from_text("data: hello, world").expect("a good body");
            self.hub.publish(&self.topic, drafts, self.now, None).expect("there is room");
        }
        self.streams.take_inbox();
    }

    /// Serves all that is due; answers the allocations and writes that took.
    fn serve(&mut self) -> (usize, usize) {
        let region = Region::new(ALLOCATOR);
        let before = WRITES.load(Ordering::Relaxed);
        let Self { streams, now, looks, .. } = self;
        while streams.has_work() {
            streams.serve(esker::stream::BUDGET_PER_ITERATION, 0, &|| {
                looks.set(looks.get() + 1);
                *now
            });
        }
        let allocations = region.change().allocations + region.change().reallocations;
        (allocations, WRITES.load(Ordering::Relaxed) - before)
    }
}

#[test]
fn the_budgets_are_kept() {
    a_subscriber_is_24_bytes();
    idle_subscribers_cost_at_most_64_bytes_each();
    delivery_allocates_nothing_and_writes_once();
    those_who_come_in_place_of_others_cost_nothing();
    a_drain_writes_once_to_each();
}

fn a_subscriber_is_24_bytes() {
    assert_eq!(size_of::<Subscriber<Socket>>(), 24);
}

/// Counted right after the vectors doubled, which is when they are largest for what they hold.
fn idle_subscribers_cost_at_most_64_bytes_each() {
    // A slab entry and a seat; with a token, the second in which it expires as well.
    for (expires, live) in [(None, 24 + 4), (Some(1_800_000_000), 24 + 4 + 4)] {
        let mut house = CommonHeaders::new();
        house.subscribe(1, expires);
        let region = Region::new(ALLOCATOR);
        let count = (1 << 18) + 1;
        house.subscribe(count, expires);
        let change = region.change();
        let heap = change.bytes_allocated as isize - change.bytes_deallocated as isize;
        let each = heap as f64 / count as f64;
        assert!(each <= 64.0, "{each} bytes of heap per subscriber");
        assert!(each >= f64::from(live), "{each} bytes can't be all: the allocator was not counted");
    }
}

/// Seats and entries that were left are taken again; delivery is as before.
fn those_who_come_in_place_of_others_cost_nothing() {
    const SUBSCRIBERS: usize = 1000;
    let mut house = CommonHeaders::new();
    house.subscribe(SUBSCRIBERS, None);
    let before = ALLOCATOR.stats();
    for round in 0..10 {
        // Every second one, from another one on each time.
        (0..SUBSCRIBERS as u32)
            .filter(|key| (key + round) % 2 == 0)
            .for_each(|key| house.streams.remove(key, Close::Peer));
        assert_eq!(house.streams.take_closed().count(), SUBSCRIBERS / 2);
        house.subscribe(SUBSCRIBERS / 2, None);
    }
    let after = ALLOCATOR.stats();
    let grown = after.bytes_allocated - before.bytes_allocated;
    let given_back = after.bytes_deallocated - before.bytes_deallocated;
    assert_eq!(grown, given_back, "nothing is kept of those who left");
    house.publish(1);
    assert_eq!(house.serve(), (0, SUBSCRIBERS));
}

fn a_drain_writes_once_to_each() {
    const SUBSCRIBERS: usize = 20_000;
    const BUDGET: usize = 512;
    let mut house = CommonHeaders::new();
    house.subscribe(SUBSCRIBERS, None);
    let (mut slices, before) = (0, WRITES.load(Ordering::Relaxed));
    while house.streams.end(BUDGET, 0) {
        slices += 1;
        assert!(house.streams.take_closed().count() <= BUDGET);
    }
    assert_eq!((house.streams.len(), WRITES.load(Ordering::Relaxed) - before), (0, SUBSCRIBERS));
    assert!(slices <= SUBSCRIBERS.div_ceil(BUDGET) + 2, "{slices} slices look at nobody twice");
}

fn delivery_allocates_nothing_and_writes_once() {
    const SUBSCRIBERS: usize = 1000;
    let mut house = CommonHeaders::new();
    house.subscribe(SUBSCRIBERS, None);
    for events in [1, 1, 64, 200] {
        house.publish(events);
        let bytes = BYTES.load(Ordering::Relaxed);
        house.streams.take_tally();
        house.looks.set(0);
        assert_eq!(house.serve(), (0, SUBSCRIBERS), "{events} events at once");
        assert_eq!(house.streams.take_tally().latency.count() as usize, SUBSCRIBERS * events, "all were timed");
        assert!(house.looks.get() <= SUBSCRIBERS / 30, "{} looks at the clock", house.looks.get());
        assert!(BYTES.load(Ordering::Relaxed) - bytes >= SUBSCRIBERS * events * "data: hello, world\n".len());
    }
}
