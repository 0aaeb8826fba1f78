//! Durability: acknowledged records survive kills and restarts, and a full, corrupt, locked or foreign data directory is
//! reported clearly.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use serde_json::Value;

use super::records::insert;
use super::support::{Broker, Connection, Stream, TIMEOUT, TempDir, on_small_disk, run};

pub fn start_broker(dir: &TempDir) -> Broker {
    Broker::start(&["--data", &data_path(dir)])
}

pub fn data_path(dir: &TempDir) -> String {
    dir.path.join("data").display().to_string()
}

/// Returns the path of the only file that holds records.
pub fn database(dir: &TempDir) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir.path.join("data")).expect("the data directory exists");
    let is_database = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"));
    files.filter_map(|file| Some(file.ok()?.path())).find(|path| is_database(path)).expect("the database exists")
}

/// Returns all versions of a name.
pub fn versions(broker: &Broker, name: &str) -> Vec<(u64, String)> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = broker.get(&format!("/audit/{name}?after={after}&limit=10000"));
        assert_eq!(page.status, 200, "{page:?}");
        let body = page.json();
        let versions = body.as_object().expect("an object").iter();
        let id = |key: &str| key.rsplit_once("_v_").and_then(|(_, id)| id.parse().ok()).expect("a key has an id");
        let mut versions: Vec<(u64, String)> = versions.map(|(key, data)| (id(key), data.to_string())).collect();
        versions.sort_unstable();
        all.extend(versions);
        match page.field("Link") {
            Some(_) => after = all.last().expect("a page that is followed by another has versions").0,
            None => return all,
        }
    }
}

#[test]
fn records_are_readable_only_by_their_owner() {
    let dir = TempDir::new();
    let _broker = start_broker(&dir);
    let mode = std::fs::metadata(dir.path.join("data")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn records_and_ids_survive_a_restart() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids: Vec<_> =
        (0..5).map(|number| insert(&broker, if number == 2 { "b" } else { "a" }, &number.to_string())).collect();
    let newest = broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let broker = start_broker(&dir);
    let mut stream = broker.subscribe("/events", "");
    let seen = |stream: &mut Stream| stream.event().number();
    assert_eq!([seen(&mut stream), seen(&mut stream)], [ids[2], ids[4]]);
    // A position from before the restart is still valid.
    let mut resumed = broker.subscribe("/events", &format!("Last-Event-ID: {}\r\n", ids[3]));
    assert_eq!(seen(&mut resumed), ids[4]);
    let new = insert(&broker, "a", "5");
    assert!(new > newest, "{new} after {newest}");
    assert_eq!((seen(&mut stream), seen(&mut resumed)), (new, new));
    assert_eq!(versions(&broker, "a").len(), 5);
}

/// Behaves as if the clock had been set back by an hour between two runs.
#[test]
fn ids_continue_from_the_stored_high_water_mark() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let old = insert(&broker, "a", "1");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let far = old + 3_600_000_000;
    let database = Database::open(database(&dir)).expect("it opens");
    database.execute("UPDATE records SET id = ?1", [i64::try_from(far).expect("it fits")]).expect("there is a table");
    drop(database);
    let broker = start_broker(&dir);
    let published: u64 =
        broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert!(published > far, "{published} after {far}");
    assert!(insert(&broker, "a", "2") > published);
}

/// The first kill leaves a stored id ahead of the clock; the second kill comes before another one is stored.
#[test]
fn ids_increase_across_kills_in_quick_succession() {
    let dir = TempDir::new();
    let mut last = 0;
    for round in 0..6 {
        let broker = start_broker(&dir);
        if round == 0 {
            last = insert(&broker, "a", "1");
        }
        for _ in 0..10 {
            let response = broker.publish("topicone1", "data: x");
            let id: u64 = response["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
            assert!(id > last, "{id} after {last} in round {round}");
            last = id;
        }
        broker.signal("KILL");
        broker.wait();
    }
}

#[test]
fn a_directory_that_is_not_a_store_is_refused() {
    let refused = |dir: &TempDir, part: &str| {
        let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", &data_path(dir)], &[]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("data") && err.contains(part), "{part}: {err}");
        assert!(!err.contains("panicked"), "{err}");
    };
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    insert(&broker, "a", "1");
    refused(&dir, "another");
    assert_eq!(insert(&broker, "a", "2").to_string().len(), 16, "the first broker still works");
    broker.signal("TERM");
    broker.wait();
    let path = database(&dir);
    let database = Database::open(&path).expect("it opens");
    let format: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("it has a version");
    assert!(format > 0, "the format carries a version");
    database.execute_batch("PRAGMA user_version = 999").expect("it can be set");
    drop(database);
    refused(&dir, "newer");
    let mut bytes = std::fs::read(&path).expect("it can be read");
    bytes.iter_mut().skip(16).for_each(|byte| *byte = 0xa5);
    std::fs::write(&path, bytes).expect("it can be written");
    refused(&dir, "");
    let file = TempDir::new();
    std::fs::write(file.path.join("data"), "a file").expect("it can be written");
    refused(&file, "");
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", "/proc/nowhere"], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("/proc/nowhere"), "{err}");
}

/// What inserts were acknowledged, and what a subscriber received.
#[derive(Default)]
struct Observed {
    acknowledged: Mutex<Vec<(u64, String, String)>>,
    seen: Mutex<Vec<(u64, String, String)>>,
}

/// Inserts records one after the other until the connection breaks.
fn insert_until_disconnected(mut connection: Connection, name: &str, round: usize, observed: &Observed) {
    for number in 0.. {
        let data = format!("\"{round}/{number}\"");
        let body = format!("{{\"event\":\"{name}\",\"data\":{data}}}");
        connection.send(format!("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let Some(response) = connection.response_or_end() else { return };
        assert_eq!(response.status, 200, "{response:?}");
        let id = response.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        observed.acknowledged.lock().expect("no thread panicked").push((id, name.to_owned(), data));
    }
}

#[test]
fn acknowledged_and_delivered_records_survive_every_kill() {
    const ROUNDS: usize = 12;
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (dir, observed) = (TempDir::new(), Arc::new(Observed::default()));
    for round in 0..ROUNDS {
        let broker = start_broker(&dir);
        let (address, quota) = (broker.address, 150 * (round + 1));
        let writers: Vec<_> = NAMES
            .iter()
            .map(|name| {
                // Counted here, not in the thread, which may start only after the kill.
                let (connection, observed) = (Connection::open(address), Arc::clone(&observed));
                std::thread::spawn(move || insert_until_disconnected(connection, name, round, &observed))
            })
            .collect();
        let listener = {
            let (mut stream, observed) = (broker.subscribe("/events?last_event_id=0", ""), Arc::clone(&observed));
            std::thread::spawn(move || {
                while let Some(event) = stream.event_within(TIMEOUT) {
                    let id = event.number();
                    observed.seen.lock().expect("no thread panicked").push((
                        id,
                        event.name.expect("a name"),
                        event.data.expect("data"),
                    ));
                }
            })
        };
        let begin = Instant::now();
        while observed.acknowledged.lock().expect("no thread panicked").len() < quota {
            assert!(begin.elapsed() < TIMEOUT, "inserts don't resume");
            std::thread::sleep(Duration::from_millis(1));
        }
        broker.signal("KILL");
        assert_eq!(broker.wait().0, None);
        writers.into_iter().chain([listener]).for_each(|thread| thread.join().expect("the thread succeeds"));
    }
    let broker = start_broker(&dir);
    let stored: BTreeMap<u64, (String, String)> = NAMES
        .iter()
        .flat_map(|name| versions(&broker, name).into_iter().map(move |(id, data)| (id, ((*name).to_owned(), data))))
        .collect();
    for (what, observed) in [("acknowledged", &observed.acknowledged), ("seen", &observed.seen)] {
        let observed = observed.lock().expect("no thread panicked");
        assert!(observed.len() >= ROUNDS * 100, "{what}: {}", observed.len());
        for (id, name, data) in observed.iter() {
            assert_eq!(stored.get(id), Some(&(name.clone(), data.clone())), "{what} but missing: {id}");
        }
    }
    // Each writer's records are in the order it wrote them, and none is duplicated.
    for name in NAMES {
        let numbers: Vec<Vec<usize>> = stored
            .values()
            .filter(|(stored, _)| stored == name)
            .map(|(_, data)| data.trim_matches('"').split('/').map(|part| part.parse().expect("a number")).collect())
            .collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{name}: {numbers:?}");
    }
}

#[test]
fn reconnecting_readers_end_with_the_newest_records() {
    const WRITERS: usize = 16;
    const READERS: usize = 50;
    const EACH: usize = 40;
    let dir = TempDir::new();
    let broker = Arc::new(start_broker(&dir));
    let left = Arc::new(AtomicUsize::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (broker, left) = (Arc::clone(&broker), Arc::clone(&left));
            std::thread::spawn(move || {
                let ids: Vec<_> = (0..EACH)
                    .map(|number| {
                        let name = format!("name{}", (writer + number) % 20);
                        (name.clone(), insert(&broker, &name, &format!("\"{writer}/{number}\"")))
                    })
                    .collect();
                left.fetch_sub(1, SeqCst);
                ids
            })
        })
        .collect();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (broker, left) = (Arc::clone(&broker), Arc::clone(&left));
            std::thread::spawn(move || {
                let (mut newest, mut position) = (BTreeMap::new(), String::new());
                let mut is_last = false;
                while !is_last {
                    // The last subscription begins once everything is written.
                    is_last = left.load(SeqCst) == 0;
                    let mut stream = broker.subscribe("/events", &format!("Last-Event-ID: {position}\r\n"));
                    read_events(&mut stream, if is_last { usize::MAX } else { 7 }, &mut newest, &mut position);
                }
                newest
            })
        })
        .collect();
    let mut expected = BTreeMap::new();
    for writer in writers {
        for (name, id) in writer.join().expect("the thread succeeds") {
            let newest = expected.entry(name).or_insert(0);
            *newest = id.max(*newest);
        }
    }
    for reader in readers {
        assert_eq!(reader.join().expect("the thread succeeds"), expected);
    }
}

/// Reads this many events, or until no more arrive.
fn read_events(stream: &mut Stream, count: usize, newest: &mut BTreeMap<String, u64>, position: &mut String) {
    for _ in 0..count {
        let Some(event) = stream.event_within(Duration::from_millis(300)) else { return };
        let id = event.number();
        let before = newest.insert(event.name.expect("a name"), id);
        assert!(before.is_none_or(|before| before < id) && position.parse().map_or(true, |last: u64| last < id));
        *position = id.to_string();
    }
}

#[test]
#[should_panic(expected = "but:\nno such luck\n")]
fn output_of_a_command_that_starts_no_broker_is_shown() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo no such luck >&2; exit 1"]);
    Broker::start_command(command, &[]);
}

/// The broker's disk has a few megabytes, in a mount namespace of its own.
#[test]
fn a_full_disk_refuses_inserts_and_recovers() {
    let dir = TempDir::new();
    let mount_point = data_path(&dir);
    std::fs::create_dir_all(&mount_point).expect("a directory can be made");
    let broker = Broker::start_command(on_small_disk(&mount_point, "100M"), &["--data", &mount_point]);
    let mut stream = broker.subscribe("/events", "");
    let big = format!("\"{}\"", "x".repeat(900_000));
    let mut stored = Vec::new();
    let refused = loop {
        let body = format!("{{\"event\":\"a\",\"data\":{big}}}");
        let response = broker.post("/insert", "", &body);
        if response.status != 200 {
            break response;
        }
        stored.push(response.json()["id"].as_str().and_then(|id| id.parse::<u64>().ok()).expect("an id"));
        assert_eq!(stream.event().number(), *stored.last().expect("just stored"));
        assert!(stored.len() < 200, "the disk never fills up");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.field("Retry-After").is_some() && refused.text().contains("full"), "{refused:?}");
    assert_eq!((broker.get("/healthz").status, broker.get("/livez").text().as_str()), (503, "ok"));
    let metrics = broker.metrics();
    assert_eq!(["ready", "full"].map(|state| metrics.labeled("esker_store_state", "state", state)), [0.0, 1.0]);
    assert_eq!(metrics.labeled("esker_store_refusals_total", "reason", "full"), 1.0);
    // Everything that doesn't need the disk still works.
    broker.publish("topicone1", "data: x");
    assert_eq!(versions(&broker, "a").len(), stored.len());
    let inside = format!("/proc/{}/root{mount_point}", broker.pid());
    assert!(enlarge_disk(&inside), "the disk can be made larger");
    let begin = Instant::now();
    loop {
        let response = broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        if response.status == 200 {
            break;
        }
        assert!(begin.elapsed() < TIMEOUT, "inserts don't resume: {response:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(broker.get("/healthz").status, 200);
    assert_eq!(stream.event().data.as_deref(), Some("1"), "a refused record was delivered");
    assert_eq!(versions(&broker, "a").len(), stored.len() + 1);
}

/// Enlarges the broker's disk.
fn enlarge_disk(inside: &str) -> bool {
    let mount_point = inside.split("/root").nth(1).expect("a path");
    let pid = inside.split('/').nth(2).expect("a process");
    let flags = ["-t", pid, "-m", "mount", "-o", "remount,size=300M", mount_point];
    std::process::Command::new("nsenter").args(flags).status().is_ok_and(|status| status.success())
}

#[test]
fn metrics_of_the_store_are_reported() {
    let broker = Broker::start(&[]);
    for number in 0..3 {
        insert(&broker, "a", &number.to_string());
    }
    let stats = broker.stats();
    assert_eq!((&stats["records"], &stats["record_names"]), (&Value::from(3), &Value::from(1)), "{stats}");
    assert_eq!(stats["store"], "ready");
}
