//! Requests to insert records on a server: which are granted, and which idempotency keys are remembered. The script
//! `insert.lua`, in Rust.

use std::collections::{BTreeMap, VecDeque};

use super::super::log::{Insert, KeyLimits};
use super::records::Records;
use crate::records::NewRecord;
use crate::records::insert::{InsertOutcome, InsertRequest};

/// The maximum number of keys that an insert forgets, in addition to two for each new one.
const MAX_FORGOTTEN: usize = 4;

/// The idempotency keys that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    known: BTreeMap<Box<str>, KeyUse>,
    /// Oldest first. Of a key that was used again after it was forgotten, there are several.
    order: VecDeque<(u64, Box<str>)>,
}

/// What is known of the request with a key: its record.
#[derive(Clone, Debug)]
struct KeyUse {
    id: u64,
    name: Box<str>,
}

/// Requests that were judged.
pub(super) struct Judged {
    /// What becomes of each.
    pub outcomes: Vec<InsertOutcome>,
    /// The records of those that are granted.
    pub granted: Vec<NewRecord>,
    /// The keys of those that are granted.
    remembered: Vec<(Box<str>, KeyUse)>,
}

/// Judges requests. The first record gets the id `first`, and the others the next numbers.
pub(super) fn judge(now: u64, first: u64, insert: &Insert<'_>, records: &Records, keys: &Keys) -> Judged {
    let mut judged = Judged { outcomes: Vec::new(), granted: Vec::new(), remembered: Vec::new() };
    for request in insert.requests {
        let id = first + judged.granted.len() as u64;
        let outcome = judged.judge(now, first, request, insert.keys, (records, keys));
        judged.outcomes.push(outcome.unwrap_or(InsertOutcome::Stored(id)));
        if outcome.is_none() {
            judged.granted.push(request.record.clone());
            let of_key = KeyUse { id, name: (&*request.record.name).into() };
            judged.remembered.extend(request.key.as_ref().map(|key| (key.as_str().into(), of_key)));
        }
    }
    judged
}

impl Judged {
    /// Returns why a request is not granted.
    fn judge(
        &self,
        now: u64,
        first: u64,
        request: &InsertRequest,
        limits: KeyLimits,
        (records, keys): (&Records, &Keys),
    ) -> Option<InsertOutcome> {
        let name = &*request.record.name;
        if let Some(key) = &request.key {
            let here = self.remembered.iter().find(|(other, _)| **other == *key.as_str()).map(|(_, known)| known);
            let known = here.or_else(|| keys.known.get(key.as_str()));
            match known.filter(|known| !is_old(known.id, now, limits)) {
                Some(known) if *known.name == *name => return Some(InsertOutcome::Repeated(known.id)),
                Some(_) => return Some(InsertOutcome::KeyReused),
                None => {}
            }
        }
        let here = self.granted.iter().rposition(|record| *record.name == *name).map(|index| first + index as u64);
        let newest = here.or_else(|| records.newest_of(name));
        (!request.condition.holds(newest)).then_some(InsertOutcome::Conflict(newest))
    }
}

impl Keys {
    /// Remembers the keys of requests that are granted, and forgets old ones. Returns how many of these are forgotten early.
    pub fn remember(&mut self, now: u64, judged: Judged, limits: KeyLimits) -> u64 {
        let new = judged.remembered.len();
        for (key, of_key) in judged.remembered {
            self.order.push_back((of_key.id, key.clone()));
            self.known.insert(key, of_key);
        }
        if new == 0 { 0 } else { self.forget(now, limits, 2 * new + MAX_FORGOTTEN) }
    }

    fn forget(&mut self, now: u64, limits: KeyLimits, most: usize) -> u64 {
        let mut early = 0;
        for _ in 0..most {
            let oldest = self.order.front().map(|(id, _)| is_old(*id, now, limits));
            let Some(is_old) = oldest.filter(|is_old| *is_old || self.order.len() > limits.count) else { break };
            early += u64::from(!is_old);
            if let Some((id, key)) = self.order.pop_front()
                && self.known.get(&key).is_some_and(|newest| newest.id == id)
            {
                self.known.remove(&key);
            }
        }
        early
    }
}

fn is_old(id: u64, now: u64, limits: KeyLimits) -> bool {
    id + limits.age.as_micros() as u64 <= now
}
