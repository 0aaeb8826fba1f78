//! The process: usage, environment, failing to start, draining and stopping.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::support::{Broker, Connection, Stream, TempDir, command, run};

#[test]
fn help_and_version_are_printed_to_standard_output() {
    for arguments in [&["--help"][..], &["-h"], &["--port", "0", "--help", "--nonsense"]] {
        let (code, out, err) = run(arguments, &[]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        for part in ["Usage: esker", "--no-auth", "--history-age TIME", "-p, --port N", "--version", "ESKER_"] {
            assert!(out.contains(part), "{part} is not in {out}");
        }
    }
    for argument in ["--version", "-V"] {
        assert_eq!(run(&[argument], &[]), (Some(0), format!("esker {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    }
}

/// `esker --help | head -1` closes the pipe early; the exit code stays the same.
#[test]
fn a_closed_pipe_does_not_crash_help() {
    for (argument, expected) in [("--help", 0), ("--version", 0), ("--nonsense", 2), ("--port=0", 1)] {
        let mut child = command(&[])
            .arg(argument)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().expect("it ends").code(), Some(expected), "{argument}");
    }
}

#[test]
fn usage_errors_exit_2_with_advice() {
    for (arguments, environment, part) in [
        (&["--nonsense"][..], &[][..], "--nonsense"),
        (&["-x"], &[], "-x"),
        (&["extra"], &[], "extra"),
        (&["--no-auth", "--port"], &[], "--port"),
        (&["--no-auth", "--port", "65536"], &[], "65535"),
        (&["--no-auth", "--port", "http"], &[], "65535"),
        (&["--no-auth=maybe"], &[], "no-auth"),
        (&["--no-auth", "--bind", "localhost"], &[], "IP address"),
        (&["--no-auth", "--heartbeat", "15"], &[], "15s"),
        (&["--no-auth", "--heartbeat", "0s"], &[], "heartbeat"),
        (&["--no-auth", "--stall", "100h"], &[], "stall"),
        (&["--no-auth", "--request-timeout", "-1s"], &[], "request-timeout"),
        (&["--no-auth", "--max-body", "1T"], &[], "64M"),
        (&["--no-auth", "--threads", "0"], &[], "threads"),
        (&["--no-auth", "--threads", "many"], &[], "whole number"),
        (&["--no-auth", "--max-connections", "0"], &[], "max-connections"),
        (&["--no-auth", "--max-connections-per-ip", "0"], &[], "max-connections-per-ip"),
        (&["--no-auth", "--origin", "example.com"], &[], "https://example.com"),
        (&["--no-auth", "--origin", "https://example.com/"], &[], "origin"),
        (&["--no-auth"], &[("ESKER_HISTORY", "some")], "ESKER_HISTORY"),
        (&["--no-auth"], &[("ESKER_PORT", "-1")], "ESKER_PORT"),
        (&[], &[("ESKER_NO_AUTH", "perhaps")], "ESKER_NO_AUTH"),
        (&["--no-auth"], &[("PORT", "http")], "PORT"),
    ] {
        let (code, out, err) = run(arguments, environment);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?} {environment:?}: {err}");
        assert!(err.starts_with("esker: ") && err.contains(part), "{arguments:?}: {err}");
        assert!(err.contains("esker --help"), "{err}");
    }
}

#[test]
fn without_keys_both_alternatives_are_named() {
    for environment in [&[][..], &[("ESKER_NO_AUTH", "false")], &[("ESKER_NO_AUTH", "0")]] {
        let (code, out, err) = run(&["--port", "0"], environment);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        for part in ["ESKER_PUBLISHER_SECRET", "ESKER_SUBSCRIBER_SECRET", "--no-auth"] {
            assert!(err.contains(part), "{part} is not in {err}");
        }
    }
}

#[test]
fn every_option_has_a_variable_and_the_command_line_takes_precedence() {
    let environment = [
        ("ESKER_NO_AUTH", "yes"),
        ("ESKER_BIND", "127.0.0.2"),
        ("ESKER_THREADS", "3"),
        ("ESKER_MAX_BODY", "10"),
        ("ESKER_RETRY", "100s"),
        ("ESKER_ORIGIN", "https://one.example"),
    ];
    let broker = Broker::start_with(&["--max-body", "20", "--origin", "https://two.example"], &environment);
    assert_eq!(broker.address.ip().to_string(), "127.0.0.2");
    assert_eq!(broker.stats()["threads"], 3);
    let status =
        |length: usize| broker.post("/publish/topicone1", "", format!("data: {}", "x".repeat(length - 6))).status;
    assert_eq!((status(20), status(21)), (200, 413));
    let opening = broker.subscribe("/subscribe/topicone1", "").opening();
    let retry = opening.lines().find_map(|line| line.strip_prefix("retry: ")?.parse::<u64>().ok()).expect("a retry");
    assert!((66_000..=134_000).contains(&retry), "{retry}");
    let allowed = |origin: &str| {
        let response = broker.request(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"));
        response.field("Access-Control-Allow-Origin").is_some()
    };
    assert_eq!(
        (allowed("https://one.example"), allowed("https://two.example")),
        (false, true),
        "the option replaces the variable's list"
    );
}

/// The port is taken, so that the error names the port that the broker tried.
#[test]
fn the_port_comes_from_the_option_then_its_variable_then_port() {
    let first = Broker::start(&[]);
    let taken = first.address.port().to_string();
    let tries = |arguments: &[&str], environment: &[(&str, &str)]| {
        let (code, _, err) = run(&[&["--no-auth"], arguments].concat(), environment);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("127.0.0.1:{taken}")) && err.contains("--port"), "{err}");
    };
    tries(&["--port", &taken], &[("ESKER_PORT", "1"), ("PORT", "1")]);
    tries(&["-p", &taken], &[]);
    tries(&[&format!("-p{taken}")], &[]);
    tries(&[], &[("ESKER_PORT", &taken), ("PORT", "1")]);
    tries(&[], &[("PORT", &taken)]);
    first.assert_healthy();
}

#[test]
fn an_unavailable_address_exits_1() {
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--bind", "192.0.2.1"], &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("192.0.2.1") && err.contains("--bind"), "{err}");
}

#[test]
fn the_broker_listens_on_ipv6() {
    let broker = Broker::start(&["--bind", "::1"]);
    assert!(broker.address.is_ipv6());
    broker.assert_healthy();
}

#[test]
fn the_log_is_written_to_standard_error_and_has_levels() {
    let quiet = command(&[("ESKER_LOG", "error"), ("RUST_LOG", "info")])
        .args(["--no-auth", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut quiet = quiet.expect("the binary starts");
    // The log is silent, so the test asks the kernel whether the broker handles signals; one sent before that would kill it.
    let handled = || std::fs::read_to_string(format!("/proc/{}/status", quiet.id())).expect("it runs");
    let catches = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask").trim().to_owned();
        u64::from_str_radix(&mask, 16).expect("a mask is hexadecimal") & (1 << 14) != 0
    };
    while !catches(&handled()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let killed = Command::new("kill").arg(quiet.id().to_string()).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(quiet.wait().expect("it ends").code(), Some(0));
    let output = quiet.wait_with_output().expect("it has ended");
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
}

/// The kernel enlarges the table of descriptors when a connection finds it full, and the thread that accepts waits for that.
#[test]
fn there_is_room_for_many_descriptors_from_the_start() {
    let size = |broker: &Broker| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("it runs");
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("a size").trim().to_owned();
        size.parse::<usize>().expect("a number")
    };
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    // A few descriptors are not for connections.
    assert!(size(&Broker::start(&[])) >= usize::try_from(limit.min(64 << 10)).expect("it is small") - 64);
    // Not only for the connections: the kernel rounds up to powers of two.
    assert_eq!(size(&Broker::start(&["--max-connections", "2048"])), 4096);
}

fn open_streams(broker: &Broker, count: usize) -> Vec<Stream> {
    let mut streams: Vec<_> = (0..count).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    streams
}

#[test]
fn a_signal_ends_streams_properly() {
    for signal in ["TERM", "INT"] {
        let broker = Broker::start(&["--threads", "2"]);
        let mut idle = broker.connect();
        let mut kept = broker.connect();
        kept.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(kept.response().status, 200);
        let mut streams = open_streams(&broker, 5);
        broker.publish("topicone1", "data: last");
        broker.signal(signal);
        for stream in &mut streams {
            assert_eq!(stream.data(1), ["last"]);
            assert_eq!(stream.chunk(), None, "the last chunk");
            assert!(stream.connection.is_closed());
        }
        assert!(idle.is_closed() && kept.is_closed());
        let (code, log) = broker.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("draining"), "{log}");
    }
}

/// A request that began before the drain is completed; a new connection is not accepted.
#[test]
fn a_drain_waits_for_incomplete_requests() {
    let broker = Broker::start(&["--threads", "1"]);
    let mut asking = broker.connect();
    asking.send("GET /healthz HT");
    let mut publishing = broker.connect();
    publishing.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata:");
    let mut subscribing = broker.connect();
    subscribing.send("GET /subscribe/topicone1 HTTP/1.1\r\n");
    let mut stream = open_streams(&broker, 1).remove(0);
    broker.signal("TERM");
    assert_eq!(stream.chunk(), None);
    assert_draining(&mut asking, "TP/1.1\r\nHost: h\r\n\r\n");
    assert_draining(&mut publishing, " x");
    subscribing.send("Host: h\r\n\r\n");
    let mut subscriber = Stream::begin(subscribing);
    let retry = subscriber.opening().lines().find_map(|line| line.strip_prefix("retry: ")?.parse::<u64>().ok());
    assert!(retry.is_some_and(|retry| (5_000..=15_000).contains(&retry)), "{retry:?}");
    assert_eq!(subscriber.chunk(), None);
    assert!(subscriber.connection.is_closed());
    drop(subscriber);
    let address = broker.address;
    assert!(std::net::TcpStream::connect(address).is_err(), "no new connection is accepted");
    drop((asking, publishing, stream));
    assert_eq!(broker.wait().0, Some(0));
}

/// Sends the rest of a request, and expects 503, a Retry-After, and the end of the connection.
fn assert_draining(connection: &mut Connection, rest: &str) {
    connection.send(rest);
    let response = connection.response();
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    assert_eq!(response.field("Connection"), Some("close"));
    assert!(connection.is_closed());
}

#[test]
fn a_second_signal_exits_immediately() {
    let broker = Broker::start(&["--threads", "1"]);
    let mut half = broker.connect();
    half.send("GET /healthz HT");
    let mut stream = open_streams(&broker, 1).remove(0);
    broker.signal("TERM");
    assert_eq!(stream.chunk(), None, "it drains");
    assert!(half.is_silent(Duration::from_millis(50)), "and waits for requests in progress");
    broker.signal("INT");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(1), "{log}");
}

/// Half a request, and a subscriber and a client that read nothing: none of them keeps the broker running.
#[test]
fn a_drain_ends_after_ten_seconds_whatever_peers_do() {
    let broker = Broker::start(&["--request-timeout", "60s", "--max-body", "8M"]);
    let mut half = broker.connect();
    half.send("GET /healthz HT");
    let mut stalled = broker.connect();
    stalled.send("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n");
    broker.wait_for("subscribed", |stats| stats["subscribers"] == 1);
    broker.publish("topicone1", &format!("data: {}", "x".repeat(7 << 20)));
    broker.wait_for("stalled", |stats| stats["subscribers_stalled"] == 1);
    let mut unread = broker.connect();
    unread.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5000));
    let begin = Instant::now();
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop((half, stalled, unread));
}

/// In a burst, ids run ahead of the clock. A broker that starts right after must continue beyond them.
#[test]
fn ids_increase_across_a_restart_even_after_a_burst() {
    let burst = "data\n\n".repeat(10_000);
    let first = Broker::start(&[]);
    (0..50).for_each(|_| drop(first.publish("topicone1", &burst)));
    let last = first.publish("topicone1", &burst)["id"].as_str().and_then(|id| id.parse::<u64>().ok()).expect("an id");
    first.signal("KILL");
    let second = Broker::start(&[]);
    let next = second.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse::<u64>().ok());
    assert!(next > Some(last), "{next:?} after {last}");
    let mut stream = second.subscribe("/subscribe/topicone1", &format!("Last-Event-ID: {last}\r\n"));
    stream.opening();
    assert_eq!(stream.event().name.as_deref(), Some("gap"));
    assert_eq!(stream.data(1), ["x"]);
}

#[test]
fn a_refused_body_is_still_dropped_during_a_drain() {
    let broker = Broker::start(&["--threads", "1"]);
    let mut refused = broker.connect();
    // The body is longer than what the broker drops, so the response doesn't wait for its end.
    refused.send("POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n");
    assert!(!refused.is_silent(Duration::from_secs(5)), "no response within 5 s");
    // An open connection keeps the broker from stopping immediately.
    let mut half = broker.connect();
    half.send("GET /healthz HT");
    assert!(half.is_silent(Duration::from_millis(20)));
    broker.signal("TERM");
    for _ in 0..5 {
        assert!(half.is_silent(Duration::from_millis(40)));
        refused.socket.write_all(b"5\r\nhello\r\n").expect("no reset");
    }
    assert_eq!(refused.response().status, 404);
    drop((refused, half));
    assert_eq!(broker.wait().0, Some(0));
}

/// By default, the kernel ends a process that exceeds the file size limit of `LimitFSIZE=` or `ulimit -f`.
#[test]
fn the_file_size_limit_ends_neither_the_process_nor_its_streams() {
    let dir = TempDir::new();
    let broker = Broker::start(&["--data", &dir.path.join("data").display().to_string()]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    broker.limit_file_size(1 << 20);
    let body = format!("{{\"event\":\"a\",\"data\":\"{}\"}}", "x".repeat(200_000));
    let refused =
        std::iter::repeat_with(|| broker.post("/insert", "", &body)).take(20).find(|response| response.status != 200);
    assert_eq!(refused.expect("the limit is reached").status, 503);
    broker.publish("topicone1", "data: x");
    assert_eq!(stream.data(1), ["x"]);
    broker.signal("TERM");
    assert_eq!(stream.next(), None);
    assert_eq!(broker.wait().0, Some(0));
}

/// The history ends with the process, so accepted events must reach subscribers that still read.
#[test]
fn a_slow_reader_gets_everything_accepted_before_the_drain() {
    let broker = Broker::start(&[]);
    let large = format!("data: {}", "x".repeat(700_000));
    for _ in 0..20 {
        broker.publish("topicone1", &large);
    }
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=0", "");
    broker.wait_for("full", |stats| stats["subscribers_stalled"] == 1);
    broker.signal("TERM");
    assert_eq!(std::iter::from_fn(|| stream.next()).count(), 20);
    assert_eq!(broker.wait().0, Some(0));
}
