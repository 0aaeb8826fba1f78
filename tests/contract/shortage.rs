//! What keeps the store from writing, and goes by itself: no room of one kind or another, and a program that holds the database.

use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection as Database;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::records::insert;
use super::support::{Broker, Folder, PATIENCE, command};

/// Inserts until it works again.
fn await_inserts(broker: &Broker) {
    let begin = Instant::now();
    loop {
        let answer = broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        if answer.status == 200 {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "inserts don't go on by themselves: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sets the largest size of files that the process may write.
fn limit_files(broker: &Broker, bytes: Option<u64>) {
    let pid = Pid::from_raw(broker.pid().cast_signed());
    let limit = Rlimit { current: bytes, maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(pid, Resource::Fsize, limit).expect("the soft limit can be changed");
}

#[test]
fn a_limit_of_file_sizes_is_no_broken_disk() {
    let folder = Folder::new();
    let data = folder.path.join("data").display().to_string();
    let mut shell = Command::new("sh");
    // The signal would end the process; the write's error is what counts.
    shell.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(command(&[]).get_program());
    let broker = Broker::start_as(shell, &["--data", &data]);
    let mut stream = broker.subscribe("/events", "");
    limit_files(&broker, Some(4_000_000));
    let body = format!("{{\"event\":\"a\",\"data\":\"{}\"}}", "x".repeat(900_000));
    let mut stored = 0;
    let refused = loop {
        let answer = broker.post("/insert", "", &body);
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
        stream.event();
        assert!(stored < 20, "the limit is never met");
    };
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")));
    let text = refused.text();
    assert!(text.contains("EFBIG") && text.contains(&data), "{text}");
    let health = broker.get("/healthz");
    assert!(health.status == 503 && health.text().contains("EFBIG"), "{health:?}");
    assert!(!health.text().contains(&data), "whoever asks for health need not know where the records are");
    assert_eq!(broker.stats()["store"], "full");
    let line = broker.logged("inserts are rejected until there is space");
    assert!(line.contains("EFBIG") && line.contains(&data), "{line}");
    broker.publish("topicone1", "data: x");
    limit_files(&broker, getrlimit(Resource::Fsize).maximum);
    await_inserts(&broker);
    assert_eq!(broker.get("/healthz").status, 200);
    assert_eq!(stream.event().data.as_deref(), Some("1"), "nothing that was refused was shown");
    broker.logged("there is space in");
}

#[test]
fn a_program_that_holds_the_database_is_named_and_waited_for() {
    let folder = Folder::new();
    let place = folder.path.join("data");
    let broker = Broker::start(&["--data", &place.display().to_string()]);
    insert(&broker, "a", "0");
    let other = Database::open(place.join("records.db")).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes now");
    for _ in 0..2 {
        let refused = broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")), "{refused:?}");
        assert!(refused.text().contains("has locked the database"), "{refused:?}");
    }
    assert_eq!(broker.metrics().by("esker_store_refusals_total", "reason", "locked"), 2.0);
    assert_eq!(broker.stats()["store"], "ready");
    broker.publish("topicone1", "data: x");
    assert_eq!(broker.get("/audit/a").status, 200, "reading goes on");
    other.execute_batch("COMMIT").expect("it lets go");
    await_inserts(&broker);
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0));
    let count = |part: &str| log.matches(part).count();
    assert_eq!((count("another program has locked"), count("is unlocked again")), (1, 1), "{log}");
}
