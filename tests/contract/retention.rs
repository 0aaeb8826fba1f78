//! Retention: `--versions` and `--versions-age` remove old versions of records for good, never the newest one, and the database
//! gets smaller.

use std::process::Stdio;

use super::records::insert;
use super::storage::{data_path, database, start_broker, versions};
use super::support::{Broker, TempDir, command, run};

fn start(dir: &TempDir, options: &[&str]) -> Broker {
    let path = data_path(dir);
    Broker::start(&[&["--data", path.as_str()], options].concat())
}

/// Waits until the broker has removed this many versions.
fn await_pruned(broker: &Broker, count: u64) {
    broker.wait_for("versions are removed", |stats| stats["store_pruned"] == count);
}

#[test]
fn a_restart_with_a_limit_leaves_the_newest_versions() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids: Vec<u64> = (0..30).map(|number| insert(&broker, ["a", "b"][number % 2], &number.to_string())).collect();
    let single = insert(&broker, "single", "1");
    assert_eq!(versions(&broker, "a").len(), 15);
    drop(broker);

    let broker = start(&dir, &["--versions", "10"]);
    await_pruned(&broker, 10);
    drop(broker);
    let broker = start(&dir, &["--versions", "4"]);
    await_pruned(&broker, 12);
    let of_a: Vec<u64> = versions(&broker, "a").into_iter().map(|version| version.0).collect();
    assert_eq!(of_a, [22, 24, 26, 28].map(|number| ids[number]));
    assert_eq!(versions(&broker, "single"), [(single, "1".to_owned())]);
    // Pages continue after a version that is gone.
    let page = broker.get(&format!("/audit/b?after={}&limit=2", ids[1]));
    assert_eq!(page.field("Link"), Some(&*format!("</audit/b?after={}&limit=2>; rel=\"next\"", ids[25])));
    // A position that is gone is in doubt.
    let mut stream = broker.subscribe("/events", &format!("Last-Event-ID: {}\r\n", ids[0]));
    assert_eq!(stream.event().name.as_deref(), Some("gap"));
    assert_eq!([0; 3].map(|_| stream.event().number()), [ids[28], ids[29], single]);

    // New versions supersede old ones.
    let newer: Vec<u64> = (0..6).map(|number| insert(&broker, "single", &number.to_string())).collect();
    await_pruned(&broker, 12 + 3);
    assert_eq!(versions(&broker, "single").last().map(|version| version.0), newer.last().copied());
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let (code, _, report) = run(&["check", &data_path(&dir)], &[]);
    assert_eq!((code, report.contains("records: 12, names: 3, ")), (Some(0), true), "{report}");
}

#[test]
fn old_versions_are_removed_except_for_the_newest() {
    let dir = TempDir::new();
    let broker = start(&dir, &["--versions-age", "300ms"]);
    let ids: Vec<u64> = (0..5).map(|number| insert(&broker, "a", &number.to_string())).collect();
    await_pruned(&broker, 4);
    assert_eq!(versions(&broker, "a"), [(ids[4], "4".to_owned())]);
    let newer = insert(&broker, "a", "5");
    await_pruned(&broker, 5);
    assert_eq!(versions(&broker, "a"), [(newer, "5".to_owned())]);
}

#[test]
fn the_database_gets_smaller() {
    let dir = TempDir::new();
    let path = data_path(&dir);
    let data = "x".repeat(2000);
    let line = |id| format!("{{\"id\":\"{id}\",\"event\":\"name{}\",\"data\":\"{data}\"}}\n", id % 3);
    let lines: String = (1..12_000).map(line).collect();
    let dump = dir.path.join("dump");
    std::fs::write(&dump, lines).expect("a file can be written");
    let input = Stdio::from(std::fs::File::open(&dump).expect("it is there"));
    let loaded = command(&[]).args(["load", &path]).stdin(input).output().expect("it runs");
    assert!(loaded.status.success(), "{loaded:?}");
    let size = || std::fs::metadata(database(&dir)).expect("it is there").len();
    let before = size();
    let broker = start(&dir, &["--versions", "1"]);
    await_pruned(&broker, 11_996);
    // 8 MiB stay free for new records.
    broker.wait_for("pages are given back", |stats| stats["store_database_bytes"].as_u64() < Some(12 << 20));
    assert_eq!(versions(&broker, "name0"), [(11_997, format!("\"{data}\""))]);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    assert!(before > 20 << 20 && size() < 12 << 20, "{before}, then {}", size());
}

#[test]
fn the_start_names_the_limits_and_an_old_database() {
    let dir = TempDir::new();
    drop(start_broker(&dir));
    let database = rusqlite::Connection::open(database(&dir)).expect("a database");
    database
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM;")
        .expect("it is rewritten");
    drop(database);
    let (path, mut log) = (data_path(&dir), String::new());
    let options = ["--data", &path, "--versions", "3", "--versions-age", "48h"];
    let _broker = Broker::start_reading_log(&options, &mut log);
    assert!(log.contains("--versions 3, --versions-age 172800s"), "{log}");
    assert!(log.contains("an older version created the database in "), "{log}");
}
