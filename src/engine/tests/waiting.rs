use std::sync::mpsc::{Receiver, channel};

use crate::engine::waiting::{MAX_WAIT_MILLIS, Waiting};

fn wait(waiting: &Waiting, id: u64, now: u64) -> Receiver<bool> {
    let (sender, passed) = channel();
    waiting.wait(id, now, move |has_passed| sender.send(has_passed).unwrap());
    passed
}

#[test]
fn what_waits_is_released_when_the_tail_has_passed_its_id() {
    let waiting = Waiting::default();
    let [first, second, third] = [5, 7, 7].map(|id| wait(&waiting, id, 0));
    waiting.advance(6);
    assert_eq!((first.try_recv(), second.try_recv().is_err(), waiting.len()), (Ok(true), true, 2));
    assert_eq!(wait(&waiting, 6, 0).try_recv(), Ok(true), "the tail has passed it already");
    waiting.advance(7);
    assert_eq!((second.try_recv(), third.try_recv(), waiting.len()), (Ok(true), Ok(true), 0));
}

#[test]
fn what_waits_too_long_is_released_too() {
    let waiting = Waiting::default();
    let (old, new) = (wait(&waiting, 5, 100), wait(&waiting, 5, 101));
    waiting.expire(99 + MAX_WAIT_MILLIS);
    assert!(old.try_recv().is_err());
    waiting.expire(100 + MAX_WAIT_MILLIS);
    assert_eq!((old.try_recv(), new.try_recv().is_err()), (Ok(false), true));
}

#[test]
fn the_tail_does_not_go_back() {
    let waiting = Waiting::default();
    waiting.advance(9);
    waiting.advance(3);
    assert_eq!(wait(&waiting, 9, 0).try_recv(), Ok(true));
}
