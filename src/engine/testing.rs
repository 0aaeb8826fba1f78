//! Lets a test take what is queued and answer it by hand.

use std::time::Duration;

use super::Engine;
use super::blob::{self, Blob, Part};
use super::handle::{EngineError, Sequenced};

/// A publish that waits for its result.
pub(crate) struct Waiting {
    part: Part,
    done: Box<dyn FnOnce(Result<Sequenced, EngineError>) + Send>,
}

impl Waiting {
    /// Answers the publish.
    pub(crate) fn answer(self, result: Result<Sequenced, EngineError>) {
        (self.done)(result);
    }

    /// Returns each event: its topic, the publisher's id, and its lines.
    pub(crate) fn events(self) -> Vec<(String, Option<String>, String)> {
        let mut blob = Blob::default();
        blob.push(self.part);
        let text = |lines: &[u8]| String::from_utf8(lines.to_vec()).expect("lines are text");
        let events = blob::read(&blob.bytes).expect("it was just written").into_iter();
        events.map(|event| (event.topic.to_owned(), event.own_id.map(str::to_owned), text(event.lines))).collect()
    }
}

impl Engine {
    /// Takes the publishes that wait.
    pub(crate) fn take_publishes(&self) -> Vec<Waiting> {
        let publishes = self.queue.take(Duration::ZERO).publishes;
        publishes.into_iter().map(|publish| Waiting { part: publish.part, done: publish.done }).collect()
    }

    /// Answers the barriers that wait. Returns their number.
    pub(crate) fn answer_barriers(&self, is_reached: bool) -> usize {
        let barriers = self.queue.take(Duration::ZERO).barriers;
        let count = barriers.len();
        barriers.into_iter().for_each(|barrier| (barrier.done)(is_reached));
        count
    }
}
