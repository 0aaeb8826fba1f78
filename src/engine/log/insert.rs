//! A request to insert records, and its answer.

use std::time::Duration;

use super::{Hello, token};
use crate::records::insert::{InsertOutcome, InsertRequest};

/// How many idempotency keys are remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// The most keys. Beyond it, the oldest are forgotten early.
    pub count: usize,
    /// The age at which they are forgotten.
    pub age: Duration,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self { count: 1_000_000, age: Duration::from_secs(24 * 3600) }
    }
}

/// Requests to insert records.
#[derive(Clone, Copy, Debug)]
pub struct Insert<'a> {
    /// The session, which must be the broker's newest.
    pub hello: Hello,
    /// The number of the batch, as in [`Append::batch`].
    pub batch: u64,
    /// The newest id that the broker knows. The records' ids are larger.
    pub floor: u64,
    /// The requests. Each is judged against what those before it have stored.
    pub requests: &'a [InsertRequest],
    /// Which idempotency keys are remembered.
    pub keys: KeyLimits,
}

impl Insert<'_> {
    /// Returns the token of the entry.
    pub fn token(&self) -> String {
        token(self.hello, self.batch)
    }
}

/// Requests to insert records that were judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// What became of each. The ids of the records that were stored follow each other.
    pub outcomes: Vec<InsertOutcome>,
    /// The number of idempotency keys that were forgotten early, because there are too many.
    pub forgotten: u64,
}

/// Returns the ids of the first and the last record that were stored, if any was.
pub fn stored(outcomes: &[InsertOutcome]) -> Option<(u64, u64)> {
    let id = |outcome: &InsertOutcome| if let InsertOutcome::Stored(id) = outcome { Some(*id) } else { None };
    outcomes.iter().find_map(id).zip(outcomes.iter().rev().find_map(id))
}
