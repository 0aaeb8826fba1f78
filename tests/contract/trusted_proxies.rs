//! `--trusted-proxy`: whose `X-Forwarded-For` is believed, and what counts per client address behind a proxy.

use std::time::Instant;

use super::limits::open_from;
use super::listeners::connect_unix;
use super::support::{Broker, Connection, Stream, TIMEOUT, TempDir, run};

/// Sends a request that is refused, on a connection of its own. The log has a line with the client's address.
fn send_refused(mut connection: Connection, forwarded_for: &str) {
    connection.send(format!("GET /nowhere HTTP/1.1\r\nHost: h\r\n{forwarded_for}\r\n"));
    assert_eq!(connection.response().status, 404);
}

#[test]
fn only_trusted_proxies_are_believed() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let unix = format!("unix:{}", path.display());
    let log = [("ESKER_LOG", "debug")];
    let field = "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-FORWARDED-FOR: [2001:db8::1]:80, 10.0.0.1\r\n";

    let ignoring = Broker::start_with(&["--listen", &unix], &log);
    send_refused(ignoring.connect(), field);
    ignoring.wait_for_log("404 to 127.0.0.1: ");
    send_refused(connect_unix(&path), field);
    ignoring.wait_for_log("404 to a Unix socket: ");
    drop(ignoring);

    let trusting = ["--listen", &unix, "--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8"];
    let broker = Broker::start_with(&trusting, &log);
    for (fields, address) in [
        (field, "2001:db8::1"),
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.1, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\nX-Real-IP: 192.0.2.3\r\n", "192.0.2.1"),
    ] {
        send_refused(broker.connect(), fields);
        broker.wait_for_log(&format!("404 to {address}: "));
    }
    send_refused(open_from([127, 0, 0, 2], broker.address), field);
    broker.wait_for_log("404 to 127.0.0.2: ");
    send_refused(connect_unix(&path), field);
    broker.wait_for_log("404 to a Unix socket: ");
    drop(broker);

    let broker = Broker::start_with(&["--listen", &unix], &[log[0], ("ESKER_TRUSTED_PROXY", "unix, 10.0.0.0/8")]);
    send_refused(connect_unix(&path), field);
    broker.wait_for_log("404 to 2001:db8::1: ");
    send_refused(broker.connect(), field);
    broker.wait_for_log("404 to 127.0.0.1: ");
}

/// Each of several requests on one connection has its own client, whether they are pipelined or not.
#[test]
fn a_proxy_sends_requests_of_many_clients_on_one_connection() {
    let broker = Broker::start_with(&["--trusted-proxy", "127.0.0.0/8"], &[("ESKER_LOG", "debug")]);
    let mut connection = broker.connect();
    let request = |address: &str| format!("GET /nowhere HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n");
    let without = "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n";
    // The last head is malformed, so its field is not read.
    let malformed = "GET /nowhere HTTP/1.1\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";
    connection.send([&request("192.0.2.1"), &request("192.0.2.2"), without, malformed].concat());
    assert_eq!([(); 4].map(|()| connection.response().status), [404, 404, 404, 400]);
    for line in ["404 to 192.0.2.1", "404 to 192.0.2.2", "404 to 127.0.0.1", "400 to 127.0.0.1"] {
        broker.wait_for_log(line);
    }
}

fn subscribe(mut connection: Connection, address: &str) -> Stream {
    connection.send(format!(
        "GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.77, {address}\r\n\r\n"
    ));
    Stream::begin(connection)
}

/// Returns whether the stream was accepted. A refused stream gets a reconnection time and ends.
fn is_accepted(stream: &mut Stream) -> bool {
    let opening = stream.opening();
    if opening.starts_with(":\n") {
        return true;
    }
    assert!(opening.starts_with(": your address has reached --max-connections-per-ip"), "{opening}");
    let retry = opening.lines().find_map(|line| line.strip_prefix("retry: ")).expect("a reconnection time");
    assert!((5_000..=15_000).contains(&retry.parse::<u64>().expect("a number")), "{retry}");
    assert_eq!(stream.chunk(), None);
    assert!(stream.connection.is_closed());
    false
}

#[test]
fn streams_count_per_client_behind_a_trusted_proxy() {
    let broker = Broker::start(&["--max-connections-per-ip", "2", "--trusted-proxy", "127.0.0.1", "--threads", "2"]);
    let open = |address: &str| subscribe(broker.connect(), address);
    let mut inside = vec![open("192.0.2.1"), open("192.0.2.1")];
    assert!(inside.iter_mut().all(is_accepted));
    assert!((0..3).all(|_| !is_accepted(&mut open("192.0.2.1"))), "on every worker");
    assert!(is_accepted(&mut open("192.0.2.2")), "another client has its own limit");
    let turned_away = broker.metrics().labeled("esker_streams_turned_away_total", "reason", "address");
    assert_eq!(turned_away, 3.0);
    // The proxy itself, and requests that open no stream, are not limited.
    let many: Vec<_> = (0..5).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    assert_eq!(broker.get("/healthz").status, 200);
    drop(many);

    for _ in 0..10 {
        drop(inside.remove(0));
        let begin = Instant::now();
        let stream = loop {
            let mut stream = open("192.0.2.1");
            if is_accepted(&mut stream) {
                break stream;
            }
            assert!(begin.elapsed() < TIMEOUT, "the permit is never released");
        };
        inside.push(stream);
    }

    // Who is not a trusted proxy can neither have more connections nor take another client's.
    let mut direct = [(); 2].map(|()| subscribe(open_from([127, 0, 0, 2], broker.address), "192.0.2.1"));
    assert!(direct.iter_mut().all(is_accepted));
    assert!(open_from([127, 0, 0, 2], broker.address).is_closed());
}

#[test]
fn other_values_are_usage_errors() {
    for value in ["localhost", "10.0.0.1/8", "10.0.0.0/33", "", "*", "127.0.0.1,"] {
        let (code, _, log) = run(&["--no-auth", "--port", "0", "--trusted-proxy", value], &[]);
        assert!(code == Some(2) && log.contains("--trusted-proxy") && log.contains("nor unix"), "{value}: {log}");
    }
}
