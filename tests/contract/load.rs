//! The scripts in `scripts/load`, run for one second each: they report success when all is well, and fail when the broker
//! refuses requests, is unreachable, or delivers incorrectly. Speed isn't tested here. Scripts that produce heavy load share a
//! lock with other tests that need the machine to themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::scale::lock_machine;
use super::support::tokens::{self, SECRETS};
use super::support::{Broker, finish};

/// Scripts that only publish or insert, and what they print after a successful run.
const PUBLISHERS: [(&str, &str); 5] = [
    ("publish.lua", "every response was 200"),
    ("insert.lua", "every response was 200"),
    ("publish.js", "✓ is accepted"),
    ("records.js", "✓ is read back"),
    ("resume.js", "✓ 'count>0'"),
];

const ALL_RECEIVED: &str = "every stream got every event once and in order";

/// No process listens at this address.
const UNREACHABLE: &str = "http://127.0.0.1:1";

/// Returns a command for a script against a URL, with a small load and long timeouts for slow machines.
fn script(file: &str, url: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/load").join(file);
    let (_, extension) = file.rsplit_once('.').expect("it is in some language");
    let mut command = match extension {
        "lua" => Command::new("wrk"),
        "js" => Command::new(k6()),
        _ => Command::new("python3"),
    };
    match extension {
        "lua" => command.args(["-t2", "-c4", "-d1s", "-s"]).arg(path).arg(url),
        "js" => command.args(["run", "-q", "--no-usage-report", "--address=", "--log-output=none"]).arg(path),
        _ => command.arg(path),
    };
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("ESKER_URL", url).envs([
        ("ESKER_RATE", "20"),
        ("ESKER_DURATION", "1s"),
        ("ESKER_P99_MS", "60000"),
        ("ESKER_CUT_MS", "400"),
        ("ESKER_SUBSCRIBERS", "8"),
        ("ESKER_NAMES", "3"),
        ("ESKER_QUIET", "1s"),
        ("ESKER_PATIENCE", "15s"),
    ]);
    command
}

/// `scripts/test` installs k6 in this directory.
fn k6() -> std::path::PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    target.join("load/bin/k6")
}

fn url(broker: &Broker) -> String {
    format!("http://{}", broker.address)
}

/// Tokens for every route.
fn valid_tokens() -> [(&'static str, String); 2] {
    [("ESKER_PUBLISHER_TOKEN", tokens::publisher("*")), ("ESKER_SUBSCRIBER_TOKEN", tokens::subscriber("*"))]
}

/// Each token is signed with the other role's key.
fn swapped_tokens() -> [(&'static str, String); 2] {
    [("ESKER_PUBLISHER_TOKEN", tokens::subscriber("*")), ("ESKER_SUBSCRIBER_TOKEN", tokens::publisher("*"))]
}

fn assert_succeeds(command: &mut Command, expected: &str) {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(0), "{command:?}: {out}{err}");
    assert!(out.contains(expected), "{command:?}: {out}{err}");
}

/// Returns what the command prints.
fn assert_fails(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert!(code.is_some_and(|code| code != 0), "{command:?} ends with {code:?}: {out}{err}");
    out + &err
}

#[test]
fn each_script_runs_against_an_open_broker() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    for (file, expected) in PUBLISHERS {
        assert_succeeds(&mut script(file, &url(&broker)), expected);
    }
    broker.assert_healthy();
}

#[test]
fn each_script_runs_against_a_broker_with_tokens() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    for (file, expected) in PUBLISHERS {
        assert_succeeds(script(file, &url(&broker)).envs(valid_tokens()), expected);
    }
    broker.assert_healthy();
}

#[test]
fn a_refusal_is_reported() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    for (file, expected) in [
        ("publish.lua", "responses 401"),
        ("insert.lua", "responses 401"),
        ("publish.js", "✗ is accepted"),
        ("records.js", "✗ is stored"),
        ("resume.js", "✗ 'count==0'"),
        ("subscribers.py", "FAILED: status 401: 8"),
    ] {
        let output = assert_fails(script(file, &url(&broker)).envs(swapped_tokens()));
        assert!(output.contains(expected), "{file}: {output}");
    }
    assert_eq!(broker.stats()["events_published"], 0);
}

/// A full broker responds with status 200 and ends the stream, which the status alone doesn't show as a failure.
#[test]
fn a_full_broker_is_reported() {
    let broker = Broker::start(&["--max-subscribers", "3"]);
    let output = assert_fails(&mut script("resume.js", &url(&broker)));
    assert!(output.contains("streams_ended\n    ✗ 'count==0'"), "{output}");
    let listener = &mut script("subscribers.py", &url(&broker));
    assert_fails(listener.env("ESKER_PATIENCE", "1s"));
}

#[test]
fn an_unreachable_broker_is_reported() {
    for (file, _) in PUBLISHERS.into_iter().chain([("subscribers.py", "")]) {
        assert_fails(&mut script(file, UNREACHABLE));
    }
}

#[test]
fn several_topics_and_a_path_prefix_work() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    for file in ["publish.lua", "publish.js"] {
        let topic = file.replace('.', "");
        let command = &mut script(file, &url(&broker));
        let (code, out, err) = finish(command.env("ESKER_TOPIC", format!("{topic}1,{topic}2")));
        assert_eq!(code, Some(0), "{out}{err}");
        for topic in [format!("{topic}1"), format!("{topic}2")] {
            let mut stream = broker.subscribe(&format!("/subscribe/{topic}?last_event_id=0"), "");
            stream.opening();
            // A gap is fine: wrk publishes more events than are retained.
            assert!(!stream.event().text.is_empty());
        }
    }
    let output = assert_fails(&mut script("publish.lua", &format!("{}/behind/", url(&broker))));
    assert!(output.contains("responses 404"), "{output}");
}

/// A running `subscribers.py` with all its streams open; killed when dropped.
struct Subscribers {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Subscribers {
    fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("scripts/test installs it");
        let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut listener = Self { child, out };
        let mut line = String::new();
        listener.out.read_line(&mut line).expect("it speaks UTF-8");
        assert_eq!(line, "8 streams are open\n");
        listener
    }

    /// Returns the exit code and the report, once no event has arrived for a while.
    fn report(mut self) -> (Option<i32>, String) {
        let mut report = String::new();
        self.out.read_to_string(&mut report).expect("it speaks UTF-8");
        (self.child.wait().expect("it can be waited for").code(), report)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_receives_all(broker: &Broker, publisher: &str, tokens: &[(&'static str, String)]) {
    let tokens = || tokens.iter().map(|(name, token)| (name, token));
    // On a busy machine, k6 may pause for a second.
    let patient = ("ESKER_QUIET", "3s");
    let listener = Subscribers::start(script("subscribers.py", &url(broker)).envs(tokens()).envs([patient]));
    let (code, out, err) = finish(script(publisher, &url(broker)).envs(tokens()));
    assert_eq!(code, Some(0), "{out}{err}");
    let events = broker.stats()["events_published"].as_u64().expect("a number");
    let (code, report) = listener.report();
    assert!(code == Some(0) && report.contains(ALL_RECEIVED), "{report}");
    assert!(report.contains(&format!("{events} events, {} deliveries", events * 8)), "{report}");
}

#[test]
fn subscribers_receive_everything() {
    assert_receives_all(&Broker::start(&[]), "publish.js", &[]);
    assert_receives_all(&Broker::start_with_tokens(&[], &SECRETS), "publish.js", &valid_tokens());
}

#[test]
fn a_killed_broker_is_reported() {
    let _lock = lock_machine();
    let broker = Broker::start(&[]);
    let listener = Subscribers::start(script("subscribers.py", &url(&broker)).env("ESKER_QUIET", "3s"));
    let mut publisher = script("publish.js", &url(&broker));
    publisher.env("ESKER_DURATION", "5s");
    let mut flood = script("publish.lua", &url(&broker));
    flood.env("ESKER_TOPIC", "loadtest2").arg("-d3s");
    let publisher = std::thread::spawn(move || assert_fails(&mut publisher));
    broker.wait_for("delivered", |stats| stats["events_delivered"].as_u64() >= Some(8));
    // The broker stops only now, because k6 may need longer to start than the load lasts.
    let flood = std::thread::spawn(move || assert_fails(&mut flood));
    broker.wait_for("flooded", |stats| stats["events_published"].as_u64() > Some(1000));
    drop(broker);
    let output = publisher.join().expect("it fails");
    assert!(output.contains("✗ is accepted"), "{output}");
    let output = flood.join().expect("it fails");
    assert!(output.contains("FAILED") && output.contains("errors: "), "{output}");
    let (code, report) = listener.report();
    assert!(code == Some(1) && report.contains("streams not open at the end: 8"), "{report}");
}

/// Accepts every POST, and responds to each GET with the next of these streams, repeating the last one.
fn serve_fake_streams(streams: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    std::thread::spawn(move || {
        let (mut given, mut open) = (0, Vec::new());
        for socket in listener.incoming() {
            let mut socket = socket.expect("it can be accepted");
            let stream = streams[given.min(streams.len() - 1)];
            given += usize::from(serve_one(&mut socket, stream));
            open.push(socket);
        }
    });
    url
}

/// Returns whether the request was a GET.
fn serve_one(socket: &mut TcpStream, stream: &str) -> bool {
    let mut request = [0; 4096];
    let count = socket.read(&mut request).unwrap_or(0);
    let is_get = request[..count].starts_with(b"GET");
    let response = if is_get {
        format!("HTTP/1.1 200 OK\r\n\r\n:\n{stream}")
    } else {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".to_owned()
    };
    // The client may have disconnected already.
    let _ = socket.write_all(response.as_bytes());
    is_get
}

const ONE: &str = "data: 1\nid: 1\n\n";
const ONE_TWO: &str = "data: 1\nid: 1\n\ndata: 2\nid: 2\n\n";
const ONE_THREE: &str = "data: 1\nid: 1\n\ndata: 3\nid: 3\n\n";
const ONE_TWO_THREE: &str = "data: 1\nid: 1\n\ndata: 2\nid: 2\n\ndata: 3\nid: 3\n\n";
const ONE_THREE_TWO: &str = "data: 1\nid: 1\n\ndata: 3\nid: 3\n\ndata: 2\nid: 2\n\n";
const GAP_ONE: &str = "event: gap\ndata: {\"after\":\"0\",\"oldest\":\"1\"}\n\ndata: 1\nid: 1\n\n";

/// Asserts what the listener reports about three wrong streams. Any of the three may come first, so it is one of several
/// reports.
fn assert_reports(streams: &'static [&'static str], expected: &[&str]) {
    let output = assert_fails(script("subscribers.py", &serve_fake_streams(streams)).env("ESKER_SUBSCRIBERS", "3"));
    let is_reported = expected.iter().any(|expected| output.contains(&format!("FAILED: {expected}\n")));
    assert!(is_reported, "{streams:?}: {output}");
}

#[test]
fn the_listener_reports_wrong_streams() {
    assert_reports(&[ONE_TWO_THREE, ONE_THREE, ONE_TWO_THREE], &["lost: 1", "missing at the end: 1"]);
    assert_reports(&[ONE_TWO_THREE, ONE, ONE_TWO], &["missing at the end: 3"]);
    assert_reports(
        &[ONE_TWO_THREE, ONE_THREE_TWO, ONE_TWO_THREE],
        &["lost: 1, duplicated or out of order: 1", "missing at the end: 1, duplicated or out of order: 1"],
    );
    assert_reports(&[GAP_ONE], &["gap events: 3"]);
}

#[test]
fn a_resuming_client_reports_wrong_streams() {
    let cases: [(&[&str], &[&str]); 3] = [
        (&[ONE_THREE], &["events_lost", "events_doubled"]),
        (&[ONE_TWO_THREE], &["events_doubled"]),
        (&[GAP_ONE], &["gaps"]),
    ];
    for (streams, metrics) in cases {
        let output = assert_fails(script("resume.js", &serve_fake_streams(streams)).env("ESKER_SUBSCRIBERS", "1"));
        for metric in metrics {
            assert!(output.contains(&format!("{metric}\n    ✗ 'count==0'")), "{metric}: {output}");
        }
    }
}
