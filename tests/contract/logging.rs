//! The log: levels and formats, and that a blocked log reader blocks no worker.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::support::tokens::{self, SECRETS, bearer};
use super::support::{Broker, Stream, TIMEOUT, TempDir, UnreadLog, command, finish, run};

/// Sends this many requests without a token, each of which logs a line at level debug.
fn send_denied_requests(broker: &Broker, count: usize) {
    let mut connection = broker.connect();
    for _ in 0..count {
        connection.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(connection.response().status, 401);
    }
}

fn subscribe(broker: &Broker) -> Stream {
    broker.subscribe("/subscribe/topicone1", &bearer(&tokens::subscriber("topicone1")))
}

fn dropped_lines(broker: &Broker) -> f64 {
    broker.metrics().value("esker_log_lines_dropped_total")
}

#[test]
fn an_unread_log_blocks_neither_workers_nor_the_drain() {
    let (broker, unread) = Broker::start_with_unread_log(&["--threads", "1"], &[("ESKER_LOG", "debug")]);
    assert_eq!(dropped_lines(&broker), 0.0);
    let mut stream = subscribe(&broker);
    send_denied_requests(&broker, 10_000);
    broker.publish(&format!("topicone1?token={}", tokens::publisher("topicone1")), "data: x");
    assert_eq!(stream.data(1), ["x"]);
    assert!(dropped_lines(&broker) >= 8_900.0, "{}", dropped_lines(&broker));
    assert_eq!(broker.stats()["log_lines_dropped"].as_f64(), Some(dropped_lines(&broker)));
    let begin = Instant::now();
    broker.signal("TERM");
    assert_eq!(stream.next(), None, "the streams end");
    assert_eq!(broker.wait().0, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "it stops in time: {:?}", begin.elapsed());
    drop(unread);
}

/// At level info, only the lines about the drain fill the pipe.
#[test]
fn a_full_pipe_does_not_prevent_stopping() {
    let (broker, unread) = Broker::start_with_unread_log(&[], &[]);
    let mut stream = subscribe(&broker);
    broker.signal("TERM");
    assert_eq!(stream.next(), None);
    assert_eq!(broker.wait().0, Some(0));
    assert_eq!(unread.count(), 0);
}

#[test]
fn a_log_read_again_reports_dropped_lines_and_continues() {
    let (broker, mut unread) = Broker::start_with_unread_log(&["--threads", "1"], &[("ESKER_LOG", "debug")]);
    send_denied_requests(&broker, 2_000);
    let missing = dropped_lines(&broker);
    let notice = unread.find(|line| line.contains("were dropped")).expect("the log reports dropped lines");
    assert!(notice.contains(&format!("{missing} log lines")) && notice.contains(" WARN "), "{notice}");
    send_denied_requests(&broker, 1);
    assert!(unread.next().is_some_and(|line| line.contains("401 to 127.0.0.1")), "logging continues");
    broker.signal("TERM");
    assert!(unread.any(|line| line.contains("stopped")), "the last line is written");
    assert_eq!((broker.wait().0, unread.next()), (Some(0), None));
}

fn exit_code(mut child: Child) -> Option<i32> {
    let begin = Instant::now();
    loop {
        match child.try_wait().expect("the child can be waited for") {
            Some(status) => return status.code(),
            None if begin.elapsed() > TIMEOUT => {
                let _ = (child.kill(), child.wait());
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn a_full_pipe_does_not_change_the_exit_code() {
    let elsewhere = ["--no-auth", "--port", "0", "--bind", "192.0.2.1"];
    for (arguments, code) in [(&elsewhere[..], 1), (&["--no-auth", "--threads", "0"], 2), (&["--nonsense"], 2)] {
        let (child, unread) = UnreadLog::spawn_full(command(&[]).args(arguments));
        assert_eq!(exit_code(child), Some(code), "{arguments:?}");
        assert_eq!(unread.count(), 0);
    }
}

#[test]
fn lines_have_time_and_level() {
    let broker = Broker::start(&[]);
    broker.signal("TERM");
    let (_, log) = broker.wait();
    for line in log.lines() {
        let time = line.strip_prefix('[').and_then(|line| line.get(..24)).expect("a time");
        assert!(time.starts_with("20") && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{line}");
        assert!(line[25..].starts_with(" INFO  esker::"), "{line}");
    }
    assert_eq!(log.lines().count(), 2, "{log}");
}

/// Runs the binary until it has stopped, with one end of a socket as standard error, and returns everything that it logs.
/// `stream` makes the value of `JOURNAL_STREAM` of the socket's device and inode.
fn whole_log(arguments: &[&str], home: &TempDir, stream: impl Fn(u64, u64) -> String) -> String {
    let (own, broker) = UnixStream::pair().expect("a pair of sockets");
    let socket = rustix::fs::fstat(&broker).expect("it has an inode");
    let mut command = command(&[("JOURNAL_STREAM", &stream(socket.st_dev, socket.st_ino))]);
    let command_with_socket = command.args(arguments).current_dir(&home.path).stderr(OwnedFd::from(broker));
    let mut child = command_with_socket.spawn().expect("the binary starts");
    // The command has the last copy of the other end, which would keep the log from ending.
    drop(command);
    own.set_read_timeout(Some(TIMEOUT)).expect("sockets have a timeout");
    let mut log = String::new();
    for line in BufReader::new(own).lines() {
        let line = line.expect("the broker stops in time");
        if line.contains("listens on") {
            let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
            rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
        }
        log += &format!("{line}\n");
    }
    child.wait().expect("it has exited");
    log
}

const SERVES: [&str; 3] = ["--no-auth", "--port", "0"];

#[test]
fn lines_for_journald_have_priorities_instead_of_times() {
    let home = TempDir::new();
    let log = whole_log(&SERVES, &home, |device, inode| format!("{device}:{inode}"));
    assert!(log.lines().all(|line| line.starts_with("<6>esker::")), "{log}");
    assert!(log.contains(": stopped after "), "{log}");
    let error = whole_log(&["--no-auth", "--threads", "0"], &home, |device, inode| format!("{device}:{inode}"));
    assert!(error.lines().count() > 1 && error.lines().all(|line| line.starts_with("<3>esker: ")), "{error}");
    let json = [&SERVES[..], &["--log-format", "json"]].concat();
    let log = whole_log(&json, &home, |device, inode| format!("{device}:{inode}"));
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
    let elsewhere = whole_log(&SERVES, &home, |device, inode| format!("{device}:{}", inode + 1));
    assert!(elsewhere.lines().all(|line| line.starts_with("[20")), "the stream is another one: {elsewhere}");
}

#[test]
fn the_start_names_data_and_limits_and_the_end_the_streams() {
    let home = TempDir::new();
    let arguments = [&SERVES[..], &["--data", "records", "--max-topics", "70", "--history-bytes", "64M"]].concat();
    let log = whole_log(&arguments, &home, |_, _| String::new());
    let data = home.path.canonicalize().expect("it exists").join("records");
    assert!(log.contains(&format!("records are stored in {}\n", data.display())), "{log}");
    assert!(log.contains("--max-topics 70, ") && log.contains("--history-bytes 64M"), "{log}");

    let broker = Broker::start(&["--drain", "100ms"]);
    let mut streams = [(); 3].map(|()| broker.subscribe("/subscribe/topicone1", ""));
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    broker.signal("TERM");
    broker.wait_for_log("draining: 3 streams end over 100ms, within 10.1s");
    streams.iter_mut().for_each(|stream| assert_eq!(stream.next(), None));
    let (_, log) = broker.wait();
    assert!(log.contains("stopped after ") && log.contains(" s; 3 streams have ended\n"), "{log}");
}

#[test]
fn json_log_lines_and_the_final_error_are_objects() {
    let environment = [&SECRETS[..], &[("ESKER_LOG", "debug")]].concat();
    let broker = Broker::start_with_tokens(&["--log-format", "json"], &environment);
    send_denied_requests(&broker, 1);
    broker.signal("TERM");
    let (_, log) = broker.wait();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        let members: Vec<_> = line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(members, ["level", "message", "target", "time"]);
    }
    let has = |level: &str, part: &str| {
        lines.iter().any(|line| line["level"] == level && line["message"].as_str().is_some_and(|m| m.contains(part)))
    };
    assert!(has("debug", "401 to 127.0.0.1") && has("info", "stopped"), "{lines:?}");
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--bind", "192.0.2.1", "--log-format=json"], &[]);
    let line: Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((code, &line["level"]), (Some(1), &"error".into()), "{err}");
    assert!(line["message"].as_str().is_some_and(|message| message.contains("192.0.2.1")), "{err}");
}

#[test]
fn an_unknown_level_is_a_usage_error() {
    for (levels, part) in [("warning", "did you mean warn?"), ("loud", "off, error, warn, info"), ("esker=x", "\"x\"")]
    {
        let (code, out, err) = run(&["--no-auth", "--port", "0"], &[("ESKER_LOG", levels)]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.starts_with("esker: ESKER_LOG can't be ") && err.contains(part), "{err}");
    }
}

/// The levels, and the warnings at startup.
#[test]
fn unnamed_targets_stay_at_info() {
    for (environment, warnings) in [
        (&[("ESKER_LOG", "esker::api=debug")][..], 0),
        (&[("RUST_LOG", "hyper=debug")], 0),
        (&[("RUST_LOG", "warning")], 1),
        (&[("ESKER_LOG", "info"), ("RUST_LOG", "warning")], 0),
    ] {
        let broker = Broker::start_with(&[], environment);
        broker.signal("TERM");
        let (code, log) = broker.wait();
        assert!(code == Some(0) && log.contains("stopped"), "{environment:?}: {log}");
        assert_eq!(log.matches(" WARN ").count(), 0, "warnings come first: {log}");
        let (_, _, err) = finish(command(environment).args(["--no-auth", "--port=0", "--bind=192.0.2.1"]));
        assert_eq!(err.matches(" WARN ").count(), warnings, "{environment:?}: {err}");
    }
}

#[test]
fn unknown_variables_cause_warnings() {
    let links = [
        ("ESKER_SERVICE_HOST", "10.96.0.17"),
        ("ESKER_SERVICE_PORT", "3000"),
        ("ESKER_PORT_3000_TCP", "tcp://10.96.0.17:3000"),
        ("ESKER_PORT_3000_TCP_ADDR", "10.96.0.17"),
        ("ESKER_PORT", "tcp://10.96.0.17:3000"),
        ("PORT", "tcp://10.96.0.17:3000"),
    ];
    let elsewhere = ["--no-auth", "--bind=192.0.2.1"];
    let (code, _, err) = finish(command(&links).args(elsewhere));
    assert_eq!((code, err.matches(" WARN ").count()), (Some(1), 2), "{err}");
    assert!(
        err.contains("ESKER_PORT=tcp://10.96.0.17:3000 is") && err.contains(" PORT=tcp://10.96.0.17:3000 is"),
        "{err}"
    );
    assert!(err.contains("192.0.2.1:3000"), "the default port: {err}");
    let (_, _, err) = finish(command(&[("ESKER_HISTROY", "hidden")]).args(elsewhere));
    assert!(err.contains("ESKER_HISTROY is unknown and has no effect; did you mean ESKER_HISTORY?"), "{err}");
    assert!(!err.contains("hidden"), "{err}");
}
