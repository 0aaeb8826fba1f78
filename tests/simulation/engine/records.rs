//! Inserts, erasures and lookups, and what must be true of records: whatever the log loses and whatever is removed, every follower
//! ends with the newest record of each name, and knows which positions are in doubt.

use std::collections::{BTreeMap, BTreeSet};

use esker::internals::engine::EngineError;
use esker::internals::engine::log::{NAME_COST, cost_of};
use esker::internals::engine::sim::SimLog;
use esker::internals::records::insert::{Condition, InsertOutcome};
use fastrand::Rng;

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
    /// Judged, and not stored.
    Declined(InsertOutcome),
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
    pub condition: Condition,
    /// The idempotency key.
    pub key: Option<usize>,
    /// The newest id of the name that somebody was told before it was sent.
    told: Option<u64>,
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

/// An erasure.
#[derive(Clone, Debug)]
pub struct Erasure {
    name: &'static str,
    node: u64,
    /// The records that the log had then and that it is to remove.
    ids: Vec<u64>,
    /// Whether it was carried out, once it is answered.
    is_done: Option<bool>,
}

/// All inserts, erasures and lookups.
#[derive(Debug, Default)]
pub struct Records {
    pub inserts: Vec<Insert>,
    pub lookups: Vec<Lookup>,
    pub erasures: Vec<Erasure>,
    /// The bytes that records may take.
    pub most_bytes: u64,
}

/// What was ever written to the log.
pub struct RecordTruth {
    /// The records that the log has, ascending by id.
    pub kept: Vec<SeenRecord>,
    /// All records that a server has ever had.
    all: BTreeSet<SeenRecord>,
    /// Those that were erased or not retained.
    removed: BTreeSet<SeenRecord>,
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
        let removed: BTreeSet<_> = log.removed().iter().map(|record| read_record(record)).collect();
        let is_lost = |record: &&SeenRecord| kept.binary_search(record).is_err() && !removed.contains(*record);
        let lost = all.iter().filter(is_lost).cloned().collect();
        Self { kept, all, removed, lost, unproven: unproven_records }
    }

    /// Returns whether a record is there, or was removed.
    fn is_kept(&self, record: &SeenRecord) -> bool {
        self.kept.binary_search(record).is_ok() || self.removed.contains(record)
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
        let (serial, sent) = (node.serial, self.millis());
        let number = self.oracle.records.send(serial, sent, &mut self.rng);
        let insert = &self.oracle.records.inserts[number];
        trace(self.step, &format!("{serial} inserts {number}: {insert:?}"));
        node.insert(number, insert);
    }

    /// Erases all versions of a name, or the older ones.
    pub(super) fn erase(&mut self, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        let mut ids: Vec<_> =
            self.log.records().iter().filter(|record| &*record.name == name).map(|record| record.id).collect();
        let before = match self.rng.u8(0..3) {
            0 => ids.last().copied(),
            _ => None,
        };
        ids.retain(|id| before.is_none_or(|before| *id < before));
        let number = self.oracle.records.erasures.len();
        trace(self.step, &format!("{} erases {name} before {before:?}: {ids:?}", node.serial));
        self.oracle.records.erasures.push(Erasure { name, node: node.serial, ids, is_done: None });
        node.erase(number, name, before);
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
    /// Notes a new insert. Returns its number.
    pub fn send(&mut self, node: u64, sent: u64, rng: &mut Rng) -> usize {
        let number = self.inserts.len();
        let retried = (rng.u8(0..4) == 0).then(|| self.pick_retry(rng)).flatten().map(|insert| Insert {
            // Sometimes the key is used for something else.
            name: if rng.u8(0..8) == 0 { NAMES[rng.usize(0..NAMES.len())] } else { insert.name },
            ..insert.clone()
        });
        let insert = retried.unwrap_or_else(|| self.new_insert(number, rng));
        let told = self.newest_told(insert.name);
        self.inserts.push(Insert { node, sent, state: State::Sent, told, ..insert });
        number
    }

    fn new_insert(&self, number: usize, rng: &mut Rng) -> Insert {
        let name = NAMES[rng.usize(0..NAMES.len())];
        let ids: Vec<_> =
            self.inserts.iter().filter(|insert| insert.name == name).filter_map(Insert::told_id).collect();
        let condition = match rng.u8(0..8) {
            0 => Condition::Exists,
            1 => Condition::Absent,
            2..5 => Condition::NewestIs(ids.iter().copied().max().into_iter().collect()),
            5 => Condition::NewestIs((0..rng.usize(0..3)).filter_map(|_| rng.choice(ids.iter().copied())).collect()),
            _ => Condition::Always,
        };
        let key = (rng.u8(0..3) == 0).then_some(number);
        Insert { name, node: 0, sent: 0, state: State::Sent, condition, key, told: None }
    }

    /// Returns an insert with a key that a client repeats, usually because it does not know what became of it.
    fn pick_retry(&self, rng: &mut Rng) -> Option<&Insert> {
        let with_key: Vec<_> = self.inserts.iter().filter(|insert| insert.key.is_some()).collect();
        let is_open = |insert: &Insert| matches!(insert.state, State::Sent | State::Unknown | State::Refused);
        let open: Vec<_> = with_key.iter().copied().filter(|insert| is_open(insert)).collect();
        let picked = if open.is_empty() || rng.bool() { with_key } else { open };
        rng.choice(picked)
    }

    /// Returns the newest id of a name that somebody was told.
    fn newest_told(&self, name: &str) -> Option<u64> {
        self.inserts.iter().filter(|insert| insert.name == name).filter_map(Insert::told_id).max()
    }

    /// Returns the number of inserts with such an outcome.
    pub fn count(&self, is_counted: impl Fn(InsertOutcome) -> bool) -> usize {
        let is_so = |insert: &&Insert| matches!(insert.state, State::Declined(outcome) if is_counted(outcome));
        self.inserts.iter().filter(is_so).count()
    }

    /// Checks why an insert was not carried out.
    fn assert_declined(&self, insert: &Insert, outcome: InsertOutcome, truth: &RecordTruth) {
        let of_key = |record: &&SeenRecord| self.inserts[record.number].key == insert.key;
        let mut of_key = truth.all.iter().filter(of_key);
        match outcome {
            InsertOutcome::Stored(_) => unreachable!("it is not declined"),
            InsertOutcome::Repeated(id) => {
                let is_so = |record: &SeenRecord| record.id == id && &*record.name == insert.name;
                assert!(insert.key.is_some() && of_key.any(is_so), "{insert:?} repeats nothing");
            }
            InsertOutcome::KeyReused => {
                let is_so = |record: &SeenRecord| &*record.name != insert.name;
                assert!(insert.key.is_some() && of_key.any(is_so), "nothing else has the key of {insert:?}");
            }
            InsertOutcome::Conflict(newest) => {
                assert!(!insert.condition.holds(newest), "the condition of {insert:?} holds");
                let is_so = |record: &SeenRecord| Some(record.id) == newest && &*record.name == insert.name;
                assert!(newest.is_none() || truth.all.iter().any(is_so), "{insert:?} conflicts with nothing");
                let is_excused = !truth.lost.is_empty() || self.has_erased(insert.name);
                assert!(newest >= insert.told || is_excused, "{insert:?} was judged by an old version");
            }
        }
    }

    fn has_erased(&self, name: &str) -> bool {
        self.erasures.iter().any(|erasure| erasure.name == name)
    }

    /// Checks that every record of the log was stored on its condition, and none twice for its key: one insert at most wins
    /// against each version.
    fn assert_granted(&self, truth: &RecordTruth) {
        let (mut newest, mut keys) = (BTreeMap::new(), BTreeSet::new());
        let records: BTreeSet<_> = truth.kept.iter().chain(&truth.removed).collect();
        for record in records {
            let insert = &self.inserts[record.number];
            let before = newest.insert(insert.name, record.id);
            let holds = insert.condition.holds(before) || self.has_erased(insert.name);
            assert!(holds, "{record:?} is stored after {before:?}: {insert:?}");
            assert!(insert.key.is_none_or(|key| keys.insert(key)), "{record:?} is stored again: {insert:?}");
        }
    }

    /// Takes the answer to an insert. `newest` is the newest id that the follower had then.
    pub fn take_insert(
        &mut self,
        number: usize,
        result: &Result<InsertOutcome, EngineError>,
        newest: u64,
        millis: u64,
        log: &SimLog,
    ) {
        let insert = &mut self.inserts[number];
        assert_eq!(insert.state, State::Sent, "an insert is answered twice: {insert:?}");
        insert.state = match result {
            &Ok(outcome) => {
                let id = id_in(outcome).unwrap_or(0);
                // The tail may read from a server that was replaced, which has another entry with this id.
                let is_excused = millis >= insert.sent + ACK_MILLIS || !log.lost().is_empty();
                assert!(
                    newest >= id || is_excused,
                    "{number} is acknowledged before the tail has passed {id}: {insert:?}"
                );
                match outcome {
                    InsertOutcome::Stored(id) => State::Accepted(id),
                    declined => State::Declined(declined),
                }
            }
            Err(EngineError::Unknown(_)) => State::Unknown,
            Err(_) => State::Refused,
        };
    }

    /// Takes the answer to an erasure.
    pub fn take_erasure(&mut self, number: usize, result: &Result<u64, EngineError>) {
        let erasure = &mut self.erasures[number];
        assert_eq!(erasure.is_done, None, "an erasure is answered twice: {erasure:?}");
        erasure.is_done = Some(result.is_ok());
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
            Ok(false) => {
                let is_removed = log.removed().iter().any(|record| record.id == lookup.id);
                assert!(!lookup.is_there || is_removed || !is_comparable, "{lookup:?} is not found");
            }
            Err(_) => {}
        }
    }

    /// Returns whether nothing waits.
    pub fn are_answered(&self) -> bool {
        let is_answered = |insert: &Insert| insert.state != State::Sent;
        let is_erased = |erasure: &Erasure| erasure.is_done.is_some();
        let are_erased = self.erasures.iter().all(is_erased);
        are_erased && self.inserts.iter().all(is_answered) && self.lookups.iter().all(|lookup| lookup.is_answered)
    }

    /// A broker was killed: nobody knows what became of its inserts.
    pub fn forget(&mut self, node: u64) {
        let sent = |insert: &&mut Insert| insert.node == node && insert.state == State::Sent;
        self.inserts.iter_mut().filter(sent).for_each(|insert| insert.state = State::Unknown);
        self.lookups.iter_mut().filter(|lookup| lookup.node == node).for_each(|lookup| lookup.is_answered = true);
        let unanswered = |erasure: &&mut Erasure| erasure.node == node && erasure.is_done.is_none();
        self.erasures.iter_mut().filter(unanswered).for_each(|erasure| erasure.is_done = Some(false));
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
                Told::Erased(record, id) => {
                    assert!(newest < Some(*id), "{who} is told of the erasure {id} after {newest:?}");
                    names.retain(|_, newest| newest.id != *record);
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

    /// Checks that a follower that is caught up takes positions before the newest erasure for doubtful.
    pub fn assert_erasures_told(&self, who: u64, told: &[Told], erased: u64) {
        let doubt = told.iter().filter_map(|told| match told {
            Told::Erased(_, id) | Told::Doubt(id) => Some(*id),
            _ => None,
        });
        let doubt = doubt.max().unwrap_or(0);
        assert!(doubt >= erased, "{who} doubts positions before {doubt}, but {erased} is erased: {told:?}");
    }

    /// Checks what clients were answered against what the log has. A server that is promoted may not know of an erasure.
    pub fn assert_answers(&self, truth: &RecordTruth, has_losses: bool) {
        for erasure in self.erasures.iter().filter(|erasure| erasure.is_done == Some(true) && !has_losses) {
            let is_there = |id: &u64| truth.kept.iter().any(|record| record.id == *id);
            assert!(!erasure.ids.iter().any(is_there), "{erasure:?} has left records: {:?}", truth.kept);
        }
        self.assert_granted(truth);
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
                State::Declined(outcome) => {
                    // The log may have lost it and judged it anew.
                    assert!(kept.is_empty(), "{number} was declined: {insert:?}, {kept:?}");
                    self.assert_declined(insert, outcome, truth);
                }
                State::Accepted(id) => {
                    assert!(all.contains(&id), "{number} was accepted: {insert:?}, {all:?}");
                    let is_lost = truth.lost.iter().any(|record| (record.id, record.number) == (id, number));
                    let is_removed = truth.removed.iter().any(|record| (record.id, record.number) == (id, number));
                    assert!(kept == [id] || is_lost || is_removed, "{number} was accepted: {insert:?}, {kept:?}");
                    let is_unproven = truth.unproven.iter().any(|record| (record.id, record.number) == (id, number));
                    assert!(!is_unproven, "{number} was accepted without proof: {insert:?}");
                }
            }
        }
    }
}

impl Insert {
    /// Returns the id that its sender was told.
    pub fn told_id(&self) -> Option<u64> {
        match self.state {
            State::Accepted(id) => Some(id),
            State::Declined(InsertOutcome::Conflict(newest)) => newest,
            _ => None,
        }
    }
}

/// Returns the id that an outcome tells of.
fn id_in(outcome: InsertOutcome) -> Option<u64> {
    match outcome {
        InsertOutcome::Stored(id) | InsertOutcome::Repeated(id) => Some(id),
        InsertOutcome::Conflict(newest) => newest,
        InsertOutcome::KeyReused => None,
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
