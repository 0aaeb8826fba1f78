//! The scripts of `scripts/load` run for a second each: they say that all is well when it is, and fail when the broker
//! refuses, is gone or delivers wrongly. How fast it goes is nobody's business here.
//! Those that flood take turns with the tests that want the machine for themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::scale::turn;
use super::support::tokens::{self, SECRETS};
use super::support::{Broker, finish};

/// Those that publish or insert, and what they say of a run that was good.
const ALONE: [(&str, &str); 5] = [
    ("publish.lua", "every response was 200"),
    ("insert.lua", "every response was 200"),
    ("publish.js", "✓ is accepted"),
    ("records.js", "✓ is read back"),
    ("resume.js", "✓ 'count>0'"),
];

const WELL: &str = "every stream got every event once and in order";

/// Nothing listens there.
const NOBODY: &str = "http://127.0.0.1:1";

/// A script against a URL, small, and patient with a slow machine.
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

/// Where `scripts/test` puts it.
fn k6() -> std::path::PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    target.join("load/bin/k6")
}

fn url(broker: &Broker) -> String {
    format!("http://{}", broker.address)
}

/// Tokens for everything.
fn good() -> [(&'static str, String); 2] {
    [("ESKER_PUBLISHER_TOKEN", tokens::publisher("*")), ("ESKER_SUBSCRIBER_TOKEN", tokens::subscriber("*"))]
}

/// Each signed with the other's key.
fn swapped() -> [(&'static str, String); 2] {
    [("ESKER_PUBLISHER_TOKEN", tokens::subscriber("*")), ("ESKER_SUBSCRIBER_TOKEN", tokens::publisher("*"))]
}

fn assert_succeeds(command: &mut Command, said: &str) {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(0), "{command:?}: {out}{err}");
    assert!(out.contains(said), "{command:?}: {out}{err}");
}

/// What it says.
fn assert_fails(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert!(code.is_some_and(|code| code != 0), "{command:?} ends with {code:?}: {out}{err}");
    out + &err
}

#[test]
fn each_puts_load_on_an_open_broker() {
    let _turn = turn();
    let broker = Broker::start(&[]);
    for (file, said) in ALONE {
        assert_succeeds(&mut script(file, &url(&broker)), said);
    }
    broker.assert_well();
}

#[test]
fn each_puts_load_on_a_broker_with_tokens() {
    let _turn = turn();
    let broker = Broker::start_secured(&[], &SECRETS);
    for (file, said) in ALONE {
        assert_succeeds(script(file, &url(&broker)).envs(good()), said);
    }
    broker.assert_well();
}

#[test]
fn a_refusal_is_told() {
    let _turn = turn();
    let broker = Broker::start_secured(&[], &SECRETS);
    for (file, said) in [
        ("publish.lua", "responses 401"),
        ("insert.lua", "responses 401"),
        ("publish.js", "✗ is accepted"),
        ("records.js", "✗ is stored"),
        ("resume.js", "✗ 'count==0'"),
        ("subscribers.py", "FAILED: status 401: 8"),
    ] {
        let told = assert_fails(script(file, &url(&broker)).envs(swapped()));
        assert!(told.contains(said), "{file}: {told}");
    }
    assert_eq!(broker.stats()["events_published"], 0);
}

/// It answers with 200 and the end, which is no failure by the status.
#[test]
fn a_full_broker_is_told() {
    let broker = Broker::start(&["--max-subscribers", "3"]);
    let told = assert_fails(&mut script("resume.js", &url(&broker)));
    assert!(told.contains("streams_ended\n    ✗ 'count==0'"), "{told}");
    let listener = &mut script("subscribers.py", &url(&broker));
    assert_fails(listener.env("ESKER_PATIENCE", "1s"));
}

#[test]
fn nobody_to_talk_to_is_told() {
    for (file, _) in ALONE.into_iter().chain([("subscribers.py", "")]) {
        assert_fails(&mut script(file, NOBODY));
    }
}

#[test]
fn several_topics_and_a_path_before_the_routes_are_served() {
    let _turn = turn();
    let broker = Broker::start(&[]);
    for file in ["publish.lua", "publish.js"] {
        let topic = file.replace('.', "");
        let command = &mut script(file, &url(&broker));
        let (code, out, err) = finish(command.env("ESKER_TOPIC", format!("{topic}1,{topic}2")));
        assert_eq!(code, Some(0), "{out}{err}");
        for topic in [format!("{topic}1"), format!("{topic}2")] {
            let mut stream = broker.subscribe(&format!("/subscribe/{topic}?last_event_id=0"), "");
            stream.opening();
            // A gap is fine: wrk publishes more than is retained.
            assert!(!stream.event().text.is_empty());
        }
    }
    let told = assert_fails(&mut script("publish.lua", &format!("{}/behind/", url(&broker))));
    assert!(told.contains("responses 404"), "{told}");
}

/// `subscribers.py` with all its streams open; killed when dropped.
struct Listener {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Listener {
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

    /// Its exit code and report, once it has heard nothing for a while.
    fn report(mut self) -> (Option<i32>, String) {
        let mut report = String::new();
        self.out.read_to_string(&mut report).expect("it speaks UTF-8");
        (self.child.wait().expect("it can be waited for").code(), report)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_hears_all(broker: &Broker, publisher: &str, tokens: &[(&'static str, String)]) {
    let tokens = || tokens.iter().map(|(name, token)| (name, token));
    // On a machine with much else to do, k6 may pause for a second.
    let patient = ("ESKER_QUIET", "3s");
    let listener = Listener::start(script("subscribers.py", &url(broker)).envs(tokens()).envs([patient]));
    let (code, out, err) = finish(script(publisher, &url(broker)).envs(tokens()));
    assert_eq!(code, Some(0), "{out}{err}");
    let events = broker.stats()["events_published"].as_u64().expect("a number");
    let (code, report) = listener.report();
    assert!(code == Some(0) && report.contains(WELL), "{report}");
    assert!(report.contains(&format!("{events} events, {} deliveries", events * 8)), "{report}");
}

#[test]
fn listeners_hear_everything() {
    assert_hears_all(&Broker::start(&[]), "publish.js", &[]);
    assert_hears_all(&Broker::start_secured(&[], &SECRETS), "publish.js", &good());
}

#[test]
fn a_broker_that_dies_is_told() {
    let _turn = turn();
    let broker = Broker::start(&[]);
    let listener = Listener::start(script("subscribers.py", &url(&broker)).env("ESKER_QUIET", "3s"));
    let mut publisher = script("publish.js", &url(&broker));
    publisher.env("ESKER_DURATION", "5s");
    let mut flood = script("publish.lua", &url(&broker));
    flood.env("ESKER_TOPIC", "loadtest2").arg("-d3s");
    let publisher = std::thread::spawn(move || assert_fails(&mut publisher));
    broker.wait_for("delivered", |stats| stats["events_delivered"].as_u64() >= Some(8));
    // Only now: k6 may need longer to begin than the flood lasts.
    let flood = std::thread::spawn(move || assert_fails(&mut flood));
    broker.wait_for("flooded", |stats| stats["events_published"].as_u64() > Some(1000));
    drop(broker);
    let told = publisher.join().expect("it fails");
    assert!(told.contains("✗ is accepted"), "{told}");
    let told = flood.join().expect("it fails");
    assert!(told.contains("FAILED") && told.contains("errors: "), "{told}");
    let (code, report) = listener.report();
    assert!(code == Some(1) && report.contains("streams not open at the end: 8"), "{report}");
}

/// Takes every POST, and gives each GET the next of these streams, the last one again and again.
fn pretend(streams: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    std::thread::spawn(move || {
        let (mut given, mut open) = (0, Vec::new());
        for socket in listener.incoming() {
            let mut socket = socket.expect("it can be accepted");
            let stream = streams[given.min(streams.len() - 1)];
            given += usize::from(answer(&mut socket, stream));
            open.push(socket);
        }
    });
    url
}

/// Whether it was a GET.
fn answer(socket: &mut TcpStream, stream: &str) -> bool {
    let mut request = [0; 4096];
    let count = socket.read(&mut request).unwrap_or(0);
    let is_get = request[..count].starts_with(b"GET");
    let answer = if is_get {
        format!("HTTP/1.1 200 OK\r\n\r\n:\n{stream}")
    } else {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".to_owned()
    };
    // Whoever is gone already does not care.
    let _ = socket.write_all(answer.as_bytes());
    is_get
}

const ONE: &str = "data: 1\nid: 1\n\n";
const ONE_TWO: &str = "data: 1\nid: 1\n\ndata: 2\nid: 2\n\n";
const ONE_THREE: &str = "data: 1\nid: 1\n\ndata: 3\nid: 3\n\n";
const ONE_TWO_THREE: &str = "data: 1\nid: 1\n\ndata: 2\nid: 2\n\ndata: 3\nid: 3\n\n";
const ONE_THREE_TWO: &str = "data: 1\nid: 1\n\ndata: 3\nid: 3\n\ndata: 2\nid: 2\n\n";
const GAP_ONE: &str = "event: gap\ndata: {\"after\":\"0\",\"oldest\":\"1\"}\n\ndata: 1\nid: 1\n\n";

/// What the listener makes of three wrong streams; it is one of these, for any of the three may come first.
fn assert_finds(streams: &'static [&'static str], said: &[&str]) {
    let told = assert_fails(script("subscribers.py", &pretend(streams)).env("ESKER_SUBSCRIBERS", "3"));
    let is_said = said.iter().any(|said| told.contains(&format!("FAILED: {said}\n")));
    assert!(is_said, "{streams:?}: {told}");
}

#[test]
fn the_listener_finds_what_is_wrong() {
    assert_finds(&[ONE_TWO_THREE, ONE_THREE, ONE_TWO_THREE], &["lost: 1", "missing at the end: 1"]);
    assert_finds(&[ONE_TWO_THREE, ONE, ONE_TWO], &["missing at the end: 3"]);
    assert_finds(
        &[ONE_TWO_THREE, ONE_THREE_TWO, ONE_TWO_THREE],
        &["lost: 1, duplicated or out of order: 1", "missing at the end: 1, duplicated or out of order: 1"],
    );
    assert_finds(&[GAP_ONE], &["gap events: 3"]);
}

#[test]
fn a_resuming_client_finds_what_is_wrong() {
    let cases: [(&[&str], &[&str]); 3] = [
        (&[ONE_THREE], &["events_lost", "events_doubled"]),
        (&[ONE_TWO_THREE], &["events_doubled"]),
        (&[GAP_ONE], &["gaps"]),
    ];
    for (streams, metrics) in cases {
        let told = assert_fails(script("resume.js", &pretend(streams)).env("ESKER_SUBSCRIBERS", "1"));
        for metric in metrics {
            assert!(told.contains(&format!("{metric}\n    ✗ 'count==0'")), "{metric}: {told}");
        }
    }
}
