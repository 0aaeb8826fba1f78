//! What the log says of limits: one warning when a limit is reached, however much is refused then, and one when it no longer is.

use std::net::SocketAddr;

use serde_json::json;

use super::support::tokens::{self, SECRETS, SUBSCRIBER, now, sign_hmac};
use super::support::{Broker, Connection};

/// How often each limit is exceeded.
const REFUSALS: usize = 1_000;

/// Sends a request again and again over one connection, and requires this status.
fn repeat(broker: &Broker, request: &str, status: u16) {
    let mut connection = broker.connect();
    for _ in 0..REFUSALS {
        connection.send(request);
        assert_eq!(connection.response().status, status);
    }
}

/// Opens streams that end at once, because of a limit.
fn open_refused_streams(broker: &Broker, target: &str, fields: &str) {
    for _ in 0..REFUSALS {
        assert!(broker.subscribe(target, fields).opening().contains("reconnect later"));
    }
}

fn post(target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A limit as the log names it, and what the first warning contains.
type Expected<'a> = (&'a str, &'a str);

/// Waits until none of the limits is reached any more, and checks that each has two warnings.
fn assert_pairs(broker: &Broker, expected: &[Expected<'_>]) {
    let ends = [" is no longer reached (", " are no longer refused ("];
    let count_ends = |log: &str| log.lines().filter(|line| ends.iter().any(|end| line.contains(end))).count();
    let log = broker.log_until(|log| count_ends(log) >= expected.len());
    for (name, first) in expected {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&format!("] {name}"))).collect();
        let [reached, over] = lines[..] else { panic!("{name}: {log}") };
        assert!(reached.contains(" WARN ") && reached.contains(first), "{reached}");
        assert!(over.contains(" WARN ") && over.contains(", none in the last 10 s)"), "{over}");
    }
    assert_eq!(log.matches(" WARN ").count(), 2 * expected.len(), "{log}");
    assert!(!log.contains("eyJ"), "a token: {log}");
}

/// Limits of what clients with tokens do.
fn exceed_quotas() -> Broker {
    let arguments = ["--max-subscribers-per-sub", "1", "--publish-rate", "1", "--publish-burst", "1", "--threads", "1"];
    let broker = Broker::start_with_tokens(&arguments, &SECRETS);
    let claims = json!({"exp": now() + 3600, "sub": "user:1", "topics": ["topicone1"]});
    let subscriber = sign_hmac("HS256", &claims, SUBSCRIBER);
    let publisher = tokens::publisher("topicone1");
    let mut stream = broker.subscribe(&format!("/subscribe/topicone1?token={subscriber}"), "");
    stream.opening();
    open_refused_streams(&broker, &format!("/subscribe/topicone1?token={subscriber}"), "");
    let request = post(&format!("/publish/topicone1?token={publisher}"), "", "data: x");
    let mut connection = broker.connect();
    let mut refused = 0;
    while refused < REFUSALS {
        connection.send(&request);
        refused += usize::from(connection.response().status == 429);
    }
    let expired = tokens::subscriber_until("topicone1", now() - 5);
    repeat(&broker, &format!("GET /subscribe/topicone1?token={expired} HTTP/1.1\r\nHost: h\r\n\r\n"), 401);
    std::mem::forget(stream);
    broker
}

/// Limits of what the broker holds.
fn exceed_capacity() -> Broker {
    let sizes = ["--max-topics", "1", "--max-subscribers", "1", "--latest-bytes", "1", "--history-bytes", "100K"];
    let broker = Broker::start(&[&sizes[..], &["--threads", "1"]].concat());
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    open_refused_streams(&broker, "/subscribe/topicone1?prime", "");
    repeat(&broker, &post("/publish/topictwo2?event=x", "", "data: x"), 503);
    repeat(&broker, &post("/publish/topicone1?event=x", "", &format!("data: {}", "x".repeat(2_000))), 200);
    assert_eq!(broker.post("/insert", "", r#"{"event":"user","data":1}"#).status, 200);
    repeat(&broker, &post("/insert?x", "", r#"{"event":"user","data":1}"#), 503);
    std::mem::forget(stream);
    broker
}

fn exceed_connections_per_address() -> Broker {
    let broker = Broker::start(&["--max-connections-per-ip", "1", "--bind", "0.0.0.0", "--threads", "1"]);
    let address = SocketAddr::from(([127, 0, 0, 1], broker.address.port()));
    let only = Connection::open(address);
    for _ in 0..REFUSALS {
        assert!(Connection::open(address).is_closed());
    }
    drop(only);
    broker
}

fn exceed_connections() -> Broker {
    let broker = Broker::start(&["--max-connections", "1", "--max-subscribers", "1", "--threads", "1"]);
    let mut inside = broker.connect();
    // The beginning of another request keeps it from being closed for those that wait.
    inside.send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\nGET");
    assert_eq!(inside.response().status, 200);
    let waiting: Vec<_> = (0..REFUSALS).map(|_| broker.connect()).collect();
    broker.wait_for_log("--max-connections 1 is reached; new connections wait");
    drop((inside, waiting));
    broker
}

/// All brokers wait for the end of their limits at the same time.
#[test]
fn each_limit_is_logged_once_when_it_is_reached_and_once_when_it_is_over() {
    let quotas = exceed_quotas();
    let capacity = exceed_capacity();
    let per_address = exceed_connections_per_address();
    let connections = exceed_connections();
    assert_pairs(
        &quotas,
        &[
            ("--max-subscribers-per-sub 1 ", "(first: GET /subscribe/topicone1 from 127.0.0.1); "),
            ("--publish-rate 1 ", "(first: POST /publish/topicone1 from 127.0.0.1); "),
            ("tokens ", "(first: GET /subscribe/topicone1 from 127.0.0.1: the token expired"),
        ],
    );
    assert_pairs(
        &capacity,
        &[
            ("--max-subscribers 1 ", "(first: GET /subscribe/topicone1 from 127.0.0.1); "),
            ("--max-topics 1 ", "(first: POST /publish/topictwo2 from 127.0.0.1); "),
            ("--history-bytes 100K ", "(first: POST /publish/topicone1 from 127.0.0.1); "),
            ("--latest-bytes 1 ", "(first: POST /insert from 127.0.0.1); "),
        ],
    );
    assert_pairs(&per_address, &[("--max-connections-per-ip 1 ", "(first: 127.0.0.1); ")]);
    let over = connections.log_until(|log| log.contains("--max-connections 1 is no longer reached ("));
    assert_eq!(over.matches(" WARN ").count(), 1, "{over}");
}
