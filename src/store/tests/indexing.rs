//! Passes of the index that end early, anywhere, and are taken up by the next start.

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::store::commit::{self, Names};
use crate::store::index::Index;
use crate::store::opening::find;
use crate::store::schema::{self, INDEXED_THROUGH};

#[derive(Clone, Debug)]
enum Act {
    /// Records of these names.
    Commit(Vec<u32>),
    Begin,
    Slice(usize),
    /// All that is not in the database is forgotten.
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(0..12_u32, 1..40).prop_map(Act::Commit),
        2 => Just(Act::Begin),
        4 => (1..20_usize).prop_map(Act::Slice),
        1 => Just(Act::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_is_lost_or_double(acts in prop::collection::vec(act(), 1..40)) {
        let home = DataDir::take(&Location::Memory).unwrap();
        let mut connection = opening::writer(&home).unwrap();
        let clock = Clock::new();
        let (mut names, mut index, mut all) = (Names::default(), Index::default(), Vec::<Record>::new());
        for act in acts {
            match act {
                Act::Commit(batch) => {
                    let first = all.len() as u64 * 3 + 1;
                    let record = |(id, name)| Record { id, name: format!("name{name}").into(), data: "1".into() };
                    let mut records: Vec<_> = (first..).zip(batch).map(record).collect();
                    index.add(&commit::commit(&mut connection, &mut names, &mut records, None).unwrap());
                    all.extend(records);
                }
                Act::Begin => index.begin(),
                Act::Slice(least) => index.slice(&mut connection, least, &clock).unwrap(),
                Act::Crash => {
                    let found = find(&connection).unwrap();
                    (names, index) = (found.names, Index::new(found.unindexed));
                }
            }
            let found = find(&connection).unwrap();
            prop_assert_eq!(&found.latest, &latest_of(&all));
            let through = schema::meta(&connection, INDEXED_THROUGH).unwrap();
            let versions: i64 = connection
                .query_row("SELECT count(*) FROM versions WHERE id <= ?1", [through], |row| row.get(0))
                .unwrap();
            prop_assert_eq!(versions as usize, all.iter().filter(|record| record.id as i64 <= through).count());
        }
        index.complete(&mut connection, &clock).unwrap();
        prop_assert_eq!(find(&connection).unwrap().unindexed.len(), 0);
        let versions: i64 = connection.query_row("SELECT count(*) FROM versions", [], |row| row.get(0)).unwrap();
        prop_assert_eq!(versions as usize, all.len());
    }
}

#[test]
fn the_index_keeps_up() {
    let home = DataDir::take(&Location::Memory).unwrap();
    let mut connection = opening::writer(&home).unwrap();
    let (clock, mut names, mut index) = (Clock::new(), Names::default(), Index::default());
    let mut id = 0;
    for _ in 0..1000 {
        let record = |id| Record { id, name: format!("name{}", id % 10).into(), data: "1".into() };
        let mut records: Vec<_> = (id + 1..=id + 50).map(record).collect();
        id += 50;
        index.add(&commit::commit(&mut connection, &mut names, &mut records, None).unwrap());
        if index.waiting() >= 500 {
            index.begin();
        }
        index.slice(&mut connection, 1, &clock).unwrap();
        assert!(index.behind() <= 500 + 2 * 50, "{}", index.behind());
    }
}

#[test]
fn a_commit_that_fails_leaves_no_names() {
    let home = DataDir::take(&Location::Memory).unwrap();
    let mut connection = opening::writer(&home).unwrap();
    let mut names = Names::default();
    let record = |id, name: &str| Record { id, name: name.into(), data: "1".into() };
    commit::commit(&mut connection, &mut names, &mut [record(1, "one")], None).unwrap();
    let mut again = [record(2, "two"), record(3, "three"), record(1, "four")];
    assert!(commit::commit(&mut connection, &mut names, &mut again, Some(77)).is_err());
    assert_eq!(names.len(), 1);
    commit::commit(&mut connection, &mut names, &mut [record(4, "three"), record(5, "two")], None).unwrap();
    let found = find(&connection).unwrap();
    let latest: Vec<_> = found.latest.iter().map(|record| (record.id, &*record.name)).collect();
    assert_eq!(latest, [(1, "one"), (4, "three"), (5, "two")]);
    assert_eq!(found.mark.ids_through(), 5);
}
