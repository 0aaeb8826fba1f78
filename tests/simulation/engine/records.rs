//! Inserts and lookups, and what must be true of records: whatever the log loses, every follower ends with the newest record of
//! each name.

use std::collections::{BTreeMap, BTreeSet};

use esker::internals::engine::EngineError;
use esker::internals::engine::log::{NAME_COST, cost_of};
use esker::internals::engine::sim::SimLog;

use super::super::world::trace;
use super::follower::{SeenRecord, Told, read_record};
use super::oracle::ACK_MILLIS;
use super::world::World;

pub const NAMES: [&str; 5] = ["user", "order", "a/b", "\u{e9}t\u{e9}", "x"];

/// What is known of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Sent,
    /// Stored, with this id.
    Accepted(u64),
    /// Nothing was stored.
    Refused,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub name: &'static str,
    pub node: u64,
    pub sent: u64,
    pub state: State,
}

/// A question whether there is a record.
#[derive(Clone, Debug)]
pub struct Lookup {
    node: u64,
    id: u64,
    /// The log had it.
    is_there: bool,
    /// How many entries were lost by then.
    lost: usize,
    /// It may be put to a server that does not know that it was replaced.
    is_split: bool,
    is_answered: bool,
}

/// All inserts and lookups.
#[derive(Debug, Default)]
pub struct Records {
    pub inserts: Vec<Insert>,
    pub lookups: Vec<Lookup>,
    /// The bytes that records may take.
    pub most_bytes: u64,
}

/// What was ever written to the log.
pub struct RecordTruth {
    /// The records that the log has, ascending by id.
    pub kept: Vec<SeenRecord>,
    /// All records that a server has ever had.
    all: BTreeSet<SeenRecord>,
    /// Those whose entries are lost.
    pub lost: BTreeSet<SeenRecord>,
    /// Those that were appended without a proof that they are durable.
    unproven: BTreeSet<SeenRecord>,
}

impl RecordTruth {
    pub fn new(log: &SimLog) -> Self {
        let kept: Vec<_> = log.records().iter().map(|record| read_record(record)).collect();
        let unproven = log.unproven();
        let (mut all, mut unproven_records) = (BTreeSet::new(), BTreeSet::new());
        for (entry, records) in log.inserted() {
            let records = records.iter().map(|record| read_record(record));
            let is_unproven = unproven.iter().any(|other| std::sync::Arc::ptr_eq(other, &entry));
            unproven_records.extend(records.clone().filter(|_| is_unproven));
            all.extend(records);
        }
        let lost = all.iter().filter(|record| kept.binary_search(record).is_err()).cloned().collect();
        Self { kept, all, lost, unproven: unproven_records }
    }

    fn is_kept(&self, record: &SeenRecord) -> bool {
        self.kept.binary_search(record).is_ok()
    }

    /// Returns whether a server has ever had a record.
    pub fn has_had(&self, record: &SeenRecord) -> bool {
        self.all.contains(record)
    }

    /// Returns whether a record that is lost had the id of another.
    pub fn is_ambiguous(&self, record: &SeenRecord) -> bool {
        self.lost.contains(record) && self.all.iter().any(|other| other.id == record.id && other != record)
    }

    /// Returns about how many bytes the records take. A name takes its share once.
    fn bytes(&self) -> u64 {
        let costs = self.kept.iter().map(|record| cost_of(&record.name, &record.number.to_string()));
        let names: BTreeSet<_> = self.kept.iter().map(|record| &record.name).collect();
        let name_cost = |name: usize| NAME_COST + name as u64;
        let once: u64 = names.iter().map(|name| name_cost(name.len())).sum();
        let each: u64 = self.kept.iter().map(|record| name_cost(record.name.len())).sum();
        costs.sum::<u64>() - each + once
    }

    /// Returns the newest record of each name.
    pub fn newest(&self) -> BTreeMap<&str, &SeenRecord> {
        self.kept.iter().map(|record| (&*record.name, record)).collect()
    }
}

impl World {
    pub(super) fn insert(&mut self, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let number = self.oracle.records.inserts.len();
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        trace(self.step, &format!("{} inserts {number} as {name}", node.serial));
        let (serial, sent) = (node.serial, self.millis());
        self.oracle.records.inserts.push(Insert { name, node: serial, sent, state: State::Sent });
        node.insert(number, name);
    }

    /// Looks up a record that the log has or had, or one that never existed.
    pub(super) fn look_up(&mut self, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let all = self.log.inserted();
        let ids: Vec<_> = all.iter().flat_map(|(_, records)| records).map(|record| record.id).collect();
        let Some(&id) = ids.get(self.rng.usize(0..ids.len() + 1)) else { return };
        let id = if self.rng.u8(0..8) == 0 { id + 1 } else { id };
        let is_there = self.log.records().iter().any(|record| record.id == id);
        let (lost, is_split) = (self.log.lost().len(), self.oracle.is_split);
        let lookups = &mut self.oracle.records.lookups;
        lookups.push(Lookup { node: node.serial, id, is_there, lost, is_split, is_answered: false });
        node.look_up(lookups.len() - 1, id);
    }
}

impl Records {
    /// Takes the answer to an insert. `newest` is the newest id that the follower had then.
    pub fn take_insert(
        &mut self,
        number: usize,
        result: &Result<u64, EngineError>,
        newest: u64,
        millis: u64,
        log: &SimLog,
    ) {
        let insert = &mut self.inserts[number];
        assert_eq!(insert.state, State::Sent, "an insert is answered twice: {insert:?}");
        insert.state = match result {
            &Ok(id) => {
                // The tail may read from a server that was replaced, which has another entry with this id.
                let is_excused = millis >= insert.sent + ACK_MILLIS || !log.lost().is_empty();
                assert!(
                    newest >= id || is_excused,
                    "{number} is acknowledged before the tail has passed {id}: {insert:?}"
                );
                State::Accepted(id)
            }
            Err(EngineError::Unknown(_)) => State::Unknown,
            Err(_) => State::Refused,
        };
    }

    /// Takes the answer to a lookup. `newest` is the newest id that the follower had then.
    pub fn take_lookup(&mut self, number: usize, result: &Result<bool, EngineError>, newest: u64, log: &SimLog) {
        let lookup = &mut self.lookups[number];
        lookup.is_answered = true;
        let is_comparable = !lookup.is_split && log.lost().len() == lookup.lost;
        match result {
            Ok(true) => assert!(
                newest >= lookup.id || !is_comparable,
                "{lookup:?} is found before the tail has passed it: {newest}"
            ),
            Ok(false) => assert!(!lookup.is_there || !is_comparable, "{lookup:?} is not found"),
            Err(_) => {}
        }
    }

    /// Returns whether nothing waits.
    pub fn are_answered(&self) -> bool {
        let is_answered = |insert: &Insert| insert.state != State::Sent;
        self.inserts.iter().all(is_answered) && self.lookups.iter().all(|lookup| lookup.is_answered)
    }

    /// A broker was killed: nobody knows what became of its inserts.
    pub fn forget(&mut self, node: u64) {
        let sent = |insert: &&mut Insert| insert.node == node && insert.state == State::Sent;
        self.inserts.iter_mut().filter(sent).for_each(|insert| insert.state = State::Unknown);
        self.lookups.iter_mut().filter(|lookup| lookup.node == node).for_each(|lookup| lookup.is_answered = true);
    }

    pub fn refused(&self) -> usize {
        self.inserts.iter().filter(|insert| insert.state == State::Refused).count()
    }

    /// Checks everything that a follower was told. `is_caught_up` means that it has read everything that the log has.
    pub fn assert_told(&self, who: u64, told: &[Told], truth: &RecordTruth, is_caught_up: bool) {
        let (mut newest, mut names) = (None, BTreeMap::new());
        for told in told {
            match told {
                Told::Record(record) => {
                    assert!(newest < Some(record.id), "{who} is told {record:?} after {newest:?}");
                    newest = Some(record.id);
                    names.insert(&*record.name, record);
                }
                Told::Reset(records) => {
                    assert!(records.is_sorted_by(|one, next| one.id < next.id), "{who} is told {records:?}");
                    newest = records.last().map(|record| record.id);
                    // If a record is superseded while they are read, both may be there.
                    names = records.iter().map(|record| (&*record.name, record)).collect();
                }
                _ => {}
            }
        }
        self.assert_exist(who, told, truth, is_caught_up);
        if is_caught_up {
            assert_eq!(names, truth.newest(), "{who} does not have the newest records: {told:?}");
        }
    }

    /// Checks that the log has or had every record that a follower was told, and that the follower knows of losses.
    fn assert_exist(&self, who: u64, told: &[Told], truth: &RecordTruth, is_caught_up: bool) {
        for (at, record) in
            told.iter().enumerate().flat_map(|(at, told)| shown(told).iter().map(move |seen| (at, seen)))
        {
            assert!(truth.has_had(record), "{who} is told {record:?}, which is not in the log");
            let insert = &self.inserts[record.number];
            assert_eq!(insert.name, &*record.name);
            assert_ne!(insert.state, State::Refused, "{who} is told {record:?}, which was refused: {insert:?}");
            let has_reset = told[at + 1..].iter().any(|told| matches!(told, Told::Reset(_)));
            let is_known = truth.is_kept(record) || has_reset;
            assert!(is_known || !is_caught_up, "{who} is not told that {record:?} is lost: {told:?}");
        }
    }

    /// Checks that a node knows of the loss of what it has acknowledged. What is older than the log counts as trimmed.
    pub fn assert_losses_told(&self, who: u64, told: &[Told], truth: &RecordTruth, oldest: u64) {
        for record in truth.lost.iter().filter(|record| record.id >= oldest) {
            let insert = &self.inserts[record.number];
            let is_acknowledged = insert.state == State::Accepted(record.id) && insert.node == who;
            let is_told = told.iter().any(|told| matches!(told, Told::LoseThrough(lost) if *lost >= record.id));
            assert!(!is_acknowledged || is_told, "{who} has acknowledged {record:?}, which is lost: {told:?}");
        }
    }

    /// Checks what clients were answered against what the log has.
    pub fn assert_answers(&self, truth: &RecordTruth) {
        let bytes = truth.bytes();
        assert!(bytes <= self.most_bytes, "the records take {bytes} bytes of {}", self.most_bytes);
        for (number, insert) in self.inserts.iter().enumerate() {
            let of = |records: &mut dyn Iterator<Item = &SeenRecord>| -> Vec<u64> {
                records.filter(|record| record.number == number).map(|record| record.id).collect()
            };
            let (kept, all) = (of(&mut truth.kept.iter()), of(&mut truth.all.iter()));
            assert!(kept.len() <= 1, "{number} is stored twice: {insert:?}, {kept:?}");
            match insert.state {
                State::Sent => panic!("{number} is not answered: {insert:?}"),
                State::Unknown => {}
                State::Refused => assert!(all.is_empty(), "{number} was refused: {insert:?}, {all:?}"),
                State::Accepted(id) => {
                    assert!(all.contains(&id), "{number} was accepted: {insert:?}, {all:?}");
                    let is_lost = truth.lost.iter().any(|record| (record.id, record.number) == (id, number));
                    assert!(kept == [id] || is_lost, "{number} was accepted: {insert:?}, {kept:?}");
                    let is_unproven = truth.unproven.iter().any(|record| (record.id, record.number) == (id, number));
                    assert!(!is_unproven, "{number} was accepted without proof: {insert:?}");
                }
            }
        }
    }
}

/// Returns the records that a follower was told at once.
fn shown(told: &Told) -> &[SeenRecord] {
    match told {
        Told::Record(record) => std::slice::from_ref(record),
        Told::Reset(records) => records,
        _ => &[],
    }
}
