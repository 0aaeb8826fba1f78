//! Other programs that hold the database, at the start and while the broker runs, or remove or replace its files.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rusqlite::Connection as Database;

use super::records::insert;
use super::storage::{data_path, start_broker, versions};
use super::support::{Broker, Response, TIMEOUT, TempDir, command, run};

/// Opens the database of a data directory, as the sqlite3 shell would, and runs statements.
fn hold(dir: &TempDir, sql: &str) -> Database {
    let other = Database::open(dir.path.join("data/records.db")).expect("it opens");
    other.execute_batch(sql).expect("the database is not locked");
    other
}

/// Returns what the broker knows of this process, the other program.
fn this_process() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("the kernel has comm");
    format!("another program holds the database: process {} ({})", std::process::id(), name.trim_end())
}

/// A broker that waits at the start; killed when dropped.
struct Waiting {
    child: Child,
    log: Receiver<String>,
}

impl Waiting {
    /// Starts the binary. Returns it with the line of its log that says that it waits.
    fn start(dir: &TempDir) -> (Self, String) {
        let mut command = command(&[]);
        command.args(["--no-auth", "--port", "0", "--data", &data_path(dir)]).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, log) = unbounded();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        let waiting = Self { child, log };
        let line = waiting.line("the start waits");
        (waiting, line)
    }

    /// Returns the next line of the log that contains `part`.
    fn line(&self, part: &str) -> String {
        let mut lines = std::iter::from_fn(|| self.log.recv_timeout(TIMEOUT).ok());
        lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("the log never contains {part:?}"))
    }

    /// Sends SIGTERM, and returns whether the process exits with 0.
    fn terminate(&mut self) -> bool {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(done.expect("kill runs").success());
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[test]
fn a_start_waits_for_another_program_and_names_it() {
    let dir = TempDir::new();
    let id = insert(&start_broker(&dir), "a", "1");
    // The killed broker has left a WAL. A reader is in the way of the checkpoint that a start makes of it.
    for sql in ["BEGIN; SELECT * FROM records", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE", "BEGIN IMMEDIATE"] {
        let other = hold(&dir, sql);
        let (mut waiting, line) = Waiting::start(&dir);
        assert!(line.contains("WARN") && line.contains(&data_path(&dir)), "{line}");
        assert!(line.contains(&this_process()), "{sql}: {line}");
        let (code, _, err) = run(&["--no-auth", "--port", "0", "--data", &data_path(&dir)], &[]);
        assert!(code == Some(1) && err.contains("used by another broker"), "a second broker does not wait: {err}");
        drop(other);
        waiting.line("the start continues");
        waiting.line("listens on");
        assert!(waiting.terminate());
    }
    assert_eq!(versions(&start_broker(&dir), "a"), [(id, "1".to_owned())]);
}

#[test]
fn a_signal_ends_a_start_that_waits() {
    let dir = TempDir::new();
    drop(start_broker(&dir));
    let _other = hold(&dir, "BEGIN IMMEDIATE");
    let (mut waiting, _) = Waiting::start(&dir);
    let begin = Instant::now();
    assert!(waiting.terminate());
    assert!(begin.elapsed() < TIMEOUT, "it waits for the lock");
}

/// Inserts a record, and requires that it is refused because this process holds the database.
fn assert_held(response: &Response) {
    assert_eq!((response.status, response.field("Retry-After")), (503, Some("5")), "{response:?}");
    assert!(response.text().contains(&this_process()), "{response:?}");
}

/// Waits until the response has this status, and returns it.
fn wait_for_status(status: u16, request: impl Fn() -> Response) -> Response {
    let begin = Instant::now();
    loop {
        let response = request();
        if response.status == status {
            return response;
        }
        assert!(begin.elapsed() < TIMEOUT, "never {status}: {response:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn inserts_are_refused_while_another_program_holds_the_database() {
    const CLIENTS: usize = 8;
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let (first, newest) = (insert(&broker, "a", "0"), insert(&broker, "a", "1"));
    let other = hold(&dir, "BEGIN IMMEDIATE");
    let post = || broker.post("/insert", "", "{\"event\":\"a\",\"data\":2}");
    std::thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|_| scope.spawn(|| (0..20).for_each(|_| assert_held(&post()))));
        clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().expect("all are refused"));
    });
    let refused = broker.metrics().labeled("esker_store_refusals_total", "reason", "locked");
    assert_eq!(refused, (CLIENTS * 20) as f64);
    assert_eq!(broker.stats()["store"], "locked");
    // Reads and streams go on.
    assert_eq!(versions(&broker, "a").len(), 2);
    let mut resumed = broker.subscribe("/events", &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!(resumed.event().number(), newest);
    broker.publish("topicone1", "data: x");
    let health = wait_for_status(503, || broker.get("/healthz"));
    let text = health.text();
    assert!(text.contains("another program holds the database") && !text.contains("process"), "{text}");
    assert_eq!(broker.get("/livez").status, 200);
    drop(other);
    let stored = wait_for_status(200, post).json();
    assert_eq!(resumed.event().id.as_deref(), stored["id"].as_str(), "a refused record was delivered");
    broker.assert_healthy();
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0));
    let count = |part: &str| log.matches(part).count();
    assert_eq!((count(&this_process()), count("is free again after")), (1, 1), "{log}");
}

/// Copies what the log says can be copied from the running broker, as an operator would.
fn save(line: &str, to: &Path) {
    std::fs::create_dir(to).expect("a directory can be made");
    let copies = line.split("copy ").nth(1).and_then(|rest| rest.split(" in a new directory").next());
    for copy in copies.expect("the log says what to copy").split(", and ") {
        let (from, name) = copy.split_once(" to ").expect("a file and its name");
        std::fs::copy(from, to.join(name)).expect("it can be copied");
    }
}

#[test]
fn a_removed_data_directory_is_noticed_and_its_records_can_be_saved() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids: Vec<_> = (0..20).map(|number| insert(&broker, "a", &number.to_string())).collect();
    let mut stream = broker.subscribe("/events", "");
    assert_eq!(stream.event().number(), ids[19]);
    let data = dir.path.join("data");
    std::fs::remove_dir_all(&data).expect("it can be removed");
    // The directory of somebody else.
    std::fs::create_dir(&data).expect("a directory can be made");
    std::fs::write(data.join("records.db"), "theirs").expect("it can be written");
    let line = broker.wait_for_log("the data directory was removed, renamed or replaced");
    assert!(line.contains("ERROR") && line.contains("records.db is another file now"), "{line}");
    let refused = broker.post("/insert", "", "{\"event\":\"a\",\"data\":20}");
    let health = broker.get("/healthz");
    for response in [refused, health] {
        assert_eq!((response.status, response.field("Retry-After")), (503, Some("60")), "{response:?}");
        assert!(response.text().contains("was removed, renamed or replaced"), "{response:?}");
    }
    assert_eq!((broker.get("/livez").status, &broker.stats()["store"]), (200, &"failed".into()));
    assert_eq!(broker.metrics().labeled("esker_store_state", "state", "failed"), 1.0);
    assert_eq!(versions(&broker, "a").len(), ids.len(), "what is open can still be read");
    let mut topic = broker.subscribe("/subscribe/topicone1", "");
    broker.publish("topicone1", "data: x");
    assert_eq!(topic.event().data.as_deref(), Some("x"));
    let saved = dir.path.join("saved");
    save(&line, &saved);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let files: Vec<_> =
        std::fs::read_dir(&data).expect("it is there").map(|file| file.expect("a file").path()).collect();
    assert_eq!(files, [data.join("records.db")], "nothing is created in the place of the removed directory");
    let (code, _, err) = run(&["check", &saved.display().to_string()], &[]);
    assert_eq!(code, Some(0), "{err}");
    let broker = Broker::start(&["--data", &saved.display().to_string()]);
    assert_eq!(versions(&broker, "a").into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids);
}

#[test]
fn a_renamed_data_directory_can_be_renamed_back() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let id = insert(&broker, "a", "1");
    let (data, renamed) = (dir.path.join("data"), dir.path.join("renamed"));
    std::fs::rename(&data, &renamed).expect("it can be renamed");
    broker.wait_for_log("records.db no longer exists; inserts are rejected");
    std::fs::rename(&renamed, &data).expect("it can be renamed");
    assert_eq!(broker.get("/healthz").status, 503, "until a restart");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let broker = start_broker(&dir);
    assert_eq!(versions(&broker, "a"), [(id, "1".to_owned())]);
    assert!(insert(&broker, "a", "2") > id);
}
