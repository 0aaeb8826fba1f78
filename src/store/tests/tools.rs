//! Check, dump and load.

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::records::progress::Silent;
use crate::records::report::Report;

fn dumped(directory: &Path, name: Option<&str>) -> String {
    let mut lines = Vec::new();
    dump(directory, name, &mut lines, &Silent).unwrap();
    String::from_utf8(lines).unwrap()
}

fn loaded(directory: &Path, lines: &str) -> Result<u64, String> {
    load(directory, &mut lines.as_bytes(), &Silent).map_err(|error| error.to_string())
}

#[test]
fn a_dump_is_lines_of_json() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let one = rig.insert("user", r#"{"a":1,"a":2}"#).unwrap();
    let two = rig.insert("a\"b}", "1e400").unwrap();
    let lines = [
        format!("{{\"id\":\"{one}\",\"event\":\"user\",\"data\":{{\"a\":1,\"a\":2}}}}\n"),
        format!("{{\"id\":\"{two}\",\"event\":\"a\\\"b}}\",\"data\":1e400}}\n"),
    ];
    assert_eq!(dumped(&scratch.0, None), lines.concat(), "while the store is running");
    assert_eq!(dumped(&scratch.0, Some("user")), lines[0]);
    assert_eq!(dumped(&scratch.0, Some("nobody")), "");
    rig.store.close();
    assert_eq!(dumped(&scratch.0, None), lines.concat());
    let report = check(&scratch.0, &Silent).unwrap();
    assert_eq!(report, Report { records: 2, names: 2, newest: two, problems: Vec::new() });
    assert_eq!(report.to_string(), format!("records: 2, names: 2, newest id: {two}; no problems found"));
}

#[test]
fn a_load_appends_to_existing_records() {
    let scratch = Scratch::new();
    let line = |id: &str, rest: &str| format!("{{\"id\":\"{id}\",\"event\":\"user\",\"data\":1{rest}}}\n");
    assert_eq!(loaded(&scratch.0, &(line("5", "") + "\n" + &line("9", ""))), Ok(2));
    assert_eq!(loaded(&scratch.0, line("11", "").trim_end()), Ok(1));
    for (lines, message) in [
        (line("11", ""), "line 1: id 11 is not larger than the newest id, 11"),
        (line("12", "") + &line("12", ""), "line 2: id 12 is not larger than the newest id, 12"),
        (line("0", ""), "line 1: \"0\" is not an id"),
        (line("9223372036854775808", ""), "line 1: \"9223372036854775808\" is not an id"),
        (line("x", ""), "line 1: \"x\" is not an id"),
        (line("+20", ""), "line 1: \"+20\" is not an id"),
        (line("020", ""), "line 1: \"020\" is not an id"),
        (line("9223372036854775807", ""), "line 1: id 9223372036854775807 is more than a day ahead"),
        (
            line("20", "").replace(":1}", &format!(":{}{}}}", "[".repeat(129), "]".repeat(129))),
            "line 1: the data is nested",
        ),
        (line("20", ",\"more\":1"), "line 1: this is not a line written by esker dump: unknown field `more`"),
        (line("20", "}"), "line 1: this is not a line written by esker dump"),
        ("{\"id\":\"20\",\"event\":\"\",\"data\":1}".into(), "line 1: the name is empty"),
        ("{\"id\":\"20\",\"event\":\"a\\nb\",\"data\":1}".into(), "line 1: the name has a control character"),
        ("\u{1}".into(), "line 1: this is not a line written by esker dump"),
    ] {
        let error = loaded(&scratch.0, &lines).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
    let ids: Vec<_> = contents(&scratch.0).iter().map(|record| record.id).collect();
    assert_eq!(ids, [5, 9, 11, 12], "records before a bad line are stored");
    // Whitespace is removed, because line breaks would split the data lines of a stream.
    assert_eq!(loaded(&scratch.0, &line("13", "").replace(":1}", ":[1,\r\t2 ]}")), Ok(1));
    assert_eq!(contents(&scratch.0).last().map(|record| record.data.to_string()).as_deref(), Some("[1,2]"));
    let rig = Rig::new(&scratch.location());
    assert_eq!(rig.ids_through, 13);
    assert_eq!(rig.insert("user", "2"), Ok(14));
}

#[test]
fn a_load_after_an_erasure_takes_only_newer_ids() {
    let scratch = Scratch::new();
    let line = |id: u64| format!("{{\"id\":\"{id}\",\"event\":\"other\",\"data\":1}}\n");
    let rig = Rig::new(&scratch.location());
    rig.insert("other", "1").unwrap();
    let newest = rig.insert("user", "2").unwrap();
    assert_eq!(rig.erase("user", None), Ok(1));
    let erasure = rig.ids.erased.lock().unwrap()[0].1;
    rig.store.close();
    for id in [newest, erasure] {
        let error = loaded(&scratch.0, &line(id)).unwrap_err();
        assert!(error.starts_with(&format!("line 1: id {id} is not larger than the newest id, {erasure};")), "{error}");
    }
    assert_eq!(loaded(&scratch.0, ""), Ok(0));
    let ids_through = Store::open(&scratch.location()).unwrap().ids_through;
    assert!(ids_through >= erasure, "{ids_through}: the id of the erasure is not assigned again");
    assert_eq!(loaded(&scratch.0, &line(erasure + 1)), Ok(1));
    assert_eq!(contents(&scratch.0).len(), 2);
}

#[test]
fn check_and_dump_create_nothing() {
    let scratch = Scratch::new();
    let nowhere = scratch.0.join("nowhere");
    for directory in [&scratch.0, &nowhere] {
        let errors = [
            check(directory, &Silent).unwrap_err().to_string(),
            dump(directory, None, &mut Vec::new(), &Silent).unwrap_err().to_string(),
        ];
        assert!(errors.iter().all(|error| error.contains("has no records")), "{errors:?}");
    }
    assert!(!nowhere.exists());
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn a_check_finds_inconsistencies() {
    for (sql, what) in [
        ("DELETE FROM versions WHERE id % 7 = 0", "records missing from the index"),
        ("INSERT INTO versions VALUES (1, 77777)", "1 versions in the index without a record"),
        ("DELETE FROM records WHERE id = 1", "1 versions in the index without a record"),
        ("DELETE FROM records WHERE id = 99", "record 99 does not exist"),
        ("DELETE FROM records WHERE id % 3 = 0", "record 99 does not exist"),
        (
            "INSERT INTO meta VALUES ('pruning', 1); DELETE FROM records WHERE id IN (1, 7)",
            "1 versions in the index without a record",
        ),
        (
            "INSERT INTO meta VALUES ('pruning', 1); DELETE FROM records WHERE id % 3 = 0",
            "33 versions in the index without a record",
        ),
        ("UPDATE versions SET name = 2 WHERE name = 1", "versions in the index without a record"),
        ("UPDATE names SET latest = (SELECT min(id) FROM records) WHERE key = 1", "is not the newest of its name"),
        ("UPDATE records SET data = '{' WHERE id = 5", "record 5 is not valid JSON"),
        ("UPDATE records SET id = -5 WHERE id = 5", "1 records with an invalid id"),
        ("UPDATE names SET name = char(10) WHERE key = 1", "control character"),
        (
            "UPDATE meta SET value = 99999 WHERE key = 'indexed_through'",
            "the index refers to records that do not exist",
        ),
    ] {
        let scratch = Scratch::new();
        let lines: Vec<_> =
            (1..100).map(|id| format!("{{\"id\":\"{id}\",\"event\":\"n{}\",\"data\":{id}}}\n", id % 3)).collect();
        assert_eq!(loaded(&scratch.0, &lines.concat()), Ok(99));
        Connection::open(scratch.database()).unwrap().execute_batch(sql).unwrap();
        let report = check(&scratch.0, &Silent).unwrap();
        assert!(report.problems.iter().any(|problem| problem.contains(what)), "{sql}: {report}");
    }
}

#[test]
fn a_check_accepts_versions_that_are_being_removed() {
    let scratch = Scratch::new();
    let lines: Vec<_> =
        (1..100).map(|id| format!("{{\"id\":\"{id}\",\"event\":\"n{}\",\"data\":{id}}}\n", id % 3)).collect();
    assert_eq!(loaded(&scratch.0, &lines.concat()), Ok(99));
    let torn = "INSERT INTO meta VALUES ('pruning', 1); DELETE FROM records WHERE id IN (1, 2, 4, 5)";
    Connection::open(scratch.database()).unwrap().execute_batch(torn).unwrap();
    assert_eq!(contents(&scratch.0).len(), 95);
    // The next start removes the rest of them, even without a limit.
    let rig = Rig::new(&scratch.location());
    let has_rest = |path: &Path| {
        let sql = "SELECT count(*) FROM versions WHERE id IN (1, 2, 4, 5)";
        Connection::open(path).unwrap().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    while has_rest(&scratch.database()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(rig.store.status().pruned, 0);
    rig.store.close();
    assert_eq!(contents(&scratch.0).len(), 95);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_loaded_dump_is_identical(records in prop::collection::vec((0..3_u64, any::<String>(), any::<String>()), 0..40)) {
        let (one, other) = (Scratch::new(), Scratch::new());
        let rig = Rig::with(&one.location(), small_limits());
        for (skipped, name, text) in records.iter().filter(|(_, name, _)| check_name(name).is_ok()) {
            rig.ids.newest.fetch_add(*skipped, Ordering::SeqCst);
            rig.insert(name, &serde_json::Value::from(text.as_str()).to_string()).unwrap();
        }
        rig.store.close();
        let lines = dumped(&one.0, None);
        prop_assert_eq!(loaded(&other.0, &lines), Ok(rig.published().len() as u64));
        prop_assert_eq!(&dumped(&other.0, None), &lines);
        prop_assert_eq!(contents(&other.0), rig.published());
        prop_assert_eq!(Rig::new(&other.location()).latest, latest_of(&rig.published()));
    }
}
