//! How records of the log reach the hub.

use std::collections::VecDeque;

use super::*;
use crate::broker::engine::HubFollow;
use crate::engine::Follow as _;
use crate::hub::{Hub, Inbox, RecordStart, inbox};
use crate::records::Record;

/// Creates a hub with a subscriber to all records.
fn follow() -> (HubFollow, Arc<Hub>, Inbox) {
    let config = Config::new().no_auth(true).data(":memory:").port(0);
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let hub = Arc::new(Hub::following(hub_limits(&config.settle(1000).unwrap()), vec![outbox], 1));
    hub.join_records(0, Arc::default(), RecordStart::Newest, 0).unwrap();
    (HubFollow::new(Arc::clone(&hub)), hub, inbox)
}

fn record(id: u64, name: &str, data: &str) -> Record {
    Record { id, name: Arc::from(name), data: data.into() }
}

/// Receives all deliveries and returns their ids.
fn take(inbox: &mut Inbox) -> Vec<u64> {
    let deliveries: Vec<_> = inbox.waiting().collect();
    deliveries.iter().for_each(|delivery| inbox.mark_taken(delivery));
    inbox.ack();
    deliveries.iter().map(|delivery| delivery.frame.id()).collect()
}

#[test]
fn records_that_would_break_a_stream_are_skipped() {
    let (mut follow, hub, mut inbox) = follow();
    let records = [
        record(1, "a\nb", "1"),
        record(2, "a", "1"),
        record(3, "a", "1\n2"),
        record(4, "a", "1\r2"),
        record(5, "", "1"),
        record(6, "b", "1"),
        record(1 << 53, "c", "1"),
    ];
    let mut queue = VecDeque::from(records.clone());
    follow.apply_records(&mut queue);
    assert_eq!((queue.len(), take(&mut inbox)), (0, vec![2, 6]));
    follow.reset_records(records.into_iter().rev().collect());
    assert_eq!((hub.counts().record_names, hub.record_resets(), follow.subscribers()), (2, 1, 1));
}

#[test]
fn records_without_room_stay_in_the_queue_which_may_change() {
    let (mut follow, _hub, mut inbox) = follow();
    let mut queue: VecDeque<_> = (1..=9_000).map(|id| record(id, "a", "1")).collect();
    let mut received = Vec::new();
    while received.len() < 8_000 {
        follow.apply_records(&mut queue);
        received.extend(take(&mut inbox));
        assert_eq!(queue.front().map(|record| record.id), Some(received.len() as u64 + 1));
    }
    assert!(received.into_iter().eq(1..=9_000 - queue.len() as u64));
    // The log is read anew, from somewhere else.
    queue = [9_500, 9_501].map(|id| record(id, "a", "1")).into();
    follow.apply_records(&mut queue);
    assert_eq!((queue.len(), take(&mut inbox)), (0, vec![9_500, 9_501]));
}
