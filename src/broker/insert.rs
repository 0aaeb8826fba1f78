//! A record that a program inserts on a condition, or only once.

use super::InsertError;
use crate::api::record;
use crate::records::insert::{Condition, IdempotencyKey, InsertOutcome, InsertRequest};

/// A record to be inserted, on which condition, and only once: see [`Broker::insert_if`](crate::Broker::insert_if).
///
/// Of several conditions only the last one counts.
#[derive(Clone, Debug)]
pub struct Insert<'a> {
    name: &'a str,
    json: &'a str,
    condition: Condition,
    key: Option<&'a str>,
}

/// A record that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inserted {
    /// The record's id.
    pub id: u64,
    /// Whether it was stored before, with the same idempotency key.
    pub is_duplicate: bool,
}

impl<'a> Insert<'a> {
    /// Creates a version of the record with this name, to be stored in any case. `json` is its data.
    pub fn new(name: &'a str, json: &'a str) -> Self {
        Self { name, json, condition: Condition::Always, key: None }
    }

    /// Stores it only if the newest version of the name has this id, like `If-Match: "<id>"`.
    #[must_use]
    pub fn newest_is(self, id: u64) -> Self {
        Self { condition: Condition::NewestIs([id].into()), ..self }
    }

    /// Stores it only if there is a version of the name, like `If-Match: *`.
    #[must_use]
    pub fn exists(self) -> Self {
        Self { condition: Condition::Exists, ..self }
    }

    /// Stores it only if there is no version of the name, like `If-None-Match: *`.
    #[must_use]
    pub fn absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// Stores it only once, like `Idempotency-Key`: a retry with the same key and name within 24 hours stores nothing,
    /// and gets the first result. The key must have 1 to 128 bytes of printable ASCII. It is checked before the
    /// condition.
    #[must_use]
    pub fn idempotency_key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    pub(super) fn to_request(&self) -> Result<InsertRequest, InsertError> {
        let record = record::create(self.name, self.json);
        let record = record.map_err(|problem| InsertError::Record(problem.detail.into()))?;
        let key = self.key.map(|key| IdempotencyKey::new(key).ok_or(InsertError::Key)).transpose()?;
        Ok(InsertRequest { record, condition: self.condition.clone(), key })
    }
}

impl Inserted {
    pub(super) fn from_outcome(outcome: InsertOutcome) -> Result<Self, InsertError> {
        match outcome {
            InsertOutcome::Stored(id) => Ok(Self { id, is_duplicate: false }),
            InsertOutcome::Repeated(id) => Ok(Self { id, is_duplicate: true }),
            InsertOutcome::KeyReused => Err(InsertError::KeyReused),
            InsertOutcome::Conflict(newest) => Err(InsertError::Conflict { newest }),
        }
    }
}
