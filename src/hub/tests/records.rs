//! Records whose ids a log has assigned.

use super::log::following;
use super::*;
use crate::hub::apply::APPLY_SLICE;
use crate::hub::records::latest::cost;
use crate::hub::records::slice::MAX_RECORDS;
use crate::records::Record;
use crate::sse::{Framing, record_frame};

fn record(name: &str, id: u64) -> Arc<Record> {
    Record::shared(name, "1", id)
}

/// Applies a record of each id, all of one name.
fn apply(hub: &Hub, ids: impl IntoIterator<Item = u64>) {
    let mut frames = ids.into_iter().map(|id| frame("user", id)).collect();
    hub.apply_records(&mut frames);
    assert!(frames.is_empty(), "there is room");
}

fn frame(name: &str, id: u64) -> Arc<Frame> {
    record_frame(&record(name, id))
}

/// Returns the ids of the newest records.
fn newest(hub: &Hub) -> Vec<u64> {
    hub.lock().records.latest.after(0).map(|record| record.id).collect()
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
    let mut frames: VecDeque<_> = (1..=total).map(|id| frame("user", id)).collect();
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
    assert_eq!(hub.counts().record_bytes, cost(&record("user", 5)) + cost(&record("other", 7)));
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
fn a_reset_counts_only_after_the_first_subscriber() {
    let (hub, mut inbox) = following(LIMITS);
    hub.reset_records(vec![record("user", 5)]);
    assert_eq!(hub.record_resets(), 0, "nobody was told anything else");
    let joined = hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let JoinedFeeds::Records { resets: 0, .. } = &joined.feeds else { panic!("{joined:?}") };
    apply(&hub, [6, 9]);
    hub.reset_records(vec![record("user", 7)]);
    hub.abandon(0, &joined);
    hub.reset_records(vec![record("user", 3)]);
    apply(&hub, [4]);
    let RecordReset { resets, waiting } = hub.record_reset(0);
    assert_eq!((resets, waiting, take_all(&mut inbox).len()), (2, 2, 2), "the last one has no listener");
    let again = hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let JoinedFeeds::Records { resets: 2, .. } = again.feeds else { panic!("{again:?}") };
}

fn ids(slice: &RecordSlice) -> Vec<u64> {
    slice.changes.iter().map(RecordChange::id).collect()
}

#[test]
fn slices_are_bounded_and_say_whether_they_are_complete() {
    let (hub, _inbox) = hub(LIMITS);
    let count = 3 * MAX_RECORDS as u64;
    hub.reset_records((1..=count).map(|id| record(&format!("name {id}"), id)).collect());
    let all: Arc<[Arc<str>]> = Arc::default();
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let slice = hub.read_records(&all, after, after);
        assert_eq!((slice.changes.len(), slice.oldest), (MAX_RECORDS, Some(1)));
        read.extend(ids(&slice));
        after = read[read.len() - 1];
        if slice.is_complete {
            break;
        }
    }
    assert!(read.into_iter().eq(1..=count));
    let rest = hub.read_records(&all, count - 3, 0);
    assert_eq!((rest.changes.len(), rest.is_complete), (3, true));
    let end = hub.read_records(&all, u64::MAX, 0);
    assert!(end.changes.is_empty() && end.is_complete);
    let names = ["name 7", "name 3", "none", "name 9"].map(Arc::from);
    let some = hub.read_records(&names, 3, 0);
    assert_eq!(ids(&some), [7, 9]);
    assert!(some.is_complete);
    let large = (1..=4).map(|id| Record::shared(format!("{id}"), "x".repeat(100 << 10), id)).collect();
    hub.reset_records(large);
    let slice = hub.read_records(&all, 1, 0);
    assert_eq!((slice.changes.len(), slice.is_complete), (2, false));
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
    local.publish_records(vec![frame("user", 5), frame("user", 9)]);
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

#[test]
fn positions_before_an_erasure_are_in_doubt_and_its_own_is_known() {
    let (hub, mut inbox) = hub(HubLimits { subscribers: 9, ..LIMITS });
    hub.publish_records(vec![frame("a", 5), frame("b", 7)]);
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    let found = hub.find_record("7");
    hub.publish_erasure("b", 9);
    let delivered = take_all(&mut inbox);
    assert_eq!(delivered[0].frame.wire(Framing::Plain), b"event: erased\ndata: {\"event\":\"b\"}\nid: 9\n\n");
    assert_eq!(
        (newest(&hub), hub.counts().record_names, hub.counts().record_bytes),
        (vec![5], 1, cost(&record("a", 5)))
    );
    let (after, unknown) = (RecordStart::After, RecordStart::Unknown);
    let starts = ["0", "5", "7", "8", "9", "10"].map(|position| hub.find_record(position));
    assert_eq!(starts, [after(0), unknown, unknown, unknown, after(9), unknown]);
    let gap = |start| hub.join_records(0, Arc::default(), start, 0).unwrap().gap.map(|gap| gap.oldest);
    assert_eq!(gap(found), Some(Some(5)), "it was found before the erasure");
    assert_eq!([gap(after(9)), gap(RecordStart::Newest), gap(after(0))], [None; 3]);
    hub.publish_records(vec![frame("b", 11)]);
    assert_eq!((newest(&hub), hub.find_record("11")), (vec![5, 11], after(11)));
    hub.set_erased_through(11);
    hub.set_erased_through(4);
    assert_eq!(["9", "11"].map(|position| hub.find_record(position)), [unknown, after(11)]);
}

#[test]
fn an_erasure_that_is_not_newer_than_all_before_removes_nothing() {
    let (hub, mut inbox) = following(LIMITS);
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    apply(&hub, [5, 9]);
    hub.publish_erasure("user", 9);
    hub.publish_erasure("user", 7);
    assert_eq!((take_all(&mut inbox).len(), newest(&hub)), (2, vec![9]));
    hub.publish_erasure("other", 10);
    hub.publish_erasure("user", 12);
    assert_eq!((take_all(&mut inbox).len(), newest(&hub)), (2, vec![]));
    apply(&hub, [11, 12]);
    assert!(newest(&hub).is_empty(), "records up to the erasure are not applied again");
    apply(&hub, [13]);
    assert_eq!(newest(&hub), [13]);
}

#[test]
fn slices_have_the_erasures_that_were_not_told_in_the_order_of_ids() {
    let (hub, _inbox) = hub(LIMITS);
    hub.publish_records(vec![frame("a", 5), frame("b", 7)]);
    hub.publish_erasure("b", 9);
    hub.publish_records(vec![frame("c", 11)]);
    hub.publish_erasure("x", 13);
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<_>>();
    let read = |wanted: &[&str], after, told| ids(&hub.read_records(&names(wanted), after, told));
    assert_eq!([read(&[], 0, 0), read(&[], 5, 9)], [vec![5, 9, 11, 13], vec![11, 13]]);
    assert_eq!([read(&["c", "b"], 0, 0), read(&["a"], 0, 0), read(&["x"], 0, 13)], [vec![9, 11], vec![5], vec![]]);
    let slice = hub.read_records(&[], 0, 0);
    assert_eq!((slice.is_complete, slice.erased_through, slice.forgotten_through), (true, 13, 0));
    hub.set_erased_through(9);
    let slice = hub.read_records(&[], 0, 0);
    assert_eq!((ids(&slice), slice.erased_through, slice.forgotten_through), (vec![5, 11, 13], 13, 9));
    hub.reset_records(vec![record("a", 5)]);
    let slice = hub.read_records(&[], 0, 0);
    assert_eq!((ids(&slice), slice.erased_through, slice.forgotten_through), (vec![5], 13, 13));
}

#[test]
fn slices_with_many_erasures_are_bounded() {
    let (hub, _inbox) = hub(LIMITS);
    (1..=300).for_each(|id| hub.publish_erasure("a", id));
    let slice = hub.read_records(&[], 0, 0);
    assert_eq!((ids(&slice), slice.is_complete), ((1..=MAX_RECORDS as u64).collect(), false));
    let slice = hub.read_records(&[], 256, 256);
    assert_eq!((ids(&slice).len(), slice.is_complete), (44, true));
}

#[test]
fn ids_of_versions_that_may_be_removed_are_looked_up() {
    let (after, stored) = (RecordStart::After, RecordStart::AfterStored);
    let (hub, _inbox) = hub(LIMITS);
    let find = |hub: &Hub, ids: [&str; 3]| ids.map(|id| hub.find_record(id));
    hub.publish_records(vec![frame("a", 5), frame("a", 7), frame("b", 9)]);
    assert_eq!(find(&hub, ["5", "7", "9"]), [after(5), after(7), after(9)]);
    hub.versions_were_removed();
    hub.publish_records(vec![frame("b", 11)]);
    assert_eq!(
        find(&hub, ["5", "7", "9"]),
        [stored(5), after(7), stored(9)],
        "only the newest of a name certainly exists"
    );
    hub.publish_records(vec![frame("b", 13)]);
    assert_eq!(hub.find_record("11"), after(11), "published since");
    hub.versions_are_limited();
    hub.publish_records(vec![frame("b", 15), frame("b", 17)]);
    assert_eq!(find(&hub, ["11", "15", "17"]), [stored(11), stored(15), after(17)]);
}
