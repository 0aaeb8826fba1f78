//! Retention, compared with a naive list of what must remain.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::records::retention::Retention;
use crate::store::tables::Tables;
use crate::store::tables::recovery::recover;
use crate::store::tables::schema::{self, PRUNING};

const SECOND: u64 = 1_000_000;

fn keep(versions: u64) -> Retention {
    Retention { versions: NonZeroU64::new(versions), age: None }
}

#[derive(Clone, Debug)]
enum Step {
    /// Commits records of these names.
    Commit(Vec<u32>),
    Begin,
    Index(usize),
    /// Removes about this many rows at most.
    Tidy(usize),
    /// This many milliseconds pass.
    Wait(u64),
    /// Forgets everything that is not in the database, and starts again with another retention.
    Crash(Retention),
}

fn retention() -> impl Strategy<Value = Retention> {
    let versions = prop_oneof![Just(0), 1..4_u64];
    let age = prop::option::of((1..4_u64).prop_map(Duration::from_secs));
    (versions, age).prop_map(|(versions, age)| Retention { versions: NonZeroU64::new(versions), age })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..6_u32, 1..40).prop_map(Step::Commit),
        2 => Just(Step::Begin),
        4 => (1..20_usize).prop_map(Step::Index),
        6 => (1..20_usize).prop_map(Step::Tidy),
        1 => (0..2000_u64).prop_map(Step::Wait),
        1 => retention().prop_map(Step::Crash),
    ]
}

/// The tables, and everything that was ever committed to them.
struct Model {
    data_dir: DataDir,
    tables: Tables,
    manual: Arc<ManualClock>,
    retention: Retention,
    all: Vec<Record>,
}

impl Model {
    fn new(retention: Retention) -> Self {
        let data_dir = DataDir::acquire(&Location::Memory).unwrap();
        let manual = Arc::new(ManualClock::default());
        manual.advance(100 * SECOND);
        let tables = Self::open(&data_dir, retention, &manual);
        Self { data_dir, tables, manual, retention, all: Vec::new() }
    }

    fn open(data_dir: &DataDir, retention: Retention, manual: &Arc<ManualClock>) -> Tables {
        let connection = opening::connect_writer(data_dir).unwrap();
        let recovered = recover(&connection).unwrap();
        let clock = Clock::manual(Arc::clone(manual));
        let mut tables = Tables::new(connection, recovered.names, recovered.unindexed, clock);
        tables.retain(retention, 8).unwrap();
        tables
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Commit(names) => self.commit(names),
            Step::Begin => self.tables.begin_indexing(),
            Step::Index(versions) => self.tables.index_slice(versions, &|| true).unwrap(),
            Step::Tidy(rows) => self.tables.tidy(rows, &|| true).unwrap(),
            Step::Wait(millis) => self.manual.advance(millis * 1000),
            Step::Crash(retention) => {
                self.retention = retention;
                self.tables = Self::open(&self.data_dir, retention, &self.manual);
            }
        }
    }

    fn commit(&mut self, names: Vec<u32>) {
        let now = self.tables.clock().now().id_micros;
        let first = self.all.last().map_or(0, |last| last.id).max(now) + 1;
        let record = |(id, name)| Record { id, name: format!("name{name}").into(), data: "1".into() };
        let mut records: Vec<_> = (first..).zip(names).map(record).collect();
        self.tables.commit(&mut records, &[], None).unwrap();
        self.all.extend(records);
    }

    /// Returns whether the retention allows to remove a record.
    fn is_surplus(&self, record: &Record, retention: Retention) -> bool {
        let newer = self.all.iter().filter(|other| other.name == record.name && other.id > record.id).count() as u64;
        let exceeds = retention.versions.is_some_and(|versions| newer >= versions.get());
        let limit = retention.age.map(|age| self.tables.clock().now().id_micros - age.as_micros() as u64);
        exceeds || newer > 0 && limit.is_some_and(|limit| record.id <= limit)
    }

    fn ids(&self, sql: &str) -> Vec<u64> {
        let mut statement = self.tables.connection().prepare(sql).unwrap();
        let ids = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        ids.map(|id| id.unwrap() as u64).collect()
    }

    fn records(&self) -> Vec<u64> {
        self.ids("SELECT id FROM records ORDER BY id")
    }

    /// Checks what is always true. `ever` are all retentions so far.
    fn check(&self, ever: &[Retention]) {
        let found = self.records();
        for record in &self.all {
            let is_there = found.binary_search(&record.id).is_ok();
            let may_go = ever.iter().any(|retention| self.is_surplus(record, *retention));
            assert!(is_there || may_go, "{record:?} is gone");
        }
        assert_eq!(recover(self.tables.connection()).unwrap().latest, latest_of(&self.all));
        let torn = self.ids("SELECT id FROM versions WHERE id NOT IN (SELECT id FROM records)");
        assert!(torn.is_empty() || schema::has_meta(self.tables.connection(), PRUNING).unwrap(), "{torn:?}");
        let through = schema::meta(self.tables.connection(), schema::INDEXED_THROUGH).unwrap() as u64;
        let indexed = self.ids("SELECT id FROM versions ORDER BY id");
        let mut through_mark = found.iter().take_while(|id| **id <= through);
        assert!(through_mark.all(|id| indexed.binary_search(id).is_ok()), "{found:?} {indexed:?}");
    }

    /// Removes everything that can be removed. Checks that this is what the retention says.
    fn complete(&mut self) {
        while self.tables.unindexed() > 0 {
            self.tables.begin_indexing();
            self.tables.index_slice(usize::MAX, &|| false).unwrap();
        }
        self.manual.advance(SECOND);
        while self.tables.must_tidy() {
            self.tables.tidy(50, &|| false).unwrap();
        }
        let found = self.records();
        for record in &self.all {
            let is_there = found.binary_search(&record.id).is_ok();
            assert!(!is_there || !self.is_surplus(record, self.retention), "{record:?} is still there");
        }
        assert_eq!(self.ids("SELECT id FROM versions ORDER BY id"), found);
        assert!(!schema::has_meta(self.tables.connection(), PRUNING).unwrap());
        assert!(self.tables.pages().1 <= 10, "{:?} pages, and free ones", self.tables.pages());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_exceeds_the_retention_is_removed_and_nothing_else(
        first in retention(),
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let (mut model, mut ever) = (Model::new(first), vec![first]);
        for step in steps {
            model.run(step);
            ever.push(model.retention);
            model.check(&ever);
        }
        model.complete();
        model.check(&ever);
    }
}

#[test]
fn no_entry_of_an_interrupted_pass_outlives_its_record() {
    let mut model = Model::new(Retention::default());
    model.commit(vec![0; 6]);
    for step in [Step::Begin, Step::Index(1), Step::Crash(keep(1)), Step::Begin, Step::Index(3)] {
        model.run(step);
        model.check(&[model.retention]);
    }
    model.complete();
    assert_eq!(model.records().len(), 1);
}

#[test]
fn many_names_and_versions_are_removed_in_several_batches() {
    let mut model = Model::new(keep(2));
    // More versions of one name than are collected at a time.
    for round in 0..12 {
        model.commit((0..1000).map(|number| if number % 2 == 0 { 7 } else { 100 + (number + round) % 50 }).collect());
    }
    model.tables.retain(Retention::default(), 8).unwrap();
    model.tables.index_all().unwrap();
    assert_eq!(model.records().len(), 12_000);
    model.tables.retain(keep(2), 8).unwrap();
    model.complete();
    assert_eq!(model.records().len(), 2 * 51);
    assert_eq!(model.tables.pruned(), 12_000 - 2 * 51);
}

/// Returns a store without threads, with everything that it contains indexed.
fn manual(location: &Location, tuning: Tuning) -> (Store, ManualStore, Arc<ManualClock>) {
    let opening = Store::open_tuned(location, tuning).unwrap();
    let ids = Arc::new(Ids { newest: opening.ids_through.into(), ..Ids::default() });
    let clock = Arc::new(ManualClock::default());
    let (store, manual) = opening.start_manual(Box::new(ids), Clock::manual(Arc::clone(&clock))).unwrap();
    (store, manual, clock)
}

fn fill(location: &Location, records: usize) {
    let rig = Rig::with(location, small_limits());
    let names: Vec<_> = (0..records).map(|number| format!("name{}", number % 3)).collect();
    rig.insert_all(names.iter().map(|name| (name.as_str(), "1".to_owned())));
    rig.store.close();
}

#[test]
fn pages_are_right_while_versions_are_removed() {
    let scratch = Scratch::new();
    fill(&scratch.location(), 900);
    let tuning = Tuning { retention: keep(20), prune_slice: 11, page_rows: 7, ..small_limits() };
    let (store, mut manual, clock) = manual(&scratch.location(), tuning);
    let (mut after, mut ids, mut pages) = (0, Vec::new(), 0);
    loop {
        let (sender, reply) = mpsc::channel();
        let query = PageQuery { name: "name1".into(), after, limit: 25 };
        let reservation = PageBudget::default().reserve(Client::Local).unwrap();
        store.read_history(query, Client::Local, reservation, move |page| sender.send(page.unwrap().0).unwrap());
        let page = loop {
            manual.step();
            clock.advance(1000);
            if let Ok(page) = reply.try_recv() {
                break page;
            }
        };
        ids.extend(
            page.body.split("_v_").skip(1).map(|entry| entry.split('"').next().unwrap().parse::<u64>().unwrap()),
        );
        pages += 1;
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    assert!(pages > 2 && store.status().pruned > 100, "{pages} pages, {:?}", store.status());
    // The newest 20 of this name's 300 versions are never removed.
    let newest: Vec<u64> = (280..300).map(|number| number * 3 + 2).collect();
    assert!(ids.ends_with(&newest), "{ids:?}");
    manual.close(&store);
    assert!(contents(&scratch.0).len() >= 60);
}

static FREE_BYTES: AtomicU64 = AtomicU64::new(0);

#[test]
fn nothing_is_removed_while_the_disk_is_short_of_space() {
    let scratch = Scratch::new();
    fill(&scratch.location(), 300);
    let space_probe = |_: &disk::location::Database| Some(FREE_BYTES.load(Ordering::SeqCst));
    let (store, mut manual, clock) =
        manual(&scratch.location(), Tuning { retention: keep(5), space_probe, ..small_limits() });
    let mut run = |steps| {
        (0..steps).for_each(|_| {
            manual.step();
            clock.advance(300_000);
        });
        store.status()
    };
    let status = run(20);
    assert_eq!((status.pruned, status.health), (0, Health::Ready));
    FREE_BYTES.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(run(20).pruned, 285);
    FREE_BYTES.store(0, Ordering::SeqCst);
}

#[test]
fn a_database_gets_smaller_when_versions_are_removed() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let data = format!("\"{}\"", "x".repeat(1000));
    rig.insert_all((0..4000).map(|number| (["one", "two"][number % 2], data.clone())));
    rig.store.close();
    let size = || std::fs::metadata(scratch.database()).unwrap().len();
    let before = size();
    let rig = Rig::with(&scratch.location(), Tuning { retention: keep(10), free_pages: 16, ..Tuning::default() });
    let begin = std::time::Instant::now();
    while rig.store.status().pruned < 3980 || rig.store.status().database_bytes > 200_000 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", rig.store.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.store.close();
    assert!(before > 4_000_000 && size() < 200_000, "{before}, then {}", size());
    assert_eq!(contents(&scratch.0).len(), 20);
    assert_eq!(Rig::new(&scratch.location()).latest.len(), 2);
}

#[test]
fn a_database_of_an_older_version_frees_space_for_itself() {
    let scratch = Scratch::new();
    let mut connection = rusqlite::Connection::open(scratch.database()).unwrap();
    schema::create(&mut connection).unwrap();
    drop(connection);
    fill(&scratch.location(), 300);
    let rig = Rig::with(&scratch.location(), Tuning { retention: keep(5), free_pages: 0, ..small_limits() });
    while rig.store.status().pruned < 285 {
        std::thread::sleep(Duration::from_millis(10));
    }
    rig.store.close();
    assert_eq!(contents(&scratch.0).len(), 15);
}
