//! `--access-log`: a line on standard output for each response, without credentials, and never at the cost of a worker.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::process::Command;

use serde_json::{Value, json};

use super::listeners::connect_unix;
use super::support::tokens::{self, PUBLISHER, SECRETS, SUBSCRIBER, bearer, now, sign_hmac};
use super::support::{Broker, Connection, Response, Stream, TempDir, command, fill_pipe, run};

/// Returns a command whose standard output is a pipe, and the lines of that pipe.
fn with_output(environment: &[(&str, &str)]) -> (Command, impl Iterator<Item = String> + use<>) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let mut command = command(environment);
    command.stdout(writer);
    (command, lines(reader))
}

fn lines(reader: PipeReader) -> impl Iterator<Item = String> {
    BufReader::new(reader).lines().map(|line| line.expect("the log is UTF-8"))
}

fn send(mut connection: Connection, request: &str) -> u16 {
    connection.send(request);
    Response::without_body(connection.head()).status
}

/// Splits a line into the client, the time, and the rest.
fn parse_common(line: &str) -> (&str, &str, &str) {
    let (client, rest) = line.split_once(" - - [").expect("a client");
    let (time, rest) = rest.split_once("] ").expect("a time");
    (client, time, rest)
}

#[test]
fn every_response_has_a_common_line() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let (command, mut log) = with_output(&[]);
    let unix = format!("unix:{}", path.display());
    let arguments = ["--access-log", "common", "--listen", &unix, "--trusted-proxy", "127.0.0.1"];
    let broker = Broker::start_command(command, &arguments);
    let forwarded = "X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n";
    for (request, client, line) in [
        ("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"GET /healthz HTTP/1.1\" 200 2"),
        ("HEAD /healthz?a=b HTTP/1.0\r\n\r\n", "127.0.0.1", "\"HEAD /healthz?a=b HTTP/1.0\" 200 0"),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"OPTIONS * HTTP/1.1\" 204 0"),
        (
            &format!("GET /subscribe/topicone1?token=s3cret&x HTTP/1.1\r\nHost: h\r\n{forwarded}\r\n"),
            "192.0.2.1",
            "\"GET /subscribe/topicone1?token=***&x HTTP/1.1\" 200 -",
        ),
        ("HEAD /events HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"HEAD /events HTTP/1.1\" 200 0"),
        ("PUT http://h/a%22b HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"PUT * HTTP/1.1\" "),
        ("GET /a\"b HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"GET /a\\\"b HTTP/1.1\" 404 "),
        (
            "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n",
            "127.0.0.1",
            "\"POST /publish/topicone1 HTTP/1.1\" 413 ",
        ),
        (
            "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x",
            "127.0.0.1",
            "\"POST /publish/topicone1 HTTP/1.1\" 200 ",
        ),
        (
            "POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":1}",
            "127.0.0.1",
            "\"POST /insert HTTP/1.1\" 200 ",
        ),
        ("GET /audit/a HTTP/1.1\r\nHost: h\r\n\r\n", "127.0.0.1", "\"GET /audit/a HTTP/1.1\" 200 "),
        (&format!("GET / HTTP/1.1\r\n{forwarded}\r\n"), "127.0.0.1", "\"-\" 400 "),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", "127.0.0.1", "\"-\" 505 "),
    ] {
        let status = send(broker.connect(), request);
        let shown = log.next().expect("a line");
        let (found, time, rest) = parse_common(&shown);
        assert!(found == client && rest.starts_with(line), "{request}: {shown}");
        assert!(rest.contains(&format!(" {status} ")), "{shown}");
        assert!(time.len() == 26 && time.ends_with(" +0000") && time[11..].starts_with(":"), "{time}");
    }
    assert_eq!(send(connect_unix(&path), "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
    assert_eq!(parse_common(&log.next().expect("a line")).0, "unix");
    // Pipelined requests, the last of which is malformed.
    let mut connection = broker.connect();
    connection.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: h\r\n\r\nGET\r\n\r\n");
    for part in ["\"GET /livez HTTP/1.1\" 200 2", "\"GET /nowhere HTTP/1.1\" 404 ", "\"-\" 400 "] {
        let shown = log.next().expect("a line");
        assert!(parse_common(&shown).2.starts_with(part), "{shown}");
    }
    broker.signal("TERM");
    assert_eq!((broker.wait().0, log.next()), (Some(0), None));
}

#[test]
fn json_lines_are_objects_with_the_sub_and_without_the_token() {
    let (mut command, mut log) = with_output(&SECRETS);
    command.env("ESKER_ACCESS_LOG", "json");
    let broker = Broker::start_command_with_tokens(command, &["--request-timeout", "200ms"]);
    let claims = json!({"exp": now() + 3600, "sub": "user \"1\"", "topics": ["topicone1"]});
    let [publisher, subscriber, forged] = [PUBLISHER, SUBSCRIBER, "another secret of at least 32 bytes"]
        .map(|secret| sign_hmac("HS256", &claims, secret));
    let mut next = || -> Value { serde_json::from_str(&log.next().expect("a line")).expect("JSON") };

    let agent = "User-Agent: \"a\"\tb\u{e9}\\\r\nCookie: esker_token=s3cret\r\nReferer: http://s3cret\r\n";
    let target = format!("/publish/topicone1?token={publisher}");
    assert_eq!(broker.post(&target, agent, "data: x").status, 200);
    let line = next();
    let text = line.to_string();
    assert!(!text.contains("s3cret") && !text.contains(&publisher[10..20]), "{text}");
    assert_eq!(line["target"], "/publish/topicone1?token=***");
    assert_eq!((&line["method"], &line["version"]), (&"POST".into(), &"HTTP/1.1".into()));
    assert_eq!((&line["client"], &line["user_agent"]), (&"127.0.0.1".into(), &"\"a\"\tb\u{e9}\\".into()));
    assert_eq!((&line["status"], &line["sub"]), (&200.into(), &"user \"1\"".into()));
    assert!(line["bytes"].as_u64().is_some_and(|bytes| bytes > 40), "{line}");
    assert!(line["duration_ms"].as_u64().is_some_and(|millis| millis < 20_000), "{line}");
    let time = line["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");

    // The next request has no token, so it has no `sub`.
    assert_eq!(broker.get("/subscribe/topicone1").status, 401);
    let line = next();
    assert_eq!((&line["status"], line.get("sub"), &line["user_agent"]), (&401.into(), None, &Value::Null));
    let refused = [bearer(&forged), tokens::cookie(&forged)];
    for fields in refused {
        assert_eq!(broker.request(format!("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).status, 401);
        let line = next();
        assert_eq!((&line["status"], line.get("sub")), (&401.into(), None));
        assert!(!line.to_string().contains(&forged[10..20]), "{line}");
    }

    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(&subscriber));
    stream.opening();
    let line = next();
    assert_eq!((&line["status"], &line["bytes"], &line["sub"]), (&200.into(), &Value::Null, &"user \"1\"".into()));

    // A head that does not arrive, and a request whose body does not.
    let mut connection = broker.connect();
    connection.send("GET /healthz HTTP/1.1\r\nHos");
    assert_eq!(connection.response().status, 408);
    let line = next();
    assert_eq!((&line["status"], &line["method"], &line["target"]), (&408.into(), &Value::Null, &Value::Null));
    let mut connection = broker.connect();
    let pass = bearer(&publisher);
    connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{pass}Content-Length: 9\r\n\r\ndata"));
    assert_eq!(connection.response().status, 408);
    let line = next();
    assert_eq!(
        (&line["status"], &line["target"], &line["sub"]),
        (&408.into(), &"/publish/topicone1".into(), &"user \"1\"".into())
    );
    assert!(line["duration_ms"].as_u64().is_some_and(|millis| millis >= 200), "{line}");
}

#[test]
fn requests_of_the_administration_are_not_logged() {
    let (command, mut log) = with_output(&[]);
    let broker = Broker::start_command(command, &["--access-log", "common", "--admin", "127.0.0.1:0"]);
    let admin = broker.addresses[1];
    assert_eq!(send(Connection::open(admin), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200);
    assert_eq!(send(Connection::open(admin), "GET\r\n\r\n"), 400);
    assert_eq!(broker.get("/subscribe/x").status, 400);
    let line = log.next().expect("a line");
    assert!(line.contains("\"GET /subscribe/x HTTP/1.1\" 400 "), "{line}");
}

#[test]
fn an_unread_access_log_blocks_nobody() {
    const REQUESTS: usize = 8_000;
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    fill_pipe(&writer);
    let mut command = command(&[]);
    command.stdout(writer);
    let broker = Broker::start_command(command, &["--access-log", "common", "--threads", "1"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    let mut connection = broker.connect();
    for _ in 0..REQUESTS / 100 {
        connection.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100));
        (0..100).for_each(|_| assert_eq!(connection.response().status, 200));
    }
    broker.publish("topicone1", "data: x");
    assert_eq!(stream.data(1), ["x"]);
    let dropped = broker.metrics().value("esker_access_log_lines_dropped_total");
    assert!(dropped >= (REQUESTS - 5_000) as f64, "{dropped}");
    assert_eq!(broker.metrics().value("esker_log_lines_dropped_total"), 0.0);

    // Once it is read again, the log reports what was dropped.
    let reading = std::thread::spawn(move || lines(reader).filter(|line| line.contains("GET /livez")).count());
    broker.wait_for_log("lines of the access log were dropped");
    broker.signal("TERM");
    assert_eq!((stream.next(), broker.wait().0), (None, Some(0)));
    let kept = reading.join().expect("it ends");
    assert!(kept > 0 && kept <= REQUESTS - 1_000, "{kept}");
}

#[test]
fn a_full_pipe_of_the_access_log_does_not_prevent_stopping() {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    fill_pipe(&writer);
    let mut command = command(&[("ESKER_ACCESS_LOG", "json")]);
    command.stdout(writer);
    let broker = Broker::start_command(command, &[]);
    let mut stream = Stream::open(broker.connect(), "/subscribe/topicone1", "");
    broker.signal("TERM");
    assert_eq!((stream.next(), broker.wait().0), (None, Some(0)));
    drop(reader);
}

#[test]
fn it_is_off_by_default_and_other_formats_are_usage_errors() {
    let (command, mut log) = with_output(&[]);
    let broker = Broker::start_command(command, &[]);
    broker.assert_healthy();
    broker.signal("TERM");
    assert_eq!((broker.wait().0, log.next()), (Some(0), None));
    let (code, out, err) = run(&["--no-auth", "--access-log", "combined"], &[]);
    assert!(code == Some(2) && out.is_empty() && err.contains("give common or json"), "{err}");
}
