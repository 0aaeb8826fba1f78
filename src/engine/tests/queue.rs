use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::engine::blob::Part;
use crate::engine::handle::{EngineError, Sequenced};
use crate::engine::queue::{Barrier, Insert, MAX_WAIT_MILLIS, Publish, Queue, Requests};
use crate::engine::state::Shared;
use crate::records::NewRecord;
use crate::records::insert::InsertOutcome;

fn queue() -> Queue {
    Queue::new(Arc::new(Shared::default()))
}

fn push(queue: &Queue, bytes: usize, queued: u64) -> Receiver<Result<Sequenced, EngineError>> {
    let (sender, result) = channel();
    let lines = vec![b'x'; bytes];
    let part = Part::new("sometopic", [(None, lines.as_slice())].into_iter());
    queue.publish(Publish { part, queued, done: Box::new(move |result| sender.send(result).unwrap()) });
    result
}

fn push_insert(queue: &Queue, queued: u64) -> Receiver<Result<InsertOutcome, EngineError>> {
    let (sender, result) = channel();
    let record = NewRecord { name: "user".into(), data: "1".into() };
    let done = Box::new(move |result| sender.send(result).unwrap());
    queue.insert(Insert { request: record.into(), queued, done });
    result
}

fn push_barrier(queue: &Queue, queued: u64) -> Receiver<bool> {
    let (sender, result) = channel();
    queue.push_barrier(Barrier { queued, done: Box::new(move |passed| sender.send(passed).unwrap()) });
    result
}

fn take(queue: &Queue) -> (usize, usize, bool) {
    let work = queue.take(Duration::ZERO);
    let count = match &work.requests {
        Requests::None => 0,
        Requests::Publishes(publishes) => publishes.len(),
        Requests::Inserts(inserts) => inserts.len(),
    };
    (count, work.barriers.len(), work.is_last)
}

#[test]
fn all_that_waits_is_taken_together() {
    let queue = queue();
    assert_eq!(take(&queue), (0, 0, false));
    let _results: Vec<_> = (0..3).map(|_| push(&queue, 10, 0)).collect();
    let _barrier = push_barrier(&queue, 0);
    assert_eq!((queue.len().0, take(&queue), queue.len()), (3, (3, 1, false), (0, 0)));
}

#[test]
fn a_batch_is_bounded_but_takes_any_single_publish() {
    let queue = queue();
    let _results: Vec<_> = [10, 5 << 20, 10, 10].into_iter().map(|bytes| push(&queue, bytes, 0)).collect();
    assert_eq!([take(&queue).0, take(&queue).0, take(&queue).0], [1, 1, 2]);
    let _results: Vec<_> = (0..5000).map(|_| push(&queue, 1, 0)).collect();
    assert_eq!([take(&queue).0, take(&queue).0], [4096, 904]);
}

#[test]
fn a_full_queue_refuses() {
    let queue = queue();
    let results: Vec<_> = (0..70).map(|_| push(&queue, 1 << 20, 0)).collect();
    let refused = results.iter().filter(|result| result.try_recv() == Ok(Err(EngineError::Busy))).count();
    assert!((1..70).contains(&refused) && queue.len().1 <= 64 << 20, "{refused} of 70 refused, {:?}", queue.len());
}

#[test]
fn what_waits_too_long_is_refused() {
    let queue = queue();
    let (old, old_barrier) = (push(&queue, 1, 100), push_barrier(&queue, 100));
    let (new, new_barrier) = (push(&queue, 1, 101), push_barrier(&queue, 101));
    queue.expire(99 + MAX_WAIT_MILLIS);
    assert!(old.try_recv().is_err() && old_barrier.try_recv().is_err());
    queue.expire(100 + MAX_WAIT_MILLIS);
    assert!(matches!(old.try_recv(), Ok(Err(EngineError::Unavailable(_)))));
    assert_eq!(old_barrier.try_recv(), Ok(false));
    assert!(new.try_recv().is_err() && new_barrier.try_recv().is_err());
    assert_eq!(take(&queue), (1, 1, false));
}

#[test]
fn a_closed_queue_refuses_and_hands_out_what_it_has() {
    let queue = queue();
    let _queued = push(&queue, 1, 0);
    queue.close();
    assert_eq!(push(&queue, 1, 0).try_recv(), Ok(Err(EngineError::Closed)));
    assert_eq!(push_barrier(&queue, 0).try_recv(), Ok(false));
    assert_eq!(take(&queue), (1, 0, true));
}

#[test]
fn publishes_and_inserts_are_taken_apart_and_the_older_kind_first() {
    let queue = queue();
    let _results: Vec<_> = [5, 5, 9].into_iter().map(|queued| push_insert(&queue, queued)).collect();
    let _published: Vec<_> = [4, 6].into_iter().map(|queued| push(&queue, 1, queued)).collect();
    let kind = |queue: &Queue| match queue.take(Duration::ZERO).requests {
        Requests::None => ("none", 0),
        Requests::Publishes(publishes) => ("publishes", publishes.len()),
        Requests::Inserts(inserts) => ("inserts", inserts.len()),
    };
    assert_eq!([kind(&queue), kind(&queue), kind(&queue)], [("publishes", 2), ("inserts", 3), ("none", 0)]);
    // If both have waited for as long, they take turns.
    for _ in 0..2 {
        let _waiting = (push_insert(&queue, 7), push(&queue, 1, 7));
        assert_eq!([kind(&queue).0, kind(&queue).0], ["publishes", "inserts"]);
    }
}

#[test]
fn inserts_that_wait_too_long_are_refused() {
    let queue = queue();
    let (old, new) = (push_insert(&queue, 100), push_insert(&queue, 101));
    queue.expire(100 + MAX_WAIT_MILLIS);
    assert!(matches!(old.try_recv(), Ok(Err(EngineError::Unavailable(_)))) && new.try_recv().is_err());
    queue.close();
    assert_eq!(push_insert(&queue, 101).try_recv(), Ok(Err(EngineError::Closed)));
    assert_eq!(take(&queue), (1, 0, true));
}
