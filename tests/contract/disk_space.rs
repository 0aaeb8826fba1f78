//! Temporary write failures of the store: a file size limit.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Broker, TIMEOUT, TempDir, command};

/// Retries inserts until one succeeds.
fn await_inserts(broker: &Broker) {
    let begin = Instant::now();
    loop {
        let response = broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        if response.status == 200 {
            return;
        }
        assert!(begin.elapsed() < TIMEOUT, "inserts don't resume: {response:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sets the limit of file sizes of the broker's process.
fn limit_files(broker: &Broker, bytes: Option<u64>) {
    let pid = Pid::from_raw(broker.pid().cast_signed());
    let limit = Rlimit { current: bytes, maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(pid, Resource::Fsize, limit).expect("the soft limit can be changed");
}

#[test]
fn a_file_size_limit_does_not_count_as_a_broken_disk() {
    let dir = TempDir::new();
    let data = dir.path.join("data").display().to_string();
    let mut shell = Command::new("sh");
    // The signal must not end the process; the write fails with an error instead.
    shell.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(command(&[]).get_program());
    let broker = Broker::start_command(shell, &["--data", &data]);
    let mut stream = broker.subscribe("/events", "");
    limit_files(&broker, Some(4_000_000));
    let body = format!("{{\"event\":\"a\",\"data\":\"{}\"}}", "x".repeat(900_000));
    let mut stored = 0;
    let refused = loop {
        let response = broker.post("/insert", "", &body);
        if response.status != 200 {
            break response;
        }
        stored += 1;
        stream.event();
        assert!(stored < 20, "the limit is never reached");
    };
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")));
    let text = refused.text();
    assert!(text.contains("EFBIG") && text.contains(&data), "{text}");
    let health = broker.get("/healthz");
    assert!(health.status == 503 && health.text().contains("EFBIG"), "{health:?}");
    assert!(!health.text().contains(&data), "health responses don't reveal the data directory");
    assert_eq!(broker.stats()["store"], "full");
    let line = broker.wait_for_log("inserts are rejected until there is space");
    assert!(line.contains("EFBIG") && line.contains(&data), "{line}");
    broker.publish("topicone1", "data: x");
    limit_files(&broker, getrlimit(Resource::Fsize).maximum);
    await_inserts(&broker);
    assert_eq!(broker.get("/healthz").status, 200);
    assert_eq!(stream.event().data.as_deref(), Some("1"), "a refused record was delivered");
    broker.wait_for_log("there is space in");
}
