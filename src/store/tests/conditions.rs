//! Conditions and idempotency keys: requests have the outcomes of a model that carries them out one by one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::records::insert::{Condition, IdempotencyKey};
use crate::store::tables::idempotency::LIFETIME;

const NAMES: [&str; 3] = ["user", "order", "door"];
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// The time of ids when a test begins.
const BEGIN: u64 = 1_770_000_000_000_000;
const MINUTE: u64 = 60_000_000;

/// A store without threads, with its clock, and ids that follow this clock.
struct Manual {
    store: Store,
    manual: ManualStore,
    ids: Arc<Ids>,
    clock: Arc<ManualClock>,
}

impl Manual {
    fn new(location: &Location, micros: u64) -> Self {
        let mut opening = opening::open(location, small_limits(), &mut |_| false).unwrap();
        // A lock is noticed at once.
        opening.connections.writer.busy_timeout(Duration::ZERO).unwrap();
        let clock = Arc::new(ManualClock::default());
        clock.unix_micros.store(micros, Ordering::Relaxed);
        let newest = opening.ids_through.max(micros).into();
        let published = Mutex::new(std::mem::take(&mut opening.latest));
        let ids = Arc::new(Ids { newest, published, ..Ids::default() });
        let order = Box::new(Arc::clone(&ids));
        let (store, manual) = opening.start_manual(order, Clock::manual(Arc::clone(&clock))).unwrap();
        Self { store, manual, ids, clock }
    }

    /// Carries out a batch in one transaction.
    fn batch(&mut self, requests: impl IntoIterator<Item = InsertRequest>) -> Vec<Result<InsertOutcome, StoreError>> {
        let (sender, replies) = mpsc::channel();
        for request in requests {
            let sender = sender.clone();
            self.store.insert(request, move |result| sender.send(result).unwrap());
        }
        self.manual.step();
        replies.try_iter().collect()
    }

    fn one(&mut self, request: InsertRequest) -> InsertOutcome {
        self.batch([request])[0].unwrap()
    }

    fn pass(&self, micros: u64) {
        self.clock.advance(micros);
        self.ids.newest.fetch_max(self.clock.unix_micros.load(Ordering::Relaxed), Ordering::SeqCst);
    }
}

fn keyed(name: &str, key: &str) -> InsertRequest {
    InsertRequest { key: IdempotencyKey::new(key), ..plain(name, "1") }
}

fn conditional(name: &str, condition: Condition) -> InsertRequest {
    InsertRequest { condition, ..plain(name, "1") }
}

/// Carries out requests one by one.
#[derive(Default)]
struct Model {
    newest: HashMap<&'static str, u64>,
    keys: HashMap<&'static str, (u64, &'static str)>,
}

/// A request of the model, and which of the last ids its condition names.
#[derive(Clone, Debug)]
struct Step {
    name: &'static str,
    key: Option<&'static str>,
    condition: u8,
}

impl Step {
    fn condition(&self, model: &Model) -> Condition {
        let known: Vec<u64> = NAMES.iter().filter_map(|name| model.newest.get(name).copied()).collect();
        match self.condition {
            0 | 1 => Condition::Always,
            2 => Condition::Exists,
            3 => Condition::Absent,
            4 => Condition::NewestIs(known.into()),
            _ => Condition::NewestIs(model.newest.get(self.name).copied().into_iter().collect()),
        }
    }
}

impl Model {
    fn insert(&mut self, step: &Step, condition: &Condition, next: &mut u64) -> InsertOutcome {
        if let Some((id, name)) = step.key.and_then(|key| self.keys.get(key)) {
            return if *name == step.name { InsertOutcome::Repeated(*id) } else { InsertOutcome::KeyReused };
        }
        let newest = self.newest.get(step.name).copied();
        if !condition.holds(newest) {
            return InsertOutcome::Conflict(newest);
        }
        *next += 1;
        self.newest.insert(step.name, *next);
        if let Some(key) = step.key {
            self.keys.insert(key, (*next, step.name));
        }
        InsertOutcome::Stored(*next)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::weighted(0.3, prop::sample::select(&KEYS[..]));
    (prop::sample::select(&NAMES[..]), key, 0..7_u8).prop_map(|(name, key, condition)| Step { name, key, condition })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// The conditions of a batch name what was known before it. Between two batches the store may be killed.
    #[test]
    fn batches_are_judged_like_single_requests(
        batches in prop::collection::vec((prop::collection::vec(step(), 1..12), prop::bool::weighted(0.2)), 1..12),
    ) {
        let scratch = Scratch::new();
        let (mut rig, mut model) = (Manual::new(&scratch.location(), BEGIN), Model::default());
        for (steps, is_killed) in batches {
            if is_killed {
                drop(rig);
                rig = Manual::new(&scratch.location(), BEGIN);
            }
            let conditions: Vec<_> = steps.iter().map(|step| step.condition(&model)).collect();
            let mut next = rig.ids.newest.load(Ordering::SeqCst);
            let expected: Vec<_> = steps.iter().zip(&conditions)
                .map(|(step, condition)| Ok(model.insert(step, condition, &mut next)))
                .collect();
            let requests = steps.iter().zip(conditions).map(|(step, condition)| {
                let key = step.key.and_then(IdempotencyKey::new);
                InsertRequest { condition, key, ..plain(step.name, "1") }
            });
            prop_assert_eq!(rig.batch(requests), expected);
            prop_assert_eq!(rig.ids.newest.load(Ordering::SeqCst), next, "ids are reserved only for what is stored");
        }
    }
}

#[test]
fn a_batch_in_which_nothing_is_stored_has_no_transaction() {
    let mut rig = Manual::new(&Location::Memory, BEGIN);
    rig.one(keyed("user", "a"));
    let before = rig.store.status();
    let rejected = rig.batch([keyed("user", "a"), keyed("door", "a"), conditional("user", Condition::Absent)]);
    let id = BEGIN + 1;
    let outcomes = [InsertOutcome::Repeated(id), InsertOutcome::KeyReused, InsertOutcome::Conflict(Some(id))];
    assert_eq!(rejected, outcomes.map(Ok));
    let after = rig.store.status();
    assert_eq!((after.commits, after.records), (before.commits, before.records));
}

/// What the judgement depends on is not stored.
#[test]
fn rejected_requests_share_the_error_of_their_batch() {
    let scratch = Scratch::new();
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    rig.one(plain("user", "0"));
    let other = rusqlite::Connection::open(scratch.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let requests = || [keyed("door", "a"), keyed("door", "a"), conditional("door", Condition::Absent)];
    assert_eq!(rig.batch(requests()), [Err(StoreError::Locked); 3]);
    other.execute_batch("ROLLBACK").unwrap();
    // The lock is tried again after a second.
    rig.pass(1_000_000);
    rig.manual.step();
    let id = rig.ids.newest.load(Ordering::SeqCst) + 1;
    let outcomes = [InsertOutcome::Stored(id), InsertOutcome::Repeated(id), InsertOutcome::Conflict(Some(id))];
    assert_eq!(rig.batch(requests()), outcomes.map(Ok), "the key of a failed insert is not remembered");
}

#[test]
fn the_table_of_keys_is_created_with_the_first_key() {
    let scratch = Scratch::new();
    let has_table = || {
        let database = rusqlite::Connection::open(scratch.database()).unwrap();
        tables::schema::has_table(&database, "idempotency").unwrap()
    };
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    rig.one(plain("user", "1"));
    assert!(!has_table());
    rig.one(keyed("user", "a"));
    assert!(has_table());
    rig.manual.close(&rig.store);
    assert_eq!(contents(&scratch.0).len(), 2);
}

/// It may contain the name of a record that is erased before the key is forgotten.
#[test]
fn the_text_of_a_key_is_in_no_file() {
    let scratch = Scratch::new();
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    let first = rig.one(keyed("user", "create-ada-lovelace"));
    let has_text = || {
        let files = std::fs::read_dir(&scratch.0).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| memchr::memmem::find(&bytes, b"ada-lovelace").is_some())
    };
    assert!(!has_text());
    rig.manual.close(&rig.store);
    assert!(!has_text());
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    let InsertOutcome::Stored(id) = first else { panic!("it is new") };
    assert_eq!(rig.one(keyed("user", "create-ada-lovelace")), InsertOutcome::Repeated(id));
}

#[test]
fn a_key_is_remembered_for_24_hours_across_restarts() {
    let scratch = Scratch::new();
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    let InsertOutcome::Stored(first) = rig.one(keyed("user", "a")) else { panic!("it is new") };
    rig.pass(LIFETIME - MINUTE);
    assert_eq!(rig.one(keyed("user", "a")), InsertOutcome::Repeated(first));
    assert_eq!(rig.one(keyed("door", "a")), InsertOutcome::KeyReused);
    drop(rig);
    // After a crash the time of ids may be some seconds ahead of the clock.
    let mut rig = Manual::new(&scratch.location(), first + LIFETIME - MINUTE);
    rig.pass(MINUTE - 1);
    assert_eq!(rig.one(keyed("user", "a")), InsertOutcome::Repeated(first));
    rig.pass(1);
    let InsertOutcome::Stored(second) = rig.one(keyed("door", "a")) else { panic!("it has expired") };
    assert_eq!(rig.one(keyed("door", "a")), InsertOutcome::Repeated(second));
    assert_eq!(rows(&scratch), [second], "the first one's row is removed");
    drop(rig);
    let mut rig = Manual::new(&scratch.location(), second);
    assert_eq!(rig.one(keyed("door", "a")), InsertOutcome::Repeated(second));
}

/// Returns the ids of the keys in the table.
fn rows(scratch: &Scratch) -> Vec<u64> {
    let database = rusqlite::Connection::open(scratch.database()).unwrap();
    let mut statement = database.prepare("SELECT id FROM idempotency ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|id| id.unwrap().try_into().unwrap()).collect()
}

#[test]
fn keys_expire_in_slices() {
    let scratch = Scratch::new();
    let mut rig = Manual::new(&scratch.location(), BEGIN);
    let outcomes = rig.batch((0..1000).map(|number| keyed("user", &number.to_string())));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(InsertOutcome::Stored(_)))));
    rig.pass(MINUTE);
    rig.one(keyed("user", "young"));
    rig.pass(LIFETIME - MINUTE / 2);
    let mut left = vec![rows(&scratch).len()];
    while left.last().is_some_and(|count| *count > 1) {
        rig.manual.step();
        left.push(rows(&scratch).len());
        assert!(left.len() < 100, "{left:?}");
    }
    assert_eq!(left, [1001, 745, 489, 233, 1]);
    assert!(matches!(rig.one(keyed("user", "young")), InsertOutcome::Repeated(_)));
    assert!(matches!(rig.one(keyed("user", "7")), InsertOutcome::Stored(_)));
}
