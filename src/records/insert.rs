//! A request to insert a record: the record, on which condition it is stored, and what makes a retry of the request harmless.

use super::NewRecord;

/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 128;

/// A record that is stored if its condition holds, and only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertRequest {
    /// The record.
    pub record: NewRecord,
    /// The condition, judged against the newest version at the moment when the record gets its place in the order.
    pub condition: Condition,
    /// Identifies the request: a repetition within 24 hours stores nothing.
    pub key: Option<IdempotencyKey>,
}

impl InsertRequest {
    /// Returns about how many bytes of memory it takes.
    pub fn cost(&self) -> usize {
        let ids = if let Condition::NewestIs(ids) = &self.condition { size_of_val::<[u64]>(ids) } else { 0 };
        self.record.cost() + ids + self.key.as_ref().map_or(0, |key| key.as_str().len())
    }
}

impl From<NewRecord> for InsertRequest {
    /// Returns a request without a condition.
    fn from(record: NewRecord) -> Self {
        Self { record, condition: Condition::Always, key: None }
    }
}

/// What must be true of the newest version of a name for a record to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// `If-Match: *`: there is one.
    Exists,
    /// `If-Match: "…"`: it has one of these ids.
    NewestIs(Box<[u64]>),
    /// `If-None-Match: *`: there is none.
    Absent,
}

impl Condition {
    /// Returns whether the condition holds if the newest version of the name has this id; `None` if there is no version.
    pub fn holds(&self, newest: Option<u64>) -> bool {
        match self {
            Self::Always => true,
            Self::Exists => newest.is_some(),
            Self::NewestIs(ids) => newest.is_some_and(|newest| ids.contains(&newest)),
            Self::Absent => newest.is_none(),
        }
    }
}

/// The value of an `Idempotency-Key` field: 1 to [`MAX_KEY`] bytes of printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Returns the key with this text. `None` unless it has 1 to [`MAX_KEY`] bytes, all of them visible ASCII or spaces.
    pub fn new(text: &str) -> Option<Self> {
        let is_valid = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        is_valid.then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of a request that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The record was stored with this id.
    Stored(u64),
    /// A request with the same key and the same name was carried out before, and its record got this id. Nothing was stored.
    Repeated(u64),
    /// A request with the same key inserted a record with another name. Nothing was stored.
    KeyReused,
    /// The condition does not hold. Nothing was stored. The id of the newest version, if there is one.
    Conflict(Option<u64>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_about_the_newest_version() {
        let one_of = Condition::NewestIs([3, 5].into());
        for (condition, none, three, four) in [
            (Condition::Always, true, true, true),
            (Condition::Exists, false, true, true),
            (one_of, false, true, false),
            (Condition::Absent, true, false, false),
        ] {
            let holds = [None, Some(3), Some(4)].map(|newest| condition.holds(newest));
            assert_eq!(holds, [none, three, four], "{condition:?}");
        }
    }

    #[test]
    fn keys_are_short_and_visible() {
        for good in ["a", "8e03978e-40d5-43e8-bc93-6894a57f9324", &"k".repeat(128), "\"quoted\""] {
            assert_eq!(IdempotencyKey::new(good).map(|key| key.as_str() == good), Some(true));
        }
        for bad in ["", "a\tb", "é", &"k".repeat(129)] {
            assert_eq!(IdempotencyKey::new(bad), None, "{bad}");
        }
    }
}
