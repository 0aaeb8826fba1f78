//! Index passes that a crash interrupts anywhere and the next start resumes.

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::store::tables::commit::{self, Names};
use crate::store::tables::idempotency::Keys;
use crate::store::tables::index::Index;
use crate::store::tables::recovery::recover;
use crate::store::tables::schema::{self, INDEXED_THROUGH};

#[derive(Clone, Debug)]
enum Step {
    /// Commits records of these names.
    Commit(Vec<u32>),
    Begin,
    Slice(usize),
    /// Forgets everything that is not in the database.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..12_u32, 1..40).prop_map(Step::Commit),
        2 => Just(Step::Begin),
        4 => (1..20_usize).prop_map(Step::Slice),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn every_version_is_indexed_once(steps in prop::collection::vec(step(), 1..40)) {
        let data_dir = DataDir::acquire(&Location::Memory).unwrap();
        let mut connection = opening::connect_writer(&data_dir).unwrap();
        let clock = Clock::new();
        let (mut names, mut index, mut all) = (Names::default(), Index::default(), Vec::<Record>::new());
        for step in steps {
            match step {
                Step::Commit(batch) => {
                    let first = all.len() as u64 * 3 + 1;
                    let record = |(id, name)| Record { id, name: format!("name{name}").into(), data: "1".into() };
                    let mut records: Vec<_> = (first..).zip(batch).map(record).collect();
                    index.add(&commit::commit(&mut connection, &mut names, &mut records, (&Keys::new(0), &[]), None).unwrap());
                    all.extend(records);
                }
                Step::Begin => index.begin_pass(),
                Step::Slice(versions) => drop(index.run_slice(&mut connection, versions, &clock, &|| true).unwrap()),
                Step::Crash => {
                    let recovered = recover(&connection).unwrap();
                    (names, index) = (recovered.names, Index::new(recovered.unindexed));
                }
            }
            let recovered = recover(&connection).unwrap();
            prop_assert_eq!(&recovered.latest, &latest_of(&all));
            let through = schema::meta(&connection, INDEXED_THROUGH).unwrap();
            let versions: i64 = connection
                .query_row("SELECT count(*) FROM versions WHERE id <= ?1", [through], |row| row.get(0))
                .unwrap();
            prop_assert_eq!(versions as usize, all.iter().filter(|record| record.id as i64 <= through).count());
        }
        index.complete(&mut connection, &clock).unwrap();
        prop_assert_eq!(recover(&connection).unwrap().unindexed.len(), 0);
        let versions: i64 = connection.query_row("SELECT count(*) FROM versions", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(versions as usize, all.len());
    }
}

#[test]
fn the_index_keeps_up() {
    let data_dir = DataDir::acquire(&Location::Memory).unwrap();
    let mut connection = opening::connect_writer(&data_dir).unwrap();
    let (clock, mut names, mut index) = (Clock::new(), Names::default(), Index::default());
    let mut id = 0;
    for _ in 0..1000 {
        let record = |id| Record { id, name: format!("name{}", id % 10).into(), data: "1".into() };
        let mut records: Vec<_> = (id + 1..=id + 50).map(record).collect();
        id += 50;
        index.add(&commit::commit(&mut connection, &mut names, &mut records, (&Keys::new(0), &[]), None).unwrap());
        if index.pending() >= 500 {
            index.begin_pass();
        }
        index.run_slice(&mut connection, 1, &clock, &|| true).unwrap();
        assert!(index.unindexed() <= 500 + 2 * 50, "{}", index.unindexed());
    }
}

#[test]
fn a_failed_commit_leaves_no_names() {
    let data_dir = DataDir::acquire(&Location::Memory).unwrap();
    let mut connection = opening::connect_writer(&data_dir).unwrap();
    let mut names = Names::default();
    let record = |id, name: &str| Record { id, name: name.into(), data: "1".into() };
    commit::commit(&mut connection, &mut names, &mut [record(1, "one")], (&Keys::new(0), &[]), None).unwrap();
    let mut again = [record(2, "two"), record(3, "three"), record(1, "four")];
    assert!(commit::commit(&mut connection, &mut names, &mut again, (&Keys::new(0), &[]), Some(77)).is_err());
    assert_eq!(names.len(), 1);
    commit::commit(
        &mut connection,
        &mut names,
        &mut [record(4, "three"), record(5, "two")],
        (&Keys::new(0), &[]),
        None,
    )
    .unwrap();
    let recovered = recover(&connection).unwrap();
    let latest: Vec<_> = recovered.latest.iter().map(|record| (record.id, &*record.name)).collect();
    assert_eq!(latest, [(1, "one"), (4, "three"), (5, "two")]);
    assert_eq!(recovered.mark.ids_through(), 5);
}
