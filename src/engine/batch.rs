//! Requests that become one entry of the log: publishes, or inserts.

use std::sync::Arc;

use super::blob::Blob;
use super::handle::{EngineError, Sequenced};
use super::log::{self, Append, Appended, Hello, Inserted, KeyLimits, LastBatch, Log, LogError, stored};
use super::queue::{self, Insert, InsertDone, Publish, PublishDone};
use super::waiting::Waiting;
use crate::records::insert::{InsertOutcome, InsertRequest};

/// After this time, in milliseconds, an append without an answer is reported as unknown.
const UNKNOWN_MILLIS: u64 = 30_000;

/// Requests that become one entry.
pub(super) struct Batch {
    number: u64,
    content: Content,
    /// When its oldest request was queued, in milliseconds.
    queued: u64,
    outcome: Outcome,
    /// The token of its entry, once it was sent.
    token: String,
}

/// What an entry is made of, and who waits for it.
enum Content {
    Events(Blob, Vec<Waiter>),
    /// Each insert has one record.
    Records(Vec<InsertRequest>, Vec<InsertDone>),
}

/// A publish in a batch: the range of its events.
struct Waiter {
    first: usize,
    end: usize,
    done: PublishDone,
}

/// What of a batch is new.
pub(super) struct Written {
    /// The id of the entry and of its first event or record.
    pub first: u64,
    /// The last id.
    pub last: u64,
    /// The number of new events or records.
    pub count: u64,
}

/// What is known of a batch that is not appended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is not in the log.
    NotAppended,
    /// It may be in the log.
    Unknown,
    /// It is not in the log, but it may have been before the log lost it, so subscribers may have received its events.
    Lost,
}

impl Batch {
    /// Makes an entry of publishes.
    pub fn of_publishes(number: u64, publishes: Vec<Publish>) -> Self {
        let queued = publishes.iter().map(|publish| publish.queued).min().unwrap_or(0);
        let mut blob = Blob::default();
        let mut waiters = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let first = blob.push(publish.part);
            waiters.push(Waiter { first, end: blob.events, done: publish.done });
        }
        Self::new(number, Content::Events(blob, waiters), queued)
    }

    /// Makes an entry of inserts.
    pub fn of_inserts(number: u64, inserts: Vec<Insert>) -> Self {
        let queued = inserts.iter().map(|insert| insert.queued).min().unwrap_or(0);
        let (requests, waiters) = inserts.into_iter().map(|insert| (insert.request, insert.done)).unzip();
        Self::new(number, Content::Records(requests, waiters), queued)
    }

    fn new(number: u64, content: Content, queued: u64) -> Self {
        Self { number, content, queued, outcome: Outcome::NotAppended, token: String::new() }
    }

    /// Returns its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the token of its entry. Empty before it was sent.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns what is known of it.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Sets what is known of it.
    #[must_use]
    pub fn with_outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Returns whether it consists of records.
    pub fn has_records(&self) -> bool {
        matches!(self.content, Content::Records(..))
    }

    /// Returns what of it is new.
    pub fn written(&self, done: &LastBatch) -> Option<Written> {
        match (&self.content, done) {
            (Content::Events(blob, _), LastBatch::Events(appended)) => {
                let count = blob.events.saturating_sub(appended.repetitions.len());
                let last = appended.first.saturating_add(blob.events as u64).saturating_sub(1);
                (count > 0).then_some(Written { first: appended.first, last, count: count as u64 })
            }
            (_, LastBatch::Inserts(outcomes)) => {
                let (first, last) = stored(outcomes)?;
                Some(Written { first, last, count: last - first + 1 })
            }
            (Content::Records(..), LastBatch::Events(_)) => None,
        }
    }

    /// Returns whether it has waited for too long.
    pub fn is_late(&self, now: u64) -> bool {
        let limit = match self.outcome {
            Outcome::NotAppended => queue::MAX_WAIT_MILLIS,
            Outcome::Unknown | Outcome::Lost => UNKNOWN_MILLIS,
        };
        self.queued + limit <= now
    }

    /// Appends it to the log. `floor` is the newest id that the broker knows. Returns what became of it, and the number of
    /// idempotency keys that were forgotten early.
    pub fn append(&mut self, log: &mut impl Log, hello: Hello, floor: u64) -> Result<(LastBatch, u64), LogError> {
        let batch = self.number;
        match &self.content {
            Content::Events(blob, _) => {
                let Blob { events, bytes, own_ids } = blob;
                let request = Append { hello, batch, floor, events: *events, blob: bytes, own_ids };
                self.token = request.token();
                log.append(&request).map(|appended| (LastBatch::Events(appended), 0))
            }
            Content::Records(requests, _) => {
                let request = log::Insert { hello, batch, floor, requests, keys: KeyLimits::default() };
                self.token = request.token();
                log.insert(&request).map(|Inserted { outcomes, forgotten }| (LastBatch::Inserts(outcomes), forgotten))
            }
        }
    }

    /// Delivers the results once the tail has passed what they tell of.
    pub fn acknowledge(self, done: &LastBatch, waiting: &Waiting, now: u64) {
        match (self.content, done) {
            (Content::Events(_, waiters), LastBatch::Events(appended)) => {
                for publish in waiters {
                    let sequenced = publish.sequence(appended);
                    let done = publish.done;
                    waiting.wait(sequenced.id, now, move |_| done(Ok(sequenced)));
                }
            }
            (Content::Records(_, waiters), LastBatch::Inserts(outcomes)) if waiters.len() == outcomes.len() => {
                for (outcome, done) in outcomes.iter().copied().zip(waiters) {
                    waiting.wait(newest_told(outcome), now, move |_| done(Ok(outcome)));
                }
            }
            (content, _) => content.fail(&EngineError::Unknown("the engine knows another batch by this number".into())),
        }
    }

    /// Refuses the requests, as far as it is known that nobody has received what they would have appended.
    pub fn refuse(self, why: Arc<str>) {
        self.refuse_with(why, EngineError::Unavailable);
    }

    /// Refuses the requests as [`Batch::refuse`] does, for a reason that only an operator can remove.
    pub fn refuse_for_good(self, why: Arc<str>) {
        self.refuse_with(why, EngineError::Refused);
    }

    fn refuse_with(self, why: Arc<str>, refusal: fn(Arc<str>) -> EngineError) {
        let error = match self.outcome {
            Outcome::NotAppended => refusal(why),
            Outcome::Unknown | Outcome::Lost => EngineError::Unknown(why),
        };
        self.fail(&error);
    }

    /// Delivers an error to all.
    pub fn fail(self, error: &EngineError) {
        self.content.fail(error);
    }
}

impl Content {
    fn fail(self, error: &EngineError) {
        match self {
            Self::Events(_, waiters) => waiters.into_iter().for_each(|waiter| (waiter.done)(Err(error.clone()))),
            Self::Records(_, waiters) => waiters.into_iter().for_each(|done| done(Err(error.clone()))),
        }
    }
}

/// Returns the newest id that an outcome tells of; 0 if it tells of none.
fn newest_told(outcome: InsertOutcome) -> u64 {
    match outcome {
        InsertOutcome::Stored(id) | InsertOutcome::Repeated(id) => id,
        InsertOutcome::Conflict(newest) => newest.unwrap_or(0),
        InsertOutcome::KeyReused => 0,
    }
}

impl Waiter {
    /// Returns the result of the publish.
    fn sequence(&self, appended: &Appended) -> Sequenced {
        let range = self.first..self.end;
        let repeated: Vec<_> =
            appended.repetitions.iter().filter(|repetition| range.contains(&repetition.index)).collect();
        let is_new = |index: &usize| repeated.binary_search_by_key(index, |repetition| repetition.index).is_err();
        let last_new = range.clone().rev().find(is_new);
        let id = match (last_new, repeated.last()) {
            (Some(index), _) => appended.first.saturating_add(index as u64),
            (None, Some(repetition)) => repetition.original,
            (None, None) => appended.first,
        };
        Sequenced { id, events: range.len().saturating_sub(repeated.len()) }
    }
}
