//! Backups: copies of a running store, dumps, and positions that a restored copy lacks.

use rusqlite::Connection as Database;
use serde_json::Value;

use super::records::insert;
use super::storage::{data_path, database, start_broker, versions};
use super::support::{Broker, TempDir, command, run};

/// An id that a client has seen but a restored backup lacks is unknown, whatever has been inserted since.
#[test]
fn a_position_missing_in_a_restored_backup_gets_a_gap() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let first = insert(&broker, "user", "1");
    let no_record =
        broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let superseded = insert(&broker, "user", "2");
    let kept = insert(&broker, "user", "3");
    let copy = dir.path.join("copy.db");
    let live = Database::open(database(&dir)).expect("it opens");
    live.execute("VACUUM INTO ?1", [copy.to_str().expect("UTF-8")]).expect("it is copied");
    drop(live);
    let lost = insert(&broker, "user", "4");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let database_path = database(&dir);
    std::fs::remove_dir_all(dir.path.join("data")).expect("the directory can be removed");
    std::fs::create_dir(dir.path.join("data")).expect("the directory can be made");
    std::fs::rename(copy, database_path).expect("it is restored");
    let broker = Broker::start(&["--data", &data_path(&dir), "--heartbeat", "1h"]);
    let after = |id: u64| broker.subscribe("/events", &format!("Last-Event-ID: {id}\r\n"));
    let assert_unknown = |id: u64, newest: &[u64]| {
        let mut stream = after(id);
        let gap = stream.event();
        let gap_data: Value = serde_json::from_str(&gap.data.expect("data")).expect("JSON");
        assert_eq!((gap.name.as_deref(), gap_data["after"].as_str()), (Some("gap"), Some(id.to_string().as_str())));
        assert_eq!(gap_data["oldest"].as_str(), Some(newest[0].to_string().as_str()));
        newest.iter().for_each(|id| assert_eq!(stream.event().number(), *id));
    };
    assert_unknown(lost, &[kept]);
    let others = [insert(&broker, "other", "1"), insert(&broker, "other", "2")];
    for unknown in [lost, lost + 1, first - 1, no_record] {
        assert_unknown(unknown, &[kept, others[1]]);
    }
    for (known, next) in [(first, kept), (superseded, kept), (kept, others[1]), (others[0], others[1])] {
        assert_eq!(after(known).event().number(), next, "after {known}");
    }
}

#[test]
fn a_running_store_can_be_backed_up() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids: Vec<_> = (0..20).map(|number| insert(&broker, "a", &number.to_string())).collect();
    let backup = dir.path.join("backup");
    std::fs::create_dir(&backup).expect("a directory can be made");
    let running = Database::open(database(&dir)).expect("it opens");
    let into = backup.join("records.db").display().to_string();
    running.execute("VACUUM INTO ?1", [&into]).expect("it is backed up");
    let later = insert(&broker, "a", "20");
    let restored = Broker::start(&["--data", &backup.display().to_string()]);
    assert_eq!(versions(&restored, "a").iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    assert!(insert(&restored, "a", "21") > ids[19]);
    assert_eq!(versions(&broker, "a").last().map(|(id, _)| *id), Some(later));
}

#[test]
fn a_dump_can_be_loaded() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids: Vec<_> = ["a", "b c", "a"].iter().map(|name| insert(&broker, name, r#"{"b":1e99,"a":[]}"#)).collect();
    let (code, _, err) = run(&["check", &data_path(&dir)], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another"), "a broker runs on it: {err}");
    broker.signal("TERM");
    broker.wait();
    let (code, lines, err) = run(&["dump", &data_path(&dir)], &[]);
    assert_eq!(code, Some(0), "{err}");
    let line =
        |id: u64, name: &str| format!("{{\"id\":\"{id}\",\"event\":\"{name}\",\"data\":{{\"b\":1e99,\"a\":[]}}}}\n");
    assert_eq!(lines, line(ids[0], "a") + &line(ids[1], "b c") + &line(ids[2], "a"));
    assert_eq!(run(&["dump", &data_path(&dir), "--event", "b c"], &[]).1, line(ids[1], "b c"));
    let (file, other) = (dir.path.join("lines"), dir.path.join("other").display().to_string());
    std::fs::write(&file, &lines).expect("it can be written");
    let load = || {
        let input = std::fs::File::open(&file).expect("it can be read");
        command(&[]).args(["load", &other]).stdin(input).output().expect("it runs")
    };
    let loaded = load();
    assert!(loaded.status.success(), "{loaded:?}");
    assert_eq!(run(&["dump", &other], &[]).1, lines);
    assert_eq!(load().status.code(), Some(1), "existing records are not loaded again");
    let (code, _, err) = run(&["check", &other], &[]);
    assert_eq!(code, Some(0), "{err}");
    let broker = Broker::start(&["--data", &other]);
    assert!(insert(&broker, "a", "1") > ids[2]);
}
