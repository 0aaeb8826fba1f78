//! Records whose ids a log has assigned.

use super::log::following;
use super::*;
use crate::hub::apply::APPLY_SLICE;
use crate::sse::record_frame;

fn record(name: &str, id: u64) -> Arc<Frame> {
    record_frame(&Arc::from(name), "1", id)
}

/// Applies a record of each id, all of one name.
fn apply(hub: &Hub, ids: impl IntoIterator<Item = u64>) {
    let mut frames = ids.into_iter().map(|id| record("user", id)).collect();
    hub.apply_records(&mut frames);
    assert!(frames.is_empty(), "there is room");
}

fn ids(frames: &[Arc<Frame>]) -> Vec<u64> {
    frames.iter().map(|frame| frame.id()).collect()
}

/// Returns the ids of the newest records.
fn newest(hub: &Hub) -> Vec<u64> {
    hub.lock().records.latest.frames().map(|frame| frame.id()).collect()
}

#[test]
fn applied_records_are_delivered_in_order_and_wake_a_worker_once_per_slice() {
    let wakes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&wakes);
    let (outbox, mut inbox) = inbox(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let hub = Hub::following(LIMITS, vec![outbox], 10);
    apply(&hub, [1, 2]);
    assert!(inbox.is_empty() && wakes.load(Ordering::Relaxed) == 0, "nobody listens");
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    apply(&hub, 3..3 + APPLY_SLICE as u64);
    let deliveries = take_all(&mut inbox);
    assert!(deliveries.iter().map(|delivery| delivery.frame.id()).eq(3..3 + APPLY_SLICE as u64));
    assert_eq!((wakes.load(Ordering::Relaxed), newest(&hub)), (1, vec![2 + APPLY_SLICE as u64]));
    apply(&hub, [5, 2 + APPLY_SLICE as u64, 1_000]);
    assert_eq!(take_all(&mut inbox).len(), 1, "one that is not newer than all before is dropped");
    assert_eq!((newest(&hub), hub.find_record("5")), (vec![1_000], RecordStart::After(5)));
}

#[test]
fn applying_records_stops_while_a_worker_with_a_replica_has_too_much_in_flight() {
    let (hub, mut inbox) = following(HubLimits { events_per_topic: 100_000, bytes: 1 << 30, ..LIMITS });
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let total = 2 * MAX_IN_FLIGHT_EVENTS as u64 + 7;
    let mut frames: VecDeque<_> = (1..=total).map(|id| record("user", id)).collect();
    let mut received = Vec::new();
    for _ in 0..3 {
        hub.apply_records(&mut frames);
        assert!(inbox.len() <= MAX_IN_FLIGHT_EVENTS);
        received.extend(take_all(&mut inbox).iter().map(|delivery| delivery.frame.id()));
        assert_eq!(received.len() + frames.len(), total as usize);
    }
    assert!(received.into_iter().eq(1..=total));
}

#[test]
fn a_reset_replaces_the_newest_records_and_forgets_the_others() {
    let (hub, _inbox) = following(LIMITS);
    apply(&hub, [10, 20, 30]);
    hub.reset_records(vec![record("user", 5), record("other", 7)]);
    assert_eq!((newest(&hub), hub.counts().record_names), (vec![5, 7], 2));
    assert_eq!(hub.counts().record_bytes, record("user", 5).cost() + record("other", 7).cost());
    for forgotten in [10, 20, 30] {
        assert_eq!(hub.find_record(&forgotten.to_string()), RecordStart::AfterStored(forgotten));
    }
    apply(&hub, [8]);
    assert_eq!((newest(&hub), hub.find_record("8")), (vec![7, 8], RecordStart::After(8)));
    hub.reset_records(Vec::new());
    assert_eq!((newest(&hub), hub.counts().record_bytes), (vec![], 0));
    apply(&hub, [1]);
    assert_eq!(newest(&hub), [1]);
}

#[test]
fn a_reset_counts_only_if_a_worker_has_a_replica() {
    let (hub, mut inbox) = following(LIMITS);
    hub.reset_records(vec![record("user", 5)]);
    assert_eq!(hub.record_resets(), 0, "nobody was told anything else");
    let joined = hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let JoinedFeeds::Records { backlog, resets, .. } = &joined.feeds else { panic!("records were joined") };
    assert_eq!((backlog.as_ref().map(|frames| ids(frames)), *resets), (Some(vec![5]), 0));
    apply(&hub, [6, 9]);
    hub.reset_records(vec![record("user", 7)]);
    hub.reset_records(vec![record("user", 3)]);
    apply(&hub, [4]);
    let CurrentRecords { frames, resets, waiting } = hub.current_records(0);
    assert_eq!((ids(&frames), resets, waiting, take_all(&mut inbox).len()), (vec![4], 2, 3, 3));
    let again = hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let JoinedFeeds::Records { backlog: None, resets: 2, .. } = again.feeds else { panic!("{again:?}") };
}

#[test]
fn a_position_that_is_not_in_memory_is_looked_up_in_the_log_even_if_it_is_in_the_future() {
    let (hub, _inbox) = following(LIMITS);
    assert_eq!(hub.find_record("7"), RecordStart::AfterStored(7));
    apply(&hub, [5, 9]);
    let starts = ["0", "5", "7", "9", "10", "18446744073709551615"].map(|position| hub.find_record(position));
    let (after, stored) = (RecordStart::After, RecordStart::AfterStored);
    assert_eq!(starts, [after(0), after(5), stored(7), after(9), stored(10), stored(u64::MAX)]);
    assert_eq!(["", "x", "05", "18446744073709551616"].map(|text| hub.find_record(text)), [RecordStart::Unknown; 4]);
    let future = hub.join_records(0, Arc::default(), stored(10).resolve(true), 0).unwrap();
    assert_eq!((future.cursor, future.newest, future.gap), (10, 9, None));
    let (local, _inbox) = self::hub(LIMITS);
    local.publish_records(vec![record("user", 5), record("user", 9)]);
    let starts = ["5", "7", "9", "10"].map(|position| local.find_record(position));
    assert_eq!(starts, [after(5), stored(7), after(9), RecordStart::Unknown]);
}

#[test]
fn a_position_that_was_found_before_all_records_were_replaced_is_in_doubt() {
    let (hub, _inbox) = hub(HubLimits { subscribers: 4, ..LIMITS });
    hub.reset_records(vec![record("a", 5), record("b", 7)]);
    let replacements = hub.record_replacements();
    let starts = [hub.find_record("7"), hub.find_record("0"), RecordStart::Newest];
    hub.reset_records(vec![record("a", 5)]);
    let gaps = starts.map(|start| hub.join_records(0, Arc::default(), start, replacements).unwrap().gap.is_some());
    assert_eq!(gaps, [true, false, false]);
    let start = hub.find_record("5");
    assert!(hub.join_records(0, Arc::default(), start, hub.record_replacements()).unwrap().gap.is_none());
}
