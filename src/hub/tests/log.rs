//! Events whose ids a log has assigned.

use super::local::{Next, Reader};
use super::*;
use crate::hub::apply::{APPLY_SLICE, LoggedFrame};
use crate::ids::{MIN_ID, OutOfOrder};

/// The oldest id of the log, in 2026.
pub(super) const OLDEST: u64 = 1_770_000_000_000_000;
pub(super) const TOPICS: [&str; 3] = ["topicone1", "topictwo2", "topicthree3"];

pub(super) fn following(limits: HubLimits) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let hub = Hub::following(limits, vec![outbox], 10);
    hub.begin(OLDEST);
    (hub, inbox)
}

pub(super) fn event(topic: &str, id: u64, publisher_id: Option<&str>) -> LoggedFrame {
    let id_line = publisher_id.map_or(String::new(), |id| format!("id: {id}\n"));
    let frame = frames_from_text(&format!("{id_line}data: x")).unwrap().remove(0);
    (name(topic), frame.assign_id(OLDEST + id))
}

pub(super) fn apply(hub: &Hub, events: impl IntoIterator<Item = LoggedFrame>) {
    let mut events: VecDeque<_> = events.into_iter().collect();
    hub.apply(&mut events).unwrap();
    assert!(events.is_empty(), "there is room");
}

/// Returns the cursor after a position, unless there is a gap. Both are relative to [`OLDEST`].
fn cursor(hub: &Hub, topics: &[&str], position: &str) -> Option<u64> {
    let names: Vec<_> = topics.iter().map(|topic| name(topic)).collect();
    let joined = hub.join(0, &names, Position::After(position)).unwrap();
    hub.abandon(0, &joined);
    joined.gap.is_none().then(|| joined.cursor - OLDEST)
}

fn id(relative: u64) -> String {
    (OLDEST + relative).to_string()
}

#[test]
fn events_keep_the_ids_of_the_log_and_workers_are_woken_once_per_slice() {
    let wakes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&wakes);
    let (outbox, mut inbox) = inbox(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let hub = Hub::following(LIMITS, vec![outbox], 10);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let mut reader = Reader::new(&hub, &["topictwo2"], Position::Live);
    let numbers = 1..=APPLY_SLICE as u64;
    apply(&hub, numbers.clone().map(|id| event(if id % 2 == 0 { "topictwo2" } else { "topicone1" }, id, None)));
    let ids: Vec<_> = take_all(&mut inbox).iter().map(|delivery| delivery.frame.id() - OLDEST).collect();
    assert_eq!(ids, numbers.clone().step_by(2).collect::<Vec<_>>());
    let received: Vec<_> = numbers.skip(1).step_by(2).map(|id| Next::Id(OLDEST + id)).collect();
    assert_eq!((reader.rest(), wakes.load(Ordering::Relaxed)), (received, 1));
    assert_eq!((hub.counts().published, hub.subscribers_of(&name("topicone1"))), (APPLY_SLICE as u64, 1));
    assert_eq!(hub.newest(), 10, "ids of records are independent of the log");
}

#[test]
fn an_id_that_does_not_ascend_is_refused_and_stays_in_front() {
    let (hub, mut inbox) = following(LIMITS);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let mut events: VecDeque<_> = [3, 5, 5, 7].map(|id| event("topicone1", id, None)).into();
    let refused = OutOfOrder { id: OLDEST + 5, newest: OLDEST + 5 };
    assert_eq!((hub.apply(&mut events), events.len()), (Err(refused), 2));
    assert_eq!((hub.apply(&mut events), events.len()), (Err(refused), 2));
    events.pop_front();
    assert_eq!((hub.apply(&mut events), events.len(), take_all(&mut inbox).len()), (Ok(()), 0, 3));
    let (local, _inbox) = self::hub(LIMITS);
    assert!(local.apply(&mut [event("topicone1", 1, None)].into()).is_err(), "this process orders its events itself");
}

#[test]
fn applying_stops_while_a_worker_has_too_much_in_flight() {
    let (hub, mut inbox) = following(HubLimits { events_per_topic: 100_000, bytes: 1 << 30, ..LIMITS });
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let total = 2 * MAX_IN_FLIGHT_EVENTS as u64 + 7;
    let mut events: VecDeque<_> = (1..=total).map(|id| event("topicone1", id, None)).collect();
    let mut received = Vec::new();
    for _ in 0..3 {
        hub.apply(&mut events).unwrap();
        assert!(inbox.len() <= MAX_IN_FLIGHT_EVENTS);
        received.extend(take_all(&mut inbox).iter().map(|delivery| delivery.frame.id() - OLDEST));
        assert_eq!(received.len() + events.len(), total as usize);
    }
    assert_eq!(received, (1..=total).collect::<Vec<_>>());
}

#[test]
fn an_event_of_one_topic_too_many_is_not_skipped_silently() {
    let (hub, _inbox) = following(HubLimits { topics: 1, ..LIMITS });
    apply(&hub, [event("topicone1", 1, None), event("topictwo2", 2, Some("own")), event("topictwo2", 3, Some("7"))]);
    assert_eq!((hub.counts().topics, hub.counts().history_events), (1, 1));
    assert!(hub.can_publish(&name("topicone1")) && !hub.can_publish(&name("topictwo2")));
    while hub.expire(OLDEST + 1_000_000) {}
    assert!(hub.can_publish(&name("topictwo2")));
    assert_eq!(cursor(&hub, &["topictwo2"], &id(2)), None, "an event after it was not retained");
    assert_eq!(cursor(&hub, &["topictwo2"], &id(3)), Some(3));
    apply(&hub, [event("topictwo2", 4, Some("own"))]);
    assert_eq!(cursor(&hub, &["topictwo2"], "own"), None, "two events had it");
    assert_eq!(cursor(&hub, &["topictwo2"], "7"), None);
}

#[test]
fn positions_before_the_log_are_a_gap_and_passed_ids_are_known() {
    let (hub, _inbox) = following(LIMITS);
    hub.pass(OLDEST);
    assert_eq!(cursor(&hub, &["topicone1"], &id(0)), Some(0));
    apply(&hub, [event("topicone1", 5, Some(&(OLDEST - 3).to_string()))]);
    assert_eq!(cursor(&hub, &["topicone1"], &(OLDEST - 1).to_string()), None);
    assert_eq!(cursor(&hub, &["topicone1"], &(OLDEST - 3).to_string()), None, "it may be an earlier event's id");
    assert_eq!(cursor(&hub, &["topicone1"], &MIN_ID.to_string()), None);
    hub.pass(OLDEST + 9);
    hub.pass(OLDEST + 7);
    let known = [4, 5, 6, 7, 9, 10].map(|relative| cursor(&hub, &["topicone1"], &id(relative)));
    assert_eq!(known, [None, Some(5), None, None, Some(9), None]);
    let joined = hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    assert_eq!((joined.cursor, joined.newest), (OLDEST + 9, OLDEST + 9));
}

#[test]
fn an_id_that_the_log_has_again_means_the_earliest_retained_event() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 2, ..LIMITS });
    apply(&hub, [(1, "a"), (2, "a")].map(|(id, own)| event("topicone1", id, Some(own))));
    assert_eq!(cursor(&hub, &["topicone1"], "a"), Some(1));
    apply(&hub, [event("topicone1", 3, Some("b"))]);
    assert_eq!(cursor(&hub, &["topicone1"], "a"), None, "the first was evicted");
    apply(&hub, [event("topicone1", 4, Some("a")), event("topicone1", 5, Some("c"))]);
    let retained = || hub.lock().feeds.get(0).meta.publisher_ids.get("a");
    assert_eq!(retained(), Some(OLDEST + 4), "the eviction of the second leaves the third");
    apply(&hub, [event("topicone1", 6, None)]);
    assert_eq!((retained(), cursor(&hub, &["topicone1"], "a")), (None, None));
}

#[test]
fn a_loss_leaves_nothing_and_makes_all_positions_before_it_a_gap() {
    let (hub, _inbox) = following(LIMITS);
    let joined = hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    apply(&hub, [event("topicone1", 1, Some("own")), event("topictwo2", 2, None), event("topictwo2", 3, Some("0"))]);
    hub.lose_through(OLDEST + 9);
    let counts = hub.counts();
    assert_eq!((counts.topics, counts.history_events, counts.history_bytes), (1, 0, 0));
    for topic in TOPICS {
        for position in [&id(1), &id(2), &id(3), &id(4), &id(8), &id(10), "own", "nonsense"] {
            assert_eq!(cursor(&hub, &[topic], position), None, "{topic} after {position}");
        }
        assert_eq!(cursor(&hub, &[topic], &id(9)), Some(9), "the loss itself is a position");
    }
    assert_eq!(cursor(&hub, &["topicone1"], "0"), Some(9));
    assert_eq!(cursor(&hub, &["topictwo2"], "0"), None, "an event with this id was lost");
    apply(&hub, [event("topicone1", 10, Some("own"))]);
    assert_eq!(cursor(&hub, &["topicone1"], "own"), None, "a lost event had it, too");
    assert_eq!(cursor(&hub, &["topicone1"], "0"), Some(9));
    let again = hub.join(0, &[name("topicone1"), name("topictwo2")], Position::After("0")).unwrap();
    let JoinedFeeds::Topics(topics) = &again.feeds else { panic!("topics were joined") };
    assert!(topics.iter().all(|topic| topic.evicted_through == OLDEST + 9));
    hub.abandon(0, &joined);
}

#[test]
fn a_loss_of_less_than_what_was_applied_loses_all_of_it() {
    let (hub, _inbox) = following(LIMITS);
    apply(&hub, [event("topicone1", 1, None), event("topicone1", 5, None)]);
    hub.lose_through(OLDEST + 3);
    assert_eq!((hub.lost_through(), hub.counts().history_events), (OLDEST + 5, 0));
    assert!(hub.apply(&mut [event("topicone1", 5, None)].into()).is_err());
    assert_eq!([3, 5].map(|relative| cursor(&hub, &["topicone1"], &id(relative))), [None, Some(5)]);
}

#[test]
fn many_lost_events_are_evicted_in_slices() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 10_000, bytes: 1 << 30, ..LIMITS });
    apply(&hub, (1..=9_000).map(|id| event(&format!("topic{:06}", id % 3_000), id, None)));
    hub.lose_through(OLDEST + 9_000);
    let counts = hub.counts();
    assert_eq!((counts.topics, counts.history_events, counts.history_bytes), (0, 0, 0));
}

#[test]
fn lost_events_are_hidden_until_they_are_evicted() {
    let (hub, _inbox) = following(LIMITS);
    let mut local = Reader::new(&hub, &["topicone1"], Position::Live);
    apply(&hub, [event("topicone1", 1, Some("0")), event("topicone1", 2, Some("own")), event("topictwo2", 3, None)]);
    let through = hub.note_loss(OLDEST + 9).unwrap();
    assert_eq!(hub.counts().history_events, 3);
    for position in [&id(1), &id(2), &id(3), "0", "own"] {
        assert_eq!(cursor(&hub, &["topicone1"], position), None, "{position}");
    }
    assert_eq!(["0", &id(9)].map(|position| cursor(&hub, &["topictwo2"], position)), [Some(9); 2]);
    let joined = hub.join(0, &[name("topicone1")], Position::After("own")).unwrap();
    let JoinedFeeds::Topics(topics) = &joined.feeds else { panic!("a topic was joined") };
    let backlog = topics[0].backlog.as_ref().map(Vec::len);
    assert_eq!((joined.gap, backlog, topics[0].evicted_through), (Some(Gap { oldest: None }), Some(0), OLDEST + 9));
    assert_eq!(local.rest(), [Next::Id(OLDEST + 1), Next::Id(OLDEST + 2), Next::Gap(None)]);
    while hub.evict_lost(through) {}
    assert_eq!((hub.counts().history_events, hub.counts().topics), (0, 1));
    assert_eq!(local.rest(), []);
}

#[test]
fn every_local_subscriber_gets_one_gap_after_a_loss() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 10_000, ..LIMITS });
    let mut live = Reader::new(&hub, &["topicone1"], Position::Live);
    let mut quiet = Reader::new(&hub, &["topicquiet"], Position::Live);
    let mut both = Reader::new(&hub, &["topicone1", "topicquiet"], Position::Live);
    let mut behind = Reader::new(&hub, &["topictwo2", "topicone1"], Position::Live);
    apply(&hub, (1..=600).map(|id| event(["topicone1", "topictwo2"][id as usize % 2], id, None)));
    let first: Vec<_> = (1..=300).map(|id| Next::Id(OLDEST + 2 * id)).collect();
    assert_eq!((live.rest(), both.rest().len()), (first, 300));
    hub.lose_through(OLDEST + 1_000);
    assert_eq!(live.rest(), [Next::Gap(None)]);
    apply(&hub, [event("topicone1", 1_001, None), event("topicquiet", 1_002, None)]);
    hub.lose_through(OLDEST + 1_000 - 1 + 1_000);
    apply(&hub, [event("topicone1", 3_000, None)]);
    assert_eq!(live.rest(), [Next::Id(OLDEST + 1_001), Next::Gap(Some(OLDEST + 3_000)), Next::Id(OLDEST + 3_000)]);
    assert_eq!(quiet.rest(), [Next::Gap(None)]);
    let after = |received: Vec<Next>| received.into_iter().skip_while(|next| matches!(next, Next::Id(_)));
    let expected = [Next::Gap(Some(OLDEST + 3_000)), Next::Id(OLDEST + 3_000)];
    for reader in [&mut both, &mut behind] {
        assert_eq!(after(reader.rest()).collect::<Vec<_>>(), expected);
    }
    let mut late = Reader::new(&hub, &["topicone1"], Position::After("0"));
    assert_eq!(late.rest(), [Next::Id(OLDEST + 3_000)]);
}

#[test]
fn a_position_waits_for_a_barrier_only_if_later_events_may_explain_it() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 2, ..LIMITS });
    let needs = |topics: &[&str], position: &str| {
        let names: Vec<_> = topics.iter().map(|topic| name(topic)).collect();
        hub.needs_barrier(&names, Position::After(position))
    };
    apply(&hub, [(1, "a"), (2, "40"), (3, "60"), (4, "b")].map(|(id, own)| event("topicone1", id, Some(own))));
    assert!(!hub.needs_barrier(&[name("topicone1")], Position::Live));
    let decided = [&id(1), &id(4), &(OLDEST - 1).to_string(), "0", "a", "b", "60", "40", &"x".repeat(5_000)];
    assert_eq!(decided.map(|position| needs(&["topicone1"], position)), [false; 9]);
    let undecided = [&id(5), &id(9), "c", "57", "41", "18446744073709551615", "99999999999999999999"];
    assert_eq!(undecided.map(|position| needs(&["topicone1"], position)), [true; 7]);
    assert!(needs(&["topictwo2"], "a") && needs(&["topictwo2"], "b") && !needs(&["topictwo2"], &id(1)));
    assert!(!needs(&["topictwo2", "topicone1"], "b") && !needs(&["topictwo2", "topicone1"], "a"));
    while hub.expire(OLDEST + 1_000_000) {}
    assert_eq!(hub.counts().topics, 0);
    assert!(!needs(&["topicone1"], "b") && !needs(&["topicone1"], "60") && needs(&["topicone1"], "c"));
    hub.lose_through(OLDEST + 20);
    assert!(!needs(&["topicone1"], &id(15)) && !needs(&["topicone1"], &id(20)) && needs(&["topicone1"], &id(21)));
    let (local, _inbox) = self::hub(LIMITS);
    assert!(!local.needs_barrier(&[name("topicone1")], Position::After("c")));
}
