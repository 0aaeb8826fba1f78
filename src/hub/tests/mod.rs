//! Bounds, tombstones and back-pressure of the hub alone. The simulation tests order and resuming.

mod late;
mod local;
mod log;
mod position;
mod records;
mod status;

use std::collections::VecDeque;
use std::sync::Arc;

use super::inbox::MAX_IN_FLIGHT_EVENTS;
use super::*;
use crate::ids::start_id;
use crate::sse::{Frame, frames_from_text};

const LIMITS: HubLimits = HubLimits {
    events_per_topic: 4,
    age_micros: 1_000,
    bytes: 1 << 20,
    topics: 1_000_000,
    subscribers: 3,
    latest_bytes: usize::MAX,
};

fn hub(limits: HubLimits) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    (Hub::new(limits, vec![outbox], 10), inbox)
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

fn publish(hub: &Hub, topic: &str, events: usize, now: u64) -> Result<Published, Refused> {
    let frames = (0..events).flat_map(|_| frames_from_text("data: x").unwrap()).collect();
    hub.publish(&name(topic), frames, now, None)
}

fn gap_after(hub: &Hub, topic: &str, position: &str) -> Option<Gap> {
    let joined = hub.join(0, &[name(topic)], Position::After(position)).unwrap();
    hub.abandon(0, &joined);
    joined.gap
}

/// Receives and acknowledges all waiting deliveries.
fn take_all(inbox: &mut Inbox) -> Vec<Delivery> {
    let deliveries: Vec<_> = inbox.waiting().collect();
    deliveries.iter().for_each(|delivery| inbox.mark_taken(delivery));
    inbox.ack();
    deliveries
}

#[test]
fn history_bytes_bound_all_topics_together_overhead_included() {
    const EVENTS: u64 = 10_000;
    let limits = HubLimits { events_per_topic: usize::MAX, bytes: 100_000, ..LIMITS };
    let (hub, _inbox) = hub(limits);
    let publisher_id = |number: u64| format!("{number:0100}");
    for number in 0..EVENTS {
        let text = format!("id: {}\ndata: x\n\n", publisher_id(number));
        hub.publish(&name(&format!("topic{:06}", number % 1000)), frames_from_text(&text).unwrap(), number, None)
            .unwrap();
        assert!(hub.counts().history_bytes <= limits.bytes);
    }
    let counts = hub.counts();
    // Each publisher id is stored twice: on the wire, and to recognize repetitions.
    assert!(counts.history_events * 2 * 100 < limits.bytes && counts.history_events > 100, "{counts:?}");
    assert_eq!(counts.topics, counts.history_events, "the oldest events of all topics were evicted");
    let oldest_left = EVENTS - counts.history_events as u64;
    assert!(hub.lock().slot(&name(&format!("topic{:06}", oldest_left % 1000))).is_some());
}

#[test]
fn memory_for_aged_publisher_ids_is_freed_while_the_topic_has_a_listener() {
    let (hub, _inbox) = hub(HubLimits { events_per_topic: 10_000, ..LIMITS });
    let joined = hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    for number in 0..1000 {
        let frames = frames_from_text(&format!("id: own{number}\ndata: x\n\n")).unwrap();
        hub.publish(&name("topicone1"), frames, number, None).unwrap();
    }
    let capacity = || hub.lock().feeds.get(0).meta.publisher_ids.capacity();
    assert!(capacity() >= 1000);
    hub.expire(1_000 + 900);
    assert!((100..1000).contains(&capacity()), "{}", capacity());
    hub.expire(1_000_000);
    assert_eq!(capacity(), 0);
    hub.abandon(0, &joined);
}

#[test]
fn a_topic_that_was_retired_still_reports_a_gap() {
    let (hub, _inbox) = hub(LIMITS);
    publish(&hub, "topicone1", 1, 100).unwrap();
    publish(&hub, "topictwo2", 1, 200).unwrap();
    assert!(!hub.expire(5_000));
    let counts = hub.counts();
    assert_eq!((counts.topics, counts.history_events, counts.history_bytes), (0, 0, 0));
    assert_eq!(gap_after(&hub, "topicone1", "99"), Some(Gap { oldest: None }));
    assert_eq!(gap_after(&hub, "topicone1", "100"), None);
    assert_eq!(gap_after(&hub, "topictwo2", "100"), Some(Gap { oldest: None }));
    // A topic that never had an event has no gap, whatever was evicted from others.
    assert_eq!(gap_after(&hub, "topicquiet", "100"), None);
    assert_eq!(gap_after(&hub, "topicquiet", "150"), Some(Gap { oldest: None }), "no event has this id");
    assert_eq!(hub.counts().topics, 0);
}

#[test]
fn beyond_the_bound_of_tombstones_a_gap_may_be_unnecessary() {
    let (hub, _inbox) = hub(LIMITS);
    let topics = tombstones::MAX as u64 + 10;
    for number in 0..topics {
        publish(&hub, &format!("topic{number:06}"), 1, 1_000 + number).unwrap();
    }
    while hub.expire(10_000_000) {}
    let state = hub.lock();
    assert_eq!((state.tombstones.len(), state.index.slots().count(), state.feeds.count()), (tombstones::MAX, 0, 0));
    assert!(state.index.capacity() < 1000, "capacity for {} topics", state.index.capacity());
    drop(state);
    assert_eq!(gap_after(&hub, "topicquiet", "1008"), Some(Gap { oldest: None }));
    assert_eq!(gap_after(&hub, "topicquiet", "1009"), None);
    assert_eq!(gap_after(&hub, "topic000020", "1019"), Some(Gap { oldest: None }));
    assert_eq!(gap_after(&hub, "topic000020", "1020"), None);
}

#[test]
fn topics_and_subscribers_are_bounded_until_some_are_removed() {
    let (hub, _inbox) = hub(HubLimits { topics: 2, ..LIMITS });
    publish(&hub, "topicone1", 1, 100).unwrap();
    let joined = hub.join(0, &[name("topictwo2")], Position::Live).unwrap();
    assert!(matches!(publish(&hub, "topicthree3", 1, 100), Err(Refused::TooManyTopics)));
    assert_eq!(hub.join(0, &[name("topictwo2"), name("topicthree3")], Position::Live).unwrap_err(), AtCapacity::Topics);
    assert_eq!((hub.counts().topics, hub.counts().subscribers), (2, 1));
    hub.abandon(0, &joined);
    publish(&hub, "topicthree3", 1, 100).unwrap();
    for _ in 0..3 {
        hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    }
    assert_eq!(hub.join(0, &[name("topicone1")], Position::Live).unwrap_err(), AtCapacity::Subscribers);
}

#[test]
fn a_publish_is_refused_while_too_much_is_in_flight_and_accepted_after_the_ack() {
    let (hub, mut inbox) = hub(LIMITS);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    publish(&hub, "topicone1", MAX_IN_FLIGHT_EVENTS - 1, 100).unwrap();
    let before = hub.counts();
    assert!(publish(&hub, "topicone1", 2, 100).is_err());
    assert_eq!(hub.counts(), before);
    publish(&hub, "topicone1", 1, 100).unwrap();
    assert!(publish(&hub, "topicone1", 1, 100).is_err());
    publish(&hub, "topicunheard", 1, 100).unwrap();
    let deliveries = take_all(&mut inbox);
    assert!(deliveries.is_sorted_by(|one, next| one.frame.id() < next.frame.id()));
    // With nothing in flight, any single publish is accepted.
    publish(&hub, "topicone1", MAX_IN_FLIGHT_EVENTS * 2, 100).unwrap();
    assert_eq!(inbox.len(), MAX_IN_FLIGHT_EVENTS * 2);
}

#[test]
fn room_for_agrees_with_publish() {
    let (hub, mut inbox) = hub(HubLimits { bytes: 1 << 30, topics: 1, ..LIMITS });
    let room = |topic: &str, events: usize| hub.room_for(&name(topic), events, 10 * events, 1_000);
    assert_eq!(room("topicone1", 10), Room::Now);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    assert_eq!(room("topictwo2", 10), Room::TooManyTopics);
    assert!(matches!(publish(&hub, "topictwo2", 10, 1_000), Err(Refused::TooManyTopics)));
    // With nothing in flight, any single publish is accepted. Its ids then run ahead of the clock.
    assert_eq!(room("topicone1", 200_000), Room::Now);
    publish(&hub, "topicone1", 200_000, 1_000).unwrap();
    assert_eq!(room("topicone1", 1), Room::Later, "too much is in flight");
    take_all(&mut inbox);
    for (events, expected) in [(1, Room::Now), (50_001, Room::Now), (50_002, Room::Later)] {
        assert_eq!(room("topicone1", events), expected, "{events}");
    }
    assert!(matches!(publish(&hub, "topicone1", 50_002, 1_000), Err(Refused::Backpressure(_))));
    assert!(publish(&hub, "topicone1", 50_001, 1_000).is_ok());
}

#[test]
fn a_worker_is_woken_once_until_the_wake_is_cleared() {
    let wakes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&wakes);
    let (outbox, inbox) = inbox(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let hub = Hub::new(LIMITS, vec![outbox], 10);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    (0..3).for_each(|_| drop(publish(&hub, "topicone1", 1, 100)));
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    inbox.clear_wake();
    publish(&hub, "topicone1", 1, 100).unwrap();
    assert_eq!((wakes.load(Ordering::Relaxed), hub.wakes().collect()), (2, vec![2]));
}

#[test]
fn publishes_are_refused_while_ids_would_run_too_far_ahead_of_the_clock() {
    let (hub, _inbox) = hub(HubLimits { bytes: 1 << 30, ..LIMITS });
    let last = publish(&hub, "topicone1", 100_000, 1_000).unwrap().id;
    assert_eq!(last, 1_000 + 99_999);
    assert!(matches!(publish(&hub, "topicone1", 160_000, 1_000), Err(Refused::Backpressure(_))));
    assert_eq!(publish(&hub, "topicone1", 160_000, 11_000).unwrap().id, last + 160_000);
    // A restart a moment later starts beyond all of them.
    assert!(last + 160_000 < start_id(11_001));
}

fn records(first: u64, count: usize) -> Vec<Arc<Frame>> {
    (first..).take(count).map(|id| crate::sse::record_frame(&crate::records::Record::shared("user", "1", id))).collect()
}

#[test]
fn a_worker_that_has_ended_delays_no_record() {
    let (hub, inbox) = hub(LIMITS);
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    drop(inbox);
    for round in 1..4 {
        let first = hub.reserve(MAX_IN_FLIGHT_EVENTS, round * 1_000_000).expect("nothing is in flight");
        hub.publish_records(records(first, MAX_IN_FLIGHT_EVENTS));
    }
}

#[test]
fn a_large_commit_waits_for_room_but_not_until_nothing_is_in_flight() {
    let (hub, mut inbox) = hub(LIMITS);
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    hub.publish_records(records(100, 1));
    let first = hub.reserve(MAX_IN_FLIGHT_EVENTS, 1_000).expect("room for one record is enough");
    hub.publish_records(records(first, MAX_IN_FLIGHT_EVENTS));
    assert_eq!(hub.reserve(1, 1_000_000), None, "too much is in flight");
    take_all(&mut inbox);
    assert!(hub.reserve(1, 1_000_000).is_some());
}
