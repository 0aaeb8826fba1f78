//! Lets a test take what is queued and answer it by hand, and set what is known of the engine.

use std::time::Duration;

use super::Engine;
use super::blob::{self, Blob, Part};
use super::handle::{EngineError, Sequenced};
use super::queue::{InsertDone, Requests};
use super::state::Side;
use crate::records::insert::InsertRequest;

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
    /// Makes the engine ready.
    pub(crate) fn note_ready(&self) {
        let now = self.clock.now().millis;
        self.shared.link_up(Side::Appender, now);
        self.shared.link_up(Side::Tail, now);
        self.shared.caught_up(1500);
    }

    /// Makes the engine unreachable.
    pub(crate) fn note_lost(&self, why: &str) {
        self.shared.link_down(Side::Tail, why, self.clock.now().millis);
    }

    /// Makes the broker know of an entry with this id since some milliseconds ago.
    pub(crate) fn note_ahead(&self, id: u64, millis: u64) {
        self.shared.note_last(id, self.clock.now().millis.saturating_sub(millis));
    }

    /// Makes the log unreadable.
    pub(crate) fn note_unreadable(&self, why: &str) {
        self.shared.unreadable(why);
    }

    /// Takes the publishes that wait.
    pub(crate) fn take_publishes(&self) -> Vec<Waiting> {
        let Requests::Publishes(publishes) = self.queue.take(Duration::ZERO).requests else { return Vec::new() };
        publishes.into_iter().map(|publish| Waiting { part: publish.part, done: publish.done }).collect()
    }

    /// Takes the inserts that wait: the request, and what is called with its outcome.
    pub(crate) fn take_inserts(&self) -> Vec<(InsertRequest, InsertDone)> {
        let Requests::Inserts(inserts) = self.queue.take(Duration::ZERO).requests else { return Vec::new() };
        inserts.into_iter().map(|insert| (insert.request, insert.done)).collect()
    }

    /// Takes the barriers that wait. Each is called with whether it is reached.
    pub(crate) fn take_barriers(&self) -> Vec<Box<dyn FnOnce(bool) + Send>> {
        self.queue.take(Duration::ZERO).barriers.into_iter().map(|barrier| barrier.done).collect()
    }
}
