//! Backups: copies of a running store, dumps, and positions that a restored copy lacks.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use rusqlite::backup::{Backup, StepResult};
use serde_json::Value;

use super::records::insert;
use super::storage::{data_path, database, start_broker, versions};
use super::support::{Broker, TIMEOUT, TempDir, command, run};

/// The names of the records that are inserted under load, one for each connection.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The ids of the records that were acknowledged.
type Acknowledged = Mutex<Vec<u64>>;

fn sorted(acknowledged: &Acknowledged) -> Vec<u64> {
    let mut ids = acknowledged.lock().expect("no thread panicked").clone();
    ids.sort_unstable();
    ids
}

/// Ends the load when it is dropped, also by a panic.
struct Load<'a>(&'a AtomicBool);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Inserts records with so many bytes from several connections while `run` runs. Returns the result, and the ids of all records.
fn under_load<T>(broker: &Broker, bytes: usize, run: impl FnOnce(&Acknowledged) -> T) -> (T, Vec<u64>) {
    let (acknowledged, is_over) = (Acknowledged::default(), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        let load = Load(&is_over);
        for name in NAMES {
            let (acknowledged, is_over, mut connection) = (&acknowledged, &is_over, broker.connect());
            scope.spawn(move || {
                let body = format!("{{\"event\":\"{name}\",\"data\":\"{}\"}}", "x".repeat(bytes));
                let head = format!("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
                while !is_over.load(SeqCst) {
                    connection.send(format!("{head}{body}"));
                    let response = connection.response();
                    assert_eq!(response.status, 200, "{response:?}");
                    let id = response.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                    acknowledged.lock().expect("no thread panicked").push(id);
                }
            });
        }
        let begin = Instant::now();
        while sorted(&acknowledged).len() < 200 {
            assert!(begin.elapsed() < TIMEOUT, "inserts take too long");
            std::thread::sleep(Duration::from_millis(5));
        }
        let result = run(&acknowledged);
        drop(load);
        result
    });
    (result, sorted(&acknowledged))
}

/// Checks a backup, starts a broker on it, and returns the ids of all its records.
fn ids_of_backup(directory: &Path) -> Vec<u64> {
    let path = directory.display().to_string();
    let (code, _, err) = run(&["check", &path], &[]);
    assert_eq!(code, Some(0), "{err}");
    let broker = Broker::start(&["--data", &path]);
    let mut ids: Vec<_> = NAMES.iter().flat_map(|name| versions(&broker, name)).map(|(id, _)| id).collect();
    ids.sort_unstable();
    assert!(insert(&broker, "a", "1") > ids[ids.len() - 1]);
    ids
}

/// Backs up a store under load. The backup must contain all records up to a moment after its beginning.
fn assert_complete(back_up: impl FnOnce(&Database, &Path)) {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let backup = dir.path.join("backup");
    std::fs::create_dir(&backup).expect("a directory can be made");
    let live = Database::open(database(&dir)).expect("it opens");
    let (before, all) = under_load(&broker, 2000, |acknowledged| {
        let before = sorted(acknowledged);
        back_up(&live, &backup.join("records.db"));
        before
    });
    let ids = ids_of_backup(&backup);
    assert!(ids.len() >= before.len(), "{} of {}", ids.len(), before.len());
    assert_eq!(ids, all[..ids.len()]);
    assert_eq!(NAMES.iter().map(|name| versions(&broker, name).len()).sum::<usize>(), all.len());
}

#[test]
fn vacuum_into_under_load_is_complete_up_to_a_moment() {
    assert_complete(|live, to| {
        live.execute("VACUUM INTO ?1", [to.to_str().expect("UTF-8")]).expect("it is backed up");
    });
}

/// The command `.backup` of the sqlite3 shell copies a hundred pages at a time, and begins again if records were inserted in between.
#[test]
fn an_online_backup_under_load_is_complete_up_to_a_moment() {
    assert_complete(|live, to| {
        let mut copy = Database::open(to).expect("it can be created");
        let backup = Backup::new(live, &mut copy).expect("it begins");
        // A machine that is busy with other tests might never get to the end.
        let mut steps = std::iter::repeat_n(100, 100).chain(std::iter::repeat(-1));
        let mut step = || backup.step(steps.next().expect("it is endless")).expect("pages are copied");
        while step() != StepResult::Done {}
    });
}

/// What is copied while it changes is anything. A broker starts on it only if the check finds no problems.
#[test]
fn a_copy_of_the_files_under_load_is_good_or_refused() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let copies: Vec<_> = (0..3).map(|number| dir.path.join(format!("copy{number}"))).collect();
    // Large records, so that checkpoints change the database as well.
    under_load(&broker, 200_000, |acknowledged| {
        for copy in &copies {
            std::fs::create_dir(copy).expect("a directory can be made");
            for name in ["records.db", "records.db-shm", "records.db-wal", "lock"] {
                let before = sorted(acknowledged).len();
                std::fs::copy(dir.path.join("data").join(name), copy.join(name)).expect("it can be copied");
                while sorted(acknowledged).len() < before + 30 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    });
    for copy in copies {
        match start_and_kill(&copy) {
            Ok(()) => assert!(!ids_of_backup(&copy).is_empty()),
            Err(log) => assert!(log.contains("are damaged") && !log.contains("panicked"), "{log}"),
        }
    }
}

/// Starts a broker on a directory and kills it, or returns the log of a start that fails.
fn start_and_kill(directory: &Path) -> Result<(), String> {
    let mut command = command(&[]);
    command.args(["--no-auth", "--port", "0", "--data", &directory.display().to_string()]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut lines = stderr.lines().map_while(Result::ok);
    let mut log = String::new();
    let has_started = lines.any(|line| {
        log += &line;
        line.contains("listens on")
    });
    let _ = (child.kill(), child.wait());
    if has_started { Ok(()) } else { Err(log) }
}

/// Replaces the data directory of a stopped broker by the copy, and starts a broker on it.
fn restore(dir: &TempDir, broker: Broker, copy: &Path) -> Broker {
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let data = dir.path.join("data");
    std::fs::remove_dir_all(&data).expect("the directory can be removed");
    std::fs::create_dir(&data).expect("the directory can be made");
    std::fs::rename(copy, data.join("records.db")).expect("it is restored");
    Broker::start(&["--data", &data_path(dir), "--heartbeat", "1h"])
}

/// Copies the database of a running broker.
fn copy_database(dir: &TempDir) -> std::path::PathBuf {
    let copy = dir.path.join("copy.db");
    let live = Database::open(database(dir)).expect("it opens");
    live.execute("VACUUM INTO ?1", [copy.to_str().expect("UTF-8")]).expect("it is copied");
    copy
}

/// Inserts records of several names, and returns them by id.
fn insert_many(broker: &Broker, count: usize) -> BTreeMap<u64, &'static str> {
    (0..count).map(|number| (insert(broker, NAMES[number % 3], "1"), NAMES[number % 3])).collect()
}

/// Asserts what a stream begins with at each position. `all` are the records that exist.
fn assert_positions(broker: &Broker, all: &BTreeMap<u64, &str>, known: &[u64], unknown: &[u64]) {
    for (query, names) in [("", &NAMES[..]), ("?event=b", &["b"]), ("?event=a&event=c", &["a", "c"])] {
        let newest_of = |name: &&str| all.iter().rev().find(|(_, of)| *of == name).map(|(id, _)| *id);
        let mut newest: Vec<_> = names.iter().filter_map(newest_of).collect();
        newest.sort_unstable();
        for (positions, is_known) in [(known, true), (unknown, false)] {
            for position in positions {
                let fields = format!("Last-Event-ID: {position}\r\n");
                let mut stream = broker.subscribe(&format!("/events{query}"), &fields);
                if !is_known {
                    let gap = stream.event();
                    let after = format!("\"after\":\"{position}\"");
                    assert!(
                        gap.name.as_deref() == Some("gap") && gap.text.contains(&after),
                        "{query} after {position}: {gap:?}"
                    );
                }
                for id in newest.iter().filter(|id| !is_known || *id > position) {
                    assert_eq!(stream.event().number(), *id, "{query} after {position}");
                }
            }
        }
    }
}

/// Positions are judged by whether their record exists, however many were inserted and whatever was restored since.
#[test]
fn positions_are_exact_after_several_restores() {
    let dir = TempDir::new();
    let mut broker = start_broker(&dir);
    let (mut all, mut lost) = (BTreeMap::new(), Vec::new());
    for _ in 0..2 {
        all.extend(insert_many(&broker, 30));
        let copy = copy_database(&dir);
        lost.extend(insert_many(&broker, 10).into_keys());
        broker = restore(&dir, broker, &copy);
    }
    all.extend(insert_many(&broker, 100));
    let ids: Vec<_> = all.keys().copied().collect();
    let last = ids[ids.len() - 1];
    let unknown = [lost[0], lost[9], lost[10], lost[19], lost[4] + 1, ids[0] - 1, last + 3_600_000_000];
    assert_positions(&broker, &all, &[ids[0], ids[15], ids[29], ids[30], ids[59], ids[60], ids[130], last], &unknown);
    // Positions of erased versions no longer exist, and all others still do. (Those that were inserted since the start are still in
    // memory, and exact.)
    let before = ids[100];
    let erased = broker.request(format!("DELETE /audit/a?before={before} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(erased.status, 200, "{erased:?}");
    let (gone, kept): (Vec<u64>, Vec<u64>) = ids.iter().partition(|id| all[id] == "a" && **id < before);
    all.retain(|id, _| kept.contains(id));
    assert_positions(&broker, &all, &[kept[0], kept[30], last], &[gone[0], gone[10], lost[0]]);
}

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
    let copy = copy_database(&dir);
    let lost = insert(&broker, "user", "4");
    let broker = restore(&dir, broker, &copy);
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
