//! Inserts with conditions and idempotency keys: what a requester may ask for, and what the responses must agree with.
//! Which of several requests comes first is unknown, so most is checked when all versions of a name are read.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::Value;

use super::oracle::{Feed, Oracle, State};
use super::world::NAMES;

/// Keys of older records are not used again, because they may be forgotten: half of the 24 hours, in microseconds.
const MAX_AGE: u64 = 12 * 60 * 60 * 1_000_000;

/// The condition of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Always,
    Exists,
    Absent,
    NewestIs(u64),
}

/// What an insert asks for in addition to its record.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub condition: Condition,
    has_key: bool,
    /// The newest version that certainly existed when it was sent.
    floor: Option<u64>,
}

impl Terms {
    /// Chooses terms for a record with this name that is about to be sent.
    pub fn choose(name: usize, rng: &mut Rng, oracle: &Oracle) -> Self {
        // What is erased meanwhile decides whether a condition holds, and is nowhere any more.
        if oracle.has_erasures {
            return Self { condition: Condition::Always, has_key: false, floor: None };
        }
        let known: Vec<u64> = oracle.versions(name).filter_map(|number| oracle.items[number].id).collect();
        let floor = known.iter().copied().max();
        let condition = match rng.u8(0..12) {
            0 => Condition::Exists,
            1 => Condition::Absent,
            2..5 => floor.map_or(Condition::Absent, Condition::NewestIs),
            5 if !known.is_empty() => Condition::NewestIs(known[rng.usize(0..known.len())]),
            _ => Condition::Always,
        };
        Self { condition, has_key: rng.u8(0..3) == 0, floor }
    }

    /// Returns the header fields of the insert of an item.
    pub fn fields(self, number: usize) -> String {
        let condition = match self.condition {
            Condition::Always => String::new(),
            Condition::Exists => "If-Match: *\r\n".to_owned(),
            Condition::Absent => "If-None-Match: *\r\n".to_owned(),
            Condition::NewestIs(id) => format!("If-Match: \"1\", \"{id}\"\r\n"),
        };
        condition + &if self.has_key { key_field(number) } else { String::new() }
    }

    /// Notes in the oracle what it must know of the item.
    pub fn note(self, number: usize, oracle: &mut Oracle) {
        oracle.items[number].condition = self.condition;
        oracle.items[number].terms = self.has_key.then_some(self);
    }
}

fn key_field(number: usize) -> String {
    format!("Idempotency-Key: item {number}\r\n")
}

/// A request whose key was used before.
#[derive(Clone, Copy, Debug)]
pub struct Repetition {
    pub number: usize,
    /// The name, which may be another one.
    pub name: usize,
    /// Whether the first request was accepted when this one was sent.
    was_accepted: bool,
}

impl Repetition {
    /// Chooses an item to be sent again, whose outcome may be unknown.
    pub fn choose(rng: &mut Rng, oracle: &Oracle) -> Option<Self> {
        let is_young = |id: u64| oracle.newest.saturating_sub(id) < MAX_AGE;
        let repeatable = oracle.items.iter().enumerate().filter(|(_, item)| {
            let is_certain = !item.is_lost && !item.is_doubtful && is_young(item.id.unwrap_or(item.after));
            item.terms.is_some() && is_certain && matches!(item.state, State::Accepted | State::Unknown)
        });
        let numbers: Vec<usize> = repeatable.map(|(number, _)| number).collect();
        let number = *numbers.get(rng.usize(0..numbers.len().max(1)))?;
        let item = &oracle.items[number];
        let Feed::Name(name) = item.feed else { return None };
        let was_accepted = item.state == State::Accepted;
        let is_misused = was_accepted && rng.u8(0..6) == 0;
        Some(Self { number, name: if is_misused { (name + 1) % NAMES.len() } else { name }, was_accepted })
    }

    /// Returns the header fields. From now on, a backup that is older may not have the record.
    pub fn fields(self, oracle: &mut Oracle) -> String {
        let items = oracle.items.len();
        let item = &mut oracle.items[self.number];
        item.sent_again = Some(items);
        item.terms.map_or_else(String::new, |terms| terms.fields(self.number))
    }

    fn is_misused(self, oracle: &Oracle) -> bool {
        oracle.items[self.number].feed != Feed::Name(self.name)
    }

    /// Checks the response.
    pub fn settle(self, status: u16, json: &Value, oracle: &mut Oracle) {
        let Self { number, was_accepted, .. } = self;
        match status {
            422 => assert!(self.is_misused(oracle), "the key of {number} is taken for another's: {json}"),
            200 => {
                assert!(!self.is_misused(oracle), "the key of {number} is used for two names: {json}");
                assert!(!was_accepted || json["duplicate"] == true, "{number} is stored again: {json}");
                oracle.accept_again(number, id_of(json));
            }
            412 => assert!(!was_accepted, "the first answer to {number} was 200, and now: {json}"),
            408 | 503 => {}
            _ => panic!("{status} for a repetition of {number}: {json}"),
        }
    }
}

/// Checks a 412, and notes the version that it names.
pub fn settle_conflict(number: usize, terms: Terms, json: &Value, oracle: &mut Oracle) {
    let Feed::Name(name) = oracle.items[number].feed else { panic!("no record") };
    let newest = (!json["id"].is_null()).then(|| id_of(json));
    let holds = match terms.condition {
        Condition::Always => true,
        Condition::Exists => newest.is_some(),
        Condition::Absent => newest.is_none(),
        Condition::NewestIs(id) => newest == Some(id),
    };
    assert!(!holds, "{:?} holds: {json}", terms.condition);
    assert!(newest >= terms.floor || oracle.is_damaged, "{:?} was there before: {json}", terms.floor);
    assert_eq!(json["key"], newest.map_or(Value::Null, |id| format!("{}_v_{id}", NAMES[name]).into()));
    oracle.refuse(number..number + 1, State::Refused);
    if let Some(id) = newest {
        oracle.conflicts.entry(name).or_default().insert(id);
    }
}

/// Checks that each version of a name follows the one that its condition requires. `shown` are all versions, oldest first; those
/// before them may have been removed if the retention is limited.
pub fn check_versions(shown: &[(u64, usize)], oracle: &Oracle) {
    if oracle.is_damaged {
        return;
    }
    let before = [None].into_iter().chain(shown.iter().map(|(id, _)| Some(*id)));
    for (before, (id, number)) in before.zip(shown).skip(usize::from(oracle.kept.is_some())) {
        let item = &oracle.items[*number];
        let holds = match item.condition {
            Condition::Always => true,
            Condition::Exists => before.is_some(),
            Condition::Absent => before.is_none(),
            Condition::NewestIs(required) => before == Some(required),
        };
        assert!(holds || item.is_doubtful, "{id} follows {before:?}, but: {item:?}");
    }
}

/// The versions that 412s have named, by name.
pub type Conflicts = BTreeMap<usize, std::collections::BTreeSet<u64>>;

pub fn id_of(json: &Value) -> u64 {
    json["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id in {json}"))
}
