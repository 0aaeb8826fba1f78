//! Records on the disk: what was acknowledged outlives kills and restarts, and disks that are full,
//! torn, taken or strange make an honest answer.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use serde_json::Value;

use super::records::insert;
use super::support::{Broker, Connection, Folder, PATIENCE, Stream, command, on_small_disk, run};

fn start(folder: &Folder) -> Broker {
    Broker::start(&["--data", &data(folder)])
}

fn data(folder: &Folder) -> String {
    folder.path.join("data").display().to_string()
}

/// The only file of a store that holds records.
fn database(folder: &Folder) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder.path.join("data")).expect("there is a directory");
    let is_database = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"));
    files.filter_map(|file| Some(file.ok()?.path())).find(|path| is_database(path)).expect("there is a database")
}

/// All versions of a name.
fn versions(broker: &Broker, name: &str) -> Vec<(u64, String)> {
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
fn nobody_else_reads_the_records() {
    let folder = Folder::new();
    let _broker = start(&folder);
    let mode = std::fs::metadata(folder.path.join("data")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn records_outlive_the_broker_and_ids_go_on() {
    let folder = Folder::new();
    let broker = start(&folder);
    let ids: Vec<_> =
        (0..5).map(|number| insert(&broker, if number == 2 { "b" } else { "a" }, &number.to_string())).collect();
    let newest = broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let broker = start(&folder);
    let mut stream = broker.subscribe("/events", "");
    let seen = |stream: &mut Stream| stream.event().number();
    assert_eq!([seen(&mut stream), seen(&mut stream)], [ids[2], ids[4]]);
    // A position from before the restart is as good as any.
    let mut resumed = broker.subscribe("/events", &format!("Last-Event-ID: {}\r\n", ids[3]));
    assert_eq!(seen(&mut resumed), ids[4]);
    let new = insert(&broker, "a", "5");
    assert!(new > newest, "{new} after {newest}");
    assert_eq!((seen(&mut stream), seen(&mut resumed)), (new, new));
    assert_eq!(versions(&broker, "a").len(), 5);
}

/// What a client has seen and a restored copy has not is unknown, whatever was inserted since.
#[test]
fn a_position_of_a_record_that_a_restored_backup_lacks_is_a_gap() {
    let folder = Folder::new();
    let broker = start(&folder);
    let first = insert(&broker, "user", "1");
    let no_record =
        broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let superseded = insert(&broker, "user", "2");
    let kept = insert(&broker, "user", "3");
    let copy = folder.path.join("copy.db");
    let live = Database::open(database(&folder)).expect("it opens");
    live.execute("VACUUM INTO ?1", [copy.to_str().expect("UTF-8")]).expect("it is copied");
    drop(live);
    let lost = insert(&broker, "user", "4");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let place = database(&folder);
    std::fs::remove_dir_all(folder.path.join("data")).expect("it goes");
    std::fs::create_dir(folder.path.join("data")).expect("it comes");
    std::fs::rename(copy, place).expect("it is restored");
    let broker = Broker::start(&["--data", &data(&folder), "--heartbeat", "1h"]);
    let after = |id: u64| broker.subscribe("/events", &format!("Last-Event-ID: {id}\r\n"));
    let assert_unknown = |id: u64, newest: &[u64]| {
        let mut stream = after(id);
        let gap = stream.event();
        let told: Value = serde_json::from_str(&gap.data.expect("data")).expect("JSON");
        assert_eq!((gap.name.as_deref(), told["after"].as_str()), (Some("gap"), Some(id.to_string().as_str())));
        assert_eq!(told["oldest"].as_str(), Some(newest[0].to_string().as_str()));
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

/// As if the clock had been set back by an hour between two runs.
#[test]
fn ids_go_on_from_the_mark_on_the_disk() {
    let folder = Folder::new();
    let broker = start(&folder);
    let old = insert(&broker, "a", "1");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let far = old + 3_600_000_000;
    let database = Database::open(database(&folder)).expect("it opens");
    database.execute("UPDATE records SET id = ?1", [i64::try_from(far).expect("it fits")]).expect("there is a table");
    drop(database);
    let broker = start(&folder);
    let published: u64 =
        broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert!(published > far, "{published} after {far}");
    assert!(insert(&broker, "a", "2") > published);
}

/// The first kill leaves a mark ahead of the clock; the second comes before anything was noted again.
#[test]
fn ids_ascend_over_kills_in_quick_succession() {
    let folder = Folder::new();
    let mut last = 0;
    for round in 0..6 {
        let broker = start(&folder);
        if round == 0 {
            last = insert(&broker, "a", "1");
        }
        for _ in 0..10 {
            let answer = broker.publish("topicone1", "data: x");
            let id: u64 = answer["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
            assert!(id > last, "{id} after {last} in round {round}");
            last = id;
        }
        broker.signal("KILL");
        broker.wait();
    }
}

#[test]
fn a_directory_that_is_no_store_is_refused_in_words() {
    let refused = |folder: &Folder, part: &str| {
        let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", &data(folder)], &[]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("data") && err.contains(part), "{part}: {err}");
        assert!(!err.contains("panicked"), "{err}");
    };
    let folder = Folder::new();
    let broker = start(&folder);
    insert(&broker, "a", "1");
    refused(&folder, "another");
    assert_eq!(insert(&broker, "a", "2").to_string().len(), 16, "the first one is not disturbed");
    broker.signal("TERM");
    broker.wait();
    let path = database(&folder);
    let database = Database::open(&path).expect("it opens");
    let format: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("it has a version");
    assert!(format > 0, "the format carries a version");
    database.execute_batch("PRAGMA user_version = 999").expect("it can be set");
    drop(database);
    refused(&folder, "newer");
    let mut bytes = std::fs::read(&path).expect("it can be read");
    bytes.iter_mut().skip(16).for_each(|byte| *byte = 0xa5);
    std::fs::write(&path, bytes).expect("it can be written");
    refused(&folder, "");
    let file = Folder::new();
    std::fs::write(file.path.join("data"), "a file").expect("it can be written");
    refused(&file, "");
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", "/proc/nowhere"], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("/proc/nowhere"), "{err}");
}

/// What writers were told and what a listener saw.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<Vec<(u64, String, String)>>,
    seen: Mutex<Vec<(u64, String, String)>>,
}

/// Inserts one after the other until the connection breaks.
fn write_until_the_end(mut connection: Connection, name: &str, round: usize, told: &Told) {
    for number in 0.. {
        let data = format!("\"{round}/{number}\"");
        let body = format!("{{\"event\":\"{name}\",\"data\":{data}}}");
        connection.send(format!("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let Some(answer) = connection.response_or_end() else { return };
        assert_eq!(answer.status, 200, "{answer:?}");
        let id = answer.json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        told.acknowledged.lock().expect("nobody panics").push((id, name.to_owned(), data));
    }
}

#[test]
fn what_was_acknowledged_or_seen_outlives_every_kill() {
    const ROUNDS: usize = 12;
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let (folder, told) = (Folder::new(), Arc::new(Told::default()));
    for round in 0..ROUNDS {
        let broker = start(&folder);
        let (address, quota) = (broker.address, 150 * (round + 1));
        let writers: Vec<_> = NAMES
            .iter()
            .map(|name| {
                // Here, not in the thread, which may begin only after the kill.
                let (connection, told) = (Connection::open(address), Arc::clone(&told));
                std::thread::spawn(move || write_until_the_end(connection, name, round, &told))
            })
            .collect();
        let listener = {
            let (mut stream, told) = (broker.subscribe("/events?last_event_id=0", ""), Arc::clone(&told));
            std::thread::spawn(move || {
                while let Some(event) = stream.event_within(PATIENCE) {
                    let id = event.number();
                    told.seen.lock().expect("nobody panics").push((
                        id,
                        event.name.expect("a name"),
                        event.data.expect("data"),
                    ));
                }
            })
        };
        let begin = Instant::now();
        while told.acknowledged.lock().expect("nobody panics").len() < quota {
            assert!(begin.elapsed() < PATIENCE, "inserts don't go on");
            std::thread::sleep(Duration::from_millis(1));
        }
        broker.signal("KILL");
        assert_eq!(broker.wait().0, None);
        writers.into_iter().chain([listener]).for_each(|thread| thread.join().expect("it ends well"));
    }
    let broker = start(&folder);
    let stored: BTreeMap<u64, (String, String)> = NAMES
        .iter()
        .flat_map(|name| versions(&broker, name).into_iter().map(move |(id, data)| (id, ((*name).to_owned(), data))))
        .collect();
    for (what, told) in [("acknowledged", &told.acknowledged), ("seen", &told.seen)] {
        let told = told.lock().expect("nobody panics");
        assert!(told.len() >= ROUNDS * 100, "{what}: {}", told.len());
        for (id, name, data) in told.iter() {
            assert_eq!(stored.get(id), Some(&(name.clone(), data.clone())), "{what} and gone: {id}");
        }
    }
    // One after the other, as each writer wrote them, and none twice.
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
fn readers_that_come_and_go_among_writers_end_with_the_newest() {
    const WRITERS: usize = 16;
    const READERS: usize = 50;
    const EACH: usize = 40;
    let folder = Folder::new();
    let broker = Arc::new(start(&folder));
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
                    // The last visit begins once all is written.
                    is_last = left.load(SeqCst) == 0;
                    let mut stream = broker.subscribe("/events", &format!("Last-Event-ID: {position}\r\n"));
                    visit(&mut stream, if is_last { usize::MAX } else { 7 }, &mut newest, &mut position);
                }
                newest
            })
        })
        .collect();
    let mut expected = BTreeMap::new();
    for writer in writers {
        for (name, id) in writer.join().expect("it ends well") {
            let newest = expected.entry(name).or_insert(0);
            *newest = id.max(*newest);
        }
    }
    for reader in readers {
        assert_eq!(reader.join().expect("it ends well"), expected);
    }
}

/// Reads so many events, or until nothing more comes.
fn visit(stream: &mut Stream, count: usize, newest: &mut BTreeMap<String, u64>, position: &mut String) {
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
fn a_command_that_never_becomes_a_broker_is_quoted() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "echo no such luck >&2; exit 1"]);
    Broker::start_as(command, &[]);
}

/// A disk of a few megabytes, in a mount namespace of the broker's own.
#[test]
fn a_full_disk_is_told_and_recovered_from() {
    let folder = Folder::new();
    let place = data(&folder);
    std::fs::create_dir_all(&place).expect("a folder can be made");
    let broker = Broker::start_as(on_small_disk(&place, "100M"), &["--data", &place]);
    let mut stream = broker.subscribe("/events", "");
    let big = format!("\"{}\"", "x".repeat(900_000));
    let mut stored = Vec::new();
    let refused = loop {
        let body = format!("{{\"event\":\"a\",\"data\":{big}}}");
        let answer = broker.post("/insert", "", &body);
        if answer.status != 200 {
            break answer;
        }
        stored.push(answer.json()["id"].as_str().and_then(|id| id.parse::<u64>().ok()).expect("an id"));
        assert_eq!(stream.event().number(), *stored.last().expect("just stored"));
        assert!(stored.len() < 200, "the disk does not get full");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.field("Retry-After").is_some() && refused.text().contains("full"), "{refused:?}");
    assert_eq!((broker.get("/healthz").status, broker.get("/livez").text().as_str()), (503, "ok"));
    let metrics = broker.metrics();
    assert_eq!(["ready", "full"].map(|state| metrics.by("esker_store_state", "state", state)), [0.0, 1.0]);
    assert_eq!(metrics.by("esker_store_refusals_total", "reason", "full"), 1.0);
    // What does not need the disk goes on.
    broker.publish("topicone1", "data: x");
    assert_eq!(versions(&broker, "a").len(), stored.len());
    let inside = format!("/proc/{}/root{place}", broker.pid());
    assert!(make_room(&inside), "the disk can be made larger");
    let begin = Instant::now();
    loop {
        let answer = broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        if answer.status == 200 {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "inserts don't go on by themselves: {answer:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(broker.get("/healthz").status, 200);
    assert_eq!(stream.event().data.as_deref(), Some("1"), "nothing that was refused was shown");
    assert_eq!(versions(&broker, "a").len(), stored.len() + 1);
}

/// Lets the broker's disk grow.
fn make_room(inside: &str) -> bool {
    let place = inside.split("/root").nth(1).expect("a path");
    let pid = inside.split('/').nth(2).expect("a process");
    let flags = ["-t", pid, "-m", "mount", "-o", "remount,size=300M", place];
    std::process::Command::new("nsenter").args(flags).status().is_ok_and(|status| status.success())
}

#[test]
fn a_running_store_is_backed_up_as_the_readme_says() {
    let folder = Folder::new();
    let broker = start(&folder);
    let ids: Vec<_> = (0..20).map(|number| insert(&broker, "a", &number.to_string())).collect();
    let backup = folder.path.join("backup");
    std::fs::create_dir(&backup).expect("a folder can be made");
    let running = Database::open(database(&folder)).expect("it opens");
    let into = backup.join("records.db").display().to_string();
    running.execute("VACUUM INTO ?1", [&into]).expect("it is backed up");
    let later = insert(&broker, "a", "20");
    let restored = Broker::start(&["--data", &backup.display().to_string()]);
    assert_eq!(versions(&restored, "a").iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    assert!(insert(&restored, "a", "21") > ids[19]);
    assert_eq!(versions(&broker, "a").last().map(|(id, _)| *id), Some(later));
}

#[test]
fn what_is_dumped_can_be_loaded() {
    let folder = Folder::new();
    let broker = start(&folder);
    let ids: Vec<_> = ["a", "b c", "a"].iter().map(|name| insert(&broker, name, r#"{"b":1e99,"a":[]}"#)).collect();
    let (code, _, err) = run(&["check", &data(&folder)], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another"), "a broker runs on it: {err}");
    broker.signal("TERM");
    broker.wait();
    let (code, lines, err) = run(&["dump", &data(&folder)], &[]);
    assert_eq!(code, Some(0), "{err}");
    let line =
        |id: u64, name: &str| format!("{{\"id\":\"{id}\",\"event\":\"{name}\",\"data\":{{\"b\":1e99,\"a\":[]}}}}\n");
    assert_eq!(lines, line(ids[0], "a") + &line(ids[1], "b c") + &line(ids[2], "a"));
    assert_eq!(run(&["dump", &data(&folder), "--event", "b c"], &[]).1, line(ids[1], "b c"));
    let (file, other) = (folder.path.join("lines"), folder.path.join("other").display().to_string());
    std::fs::write(&file, &lines).expect("it can be written");
    let load = || {
        let input = std::fs::File::open(&file).expect("it can be read");
        command(&[]).args(["load", &other]).stdin(input).output().expect("it runs")
    };
    let loaded = load();
    assert!(loaded.status.success(), "{loaded:?}");
    assert_eq!(run(&["dump", &other], &[]).1, lines);
    assert_eq!(load().status.code(), Some(1), "what is there is not loaded twice");
    let (code, _, err) = run(&["check", &other], &[]);
    assert_eq!(code, Some(0), "{err}");
    let broker = Broker::start(&["--data", &other]);
    assert!(insert(&broker, "a", "1") > ids[2]);
}

#[test]
fn numbers_of_the_store_are_told() {
    let broker = Broker::start(&[]);
    for number in 0..3 {
        insert(&broker, "a", &number.to_string());
    }
    let stats = broker.stats();
    assert_eq!((&stats["records"], &stats["record_names"]), (&Value::from(3), &Value::from(1)), "{stats}");
    assert_eq!(stats["store"], "ready");
}
