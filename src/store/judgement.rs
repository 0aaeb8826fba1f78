//! Judges the requests of a batch in their order, as if each one were committed before the next. Nothing is committed yet: a
//! judgement may depend on a request of the same batch that was accepted before, and holds only once that one is committed.
//! Independent of SQL.

use std::collections::HashMap;

use super::tables::idempotency::{self, Keys, NewKey};
use crate::ids::Order;
use crate::records::Record;
use crate::records::insert::{Condition, IdempotencyKey, InsertOutcome, InsertRequest};

/// What becomes of a request if its batch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored, as the one with this index among those of its batch that are.
    Accepted(usize),
    /// Its key was used before, for this version of the same name.
    Repeated(Version),
    /// Its key was used before, for another name.
    KeyReused,
    /// Its condition does not hold: this is the newest version.
    Conflict(Option<Version>),
}

/// A version of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// It is committed, with this id.
    Committed(u64),
    /// It is the one with this index among the accepted requests of the batch, and has no id yet.
    InBatch(usize),
}

impl Verdict {
    /// Returns the outcome of the request, if the accepted requests of its batch were committed with ids from `first` on.
    pub fn outcome(self, first: u64) -> InsertOutcome {
        match self {
            Self::Accepted(index) => InsertOutcome::Stored(first + index as u64),
            Self::Repeated(version) => InsertOutcome::Repeated(version.id(first)),
            Self::KeyReused => InsertOutcome::KeyReused,
            Self::Conflict(newest) => InsertOutcome::Conflict(newest.map(|version| version.id(first))),
        }
    }
}

impl Version {
    fn id(self, first: u64) -> u64 {
        match self {
            Self::Committed(id) => id,
            Self::InBatch(index) => first + index as u64,
        }
    }

    /// Returns whether the condition of a request holds if this is the newest version.
    fn satisfies(self, condition: &Condition) -> bool {
        match self {
            Self::Committed(id) => condition.holds(Some(id)),
            // Nobody can know an id that is not assigned yet.
            Self::InBatch(_) => matches!(condition, Condition::Always | Condition::Exists),
        }
    }
}

/// The judgement of one batch.
struct Judge<'a> {
    order: &'a dyn Order<Record>,
    keys: &'a Keys,
    /// The time of ids.
    now: u64,
    /// The number of requests accepted so far.
    accepted: usize,
    /// Whether any request of the batch has a condition, so that `newest` is needed.
    has_conditions: bool,
    /// The last accepted request of each name.
    newest: HashMap<&'a str, usize>,
    /// The accepted request of each key, and its name.
    new_keys: HashMap<&'a str, (usize, &'a str)>,
}

/// Judges requests, in order. `order` knows what is committed, and `keys` what is remembered at this time of ids.
pub(super) fn judge(requests: &[InsertRequest], order: &dyn Order<Record>, keys: &Keys, now: u64) -> Vec<Verdict> {
    let has_conditions = requests.iter().any(|request| request.condition != Condition::Always);
    let (newest, new_keys) = (HashMap::new(), HashMap::new());
    let mut judge = Judge { order, keys, now, accepted: 0, has_conditions, newest, new_keys };
    requests.iter().map(|request| judge.judge(request)).collect()
}

impl<'a> Judge<'a> {
    fn judge(&mut self, request: &'a InsertRequest) -> Verdict {
        let name = &*request.record.name;
        // Before the condition: a retry gets the first answer, though the newest version has changed since.
        if let Some(verdict) = request.key.as_ref().and_then(|key| self.judge_key(key, name)) {
            return verdict;
        }
        if let Some(conflict) = self.judge_condition(&request.condition, name) {
            return conflict;
        }
        let index = self.accepted;
        self.accepted += 1;
        if self.has_conditions {
            self.newest.insert(name, index);
        }
        if let Some(key) = &request.key {
            self.new_keys.insert(key.as_str(), (index, name));
        }
        Verdict::Accepted(index)
    }

    /// Returns the verdict on a request whose key was used before.
    fn judge_key(&self, key: &IdempotencyKey, name: &str) -> Option<Verdict> {
        let (version, is_same_name) = match self.new_keys.get(key.as_str()) {
            Some((index, first)) => (Version::InBatch(*index), *first == name),
            None => {
                let known = self.keys.get(key, self.now)?;
                (Version::Committed(known.id), known.name == idempotency::name_hash(name))
            }
        };
        Some(if is_same_name { Verdict::Repeated(version) } else { Verdict::KeyReused })
    }

    /// Returns the verdict on a request whose condition does not hold.
    fn judge_condition(&self, condition: &Condition, name: &str) -> Option<Verdict> {
        if *condition == Condition::Always {
            return None;
        }
        let in_batch = self.newest.get(name).map(|index| Version::InBatch(*index));
        let newest = in_batch.or_else(|| self.order.newest_version(name).map(Version::Committed));
        let holds = newest.map_or_else(|| condition.holds(None), |version| version.satisfies(condition));
        (!holds).then_some(Verdict::Conflict(newest))
    }
}

/// Returns the accepted requests' records, with ids from `first` on, and their keys.
pub(super) fn accepted(requests: Vec<InsertRequest>, verdicts: &[Verdict], first: u64) -> (Vec<Record>, Vec<NewKey>) {
    let (mut records, mut keys) = (Vec::with_capacity(requests.len()), Vec::new());
    for (request, verdict) in requests.into_iter().zip(verdicts) {
        let Verdict::Accepted(index) = verdict else { continue };
        let (id, record) = (first + *index as u64, request.record);
        keys.extend(request.key.map(|key| NewKey { id, key, name: idempotency::name_hash(&record.name) }));
        records.push(Record { id, name: record.name, data: record.data });
    }
    (records, keys)
}
