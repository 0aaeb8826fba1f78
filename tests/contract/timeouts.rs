//! Time limits: how long the broker waits for a peer, and how it closes a connection that is too slow or sends too much.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::support::{Broker, Connection, TIMEOUT};

const SHORT_TIMEOUT: [&str; 2] = ["--request-timeout", "500ms"];

/// Sends a byte now and then until the broker responds or closes the connection. Returns the time it took.
fn drip(connection: &mut Connection, byte: &str) -> Duration {
    let begin = Instant::now();
    while connection.is_silent(Duration::from_millis(20)) {
        connection.send(byte);
        assert!(begin.elapsed() < TIMEOUT, "the broker never closes the connection");
    }
    begin.elapsed()
}

#[test]
fn a_dripping_head_gets_408() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    for head in ["G", "GET /healthz HTTP/1.1\r\nHost: h\r\nX: "] {
        let mut connection = broker.connect();
        connection.send(head);
        let time = drip(&mut connection, "a");
        assert!(time > Duration::from_millis(450), "{time:?}");
        let response = connection.response();
        assert_eq!((response.status, response.field("Connection")), (408, Some("close")));
        assert_eq!(response.json()["status"], 408);
        assert!(connection.is_closed());
    }
    broker.assert_healthy();
}

#[test]
fn the_head_of_a_later_request_may_not_drip() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    let mut connection = broker.connect();
    connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz");
    assert_eq!(connection.response().text(), "ok");
    drip(&mut connection, "a");
    assert_eq!(connection.response().status, 408);
    assert!(connection.is_closed());
}

#[test]
fn a_body_may_stall_three_times_as_long() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    let framings = ["Content-Length: 100\r\n\r\ndata: ", "Transfer-Encoding: chunked\r\n\r\n64\r\ndata: "];
    let begin = Instant::now();
    for mut connection in framings.map(|framing| {
        let mut connection = broker.connect();
        connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{framing}"));
        connection
    }) {
        assert_eq!(connection.response().status, 408);
        assert!(begin.elapsed() > Duration::from_millis(1450), "{:?}", begin.elapsed());
        assert!(connection.is_closed());
    }
    assert_eq!(broker.stats()["events_published"], 0);
}

#[test]
fn a_slow_body_may_take_longer_than_a_head() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    let mut connection = broker.connect();
    connection.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\ndata: ");
    for byte in ["1", "2", "3", "4", "5"] {
        assert!(connection.is_silent(Duration::from_millis(400)));
        connection.send(byte);
    }
    connection.send("6");
    assert_eq!(connection.response().status, 200);
}

#[test]
fn an_unneeded_body_is_dropped_in_time_or_not_read() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    // The body is too long to be dropped: the response comes immediately, and then the connection closes.
    let mut long = broker.connect();
    long.send("GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n");
    let response = long.response();
    assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
    assert!(long.is_closed());
    for (request, status) in [("GET /healthz", 200), ("POST /nowhere", 404), ("GET /audit/a", 200)] {
        for framing in ["Content-Length: 60000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nea60\r\n"] {
            let mut connection = broker.connect();
            connection.send(format!("{request} HTTP/1.1\r\nHost: h\r\n{framing}"));
            let time = drip(&mut connection, "x");
            assert!((450..10_000).contains(&time.as_millis()), "{time:?}");
            let response = connection.response();
            assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{request} {framing}");
            assert!(connection.is_closed());
        }
    }
    broker.wait_for("the only client", |stats| stats["clients"] == 1);
}

#[test]
fn a_connection_is_kept_alive_as_long_as_configured() {
    let (brief, long) = (Broker::start(&["--keep-alive", "300ms"]), Broker::start(&["--keep-alive", "1h"]));
    let mut connections = [brief.connect(), long.connect()];
    for connection in &mut connections {
        connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(connection.response().text(), "ok");
    }
    let begin = Instant::now();
    let [mut closed, mut kept] = connections;
    assert!(closed.is_closed());
    assert!(begin.elapsed() > Duration::from_millis(250), "{:?}", begin.elapsed());
    kept.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(kept.response().text(), "ok");
}

#[test]
fn a_silent_connection_is_closed_without_a_response() {
    let broker = Broker::start(&SHORT_TIMEOUT);
    let begin = Instant::now();
    assert!(broker.connect().is_closed());
    assert!(begin.elapsed() > Duration::from_millis(450), "{:?}", begin.elapsed());
    let mut only_lines = broker.connect();
    drip(&mut only_lines, "\r\n");
    assert!(only_lines.is_closed());
}

/// The client has requested more than sockets hold and reads nothing. Sending more must not keep the connection open.
#[test]
fn a_client_that_only_sends_is_closed() {
    let broker = Broker::start(&["--stall", "500ms"]);
    let mut connection = broker.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&connection.socket, 4096).expect("buffers can be small");
    connection.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3000));
    let begin = Instant::now();
    while connection.socket.write_all(b"G").is_ok() {
        assert!(begin.elapsed() < TIMEOUT, "the broker never closes the connection");
        std::thread::sleep(Duration::from_millis(20));
    }
    broker.wait_for("closed", |stats| stats["clients"] == 1);
}

/// Sends a refused body to its end without reading the response, and only then reads.
fn assert_response_is_read(broker: &Broker, head: &str, body: &[u8], status: u16) {
    let mut connection = broker.connect();
    connection.send(head);
    for part in body.chunks(50_000) {
        connection.socket.write_all(part).unwrap_or_else(|error| panic!("{error} while sending to {head}"));
    }
    connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = connection.final_response();
    assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{head}");
    assert!(connection.is_closed(), "{head}");
    broker.assert_healthy();
}

#[test]
fn the_response_to_a_refused_body_arrives_instead_of_a_reset() {
    const SIZE: usize = 6 << 20;
    let broker = Broker::start(&[]);
    let body = vec![b'x'; SIZE];
    let chunks = [format!("{SIZE:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let small_chunks = [b"100\r\n", &[b'x'; 256][..], b"\r\n"].concat().repeat(SIZE / 256);
    for expect in ["", "Expect: 100-continue\r\n"] {
        for (target, status) in [("/publish/topicone1", 413), ("/publish/bad", 413), ("/healthz", 413)] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{expect}Content-Length: {SIZE}\r\n\r\n");
            assert_response_is_read(&broker, &head, &body, status);
        }
        for (target, status) in [("/publish/topicone1", 413), ("/publish/bad", 400), ("/nothing", 404)] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{expect}Transfer-Encoding: chunked\r\n\r\n");
            assert_response_is_read(&broker, &head, &chunks, status);
        }
    }
    let head = "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_response_is_read(&broker, head, &small_chunks, 413);
    assert_response_is_read(&broker, "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", &body, 400);
    assert_response_is_read(&broker, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), &body, 414);
    assert_eq!(broker.stats()["events_published"], 0);
}

#[test]
fn a_refused_client_that_keeps_sending_is_cut_off() {
    let broker = Broker::start(&[]);
    // A client that neither sends nor disconnects after its response.
    let mut silent = broker.connect();
    silent.send("no HTTP at all\r\n\r\n");
    assert_eq!(silent.response().status, 400);
    assert!(silent.is_closed());
    let mut endless = broker.connect();
    endless.send("POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (begin, part) = (Instant::now(), vec![b'x'; 1 << 20]);
    let error = loop {
        if let Err(error) = endless.socket.write_all(&part) {
            break error;
        }
        assert!(begin.elapsed() < TIMEOUT, "the broker never stops reading");
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    broker.wait_for("the only client", |stats| stats["clients"] == 1);
}

/// A full socket becomes writable only once a good part of its buffer is free, which may take longer than `--stall`.
#[test]
fn a_slow_but_steady_reader_does_not_count_as_stalled() {
    // The slower reader's window is closed nearly always, which the kernel must not mistake for a vanished peer.
    for (per_20_ms, stall) in [(8_000, "1s"), (2_000, "3s")] {
        assert_slow_reader_is_kept(per_20_ms, stall);
    }
}

fn assert_slow_reader_is_kept(per_20_ms: usize, stall: &str) {
    const SIZE: usize = 7 << 20;
    let broker = Broker::start(&["--stall", stall, "--max-body", "8M"]);
    broker.publish("topicone1", &format!("data: {}", "x".repeat(SIZE)));
    broker.publish("topicone1", &format!("data: {}", "y".repeat(SIZE)));
    let mut stream = broker.subscribe("/subscribe/topicone1", "Last-Event-ID: 0\r\n");
    stream.opening();
    let (begin, mut count) = (Instant::now(), 1);
    while begin.elapsed() < Duration::from_secs(6) {
        stream.connection.buffer_bytes(count * per_20_ms);
        count += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stream.data(2).iter().all(|data| data.len() == SIZE));
}
