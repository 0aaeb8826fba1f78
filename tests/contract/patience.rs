//! How long the broker waits for a peer, and how it ends with one that was too slow or said too much.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::support::{Broker, Connection, PATIENCE};

const HURRY: [&str; 2] = ["--request-timeout", "500ms"];

/// Sends a byte now and then until the broker says something or closes; how long that took.
fn drip(connection: &mut Connection, byte: &str) -> Duration {
    let begin = Instant::now();
    while connection.is_silent(Duration::from_millis(20)) {
        connection.send(byte);
        assert!(begin.elapsed() < PATIENCE, "the broker waits for ever");
    }
    begin.elapsed()
}

#[test]
fn a_head_that_drips_is_answered_408() {
    let broker = Broker::start(&HURRY);
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
    broker.assert_well();
}

#[test]
fn the_head_of_a_later_request_may_not_drip_either() {
    let broker = Broker::start(&HURRY);
    let mut connection = broker.connect();
    connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz");
    assert_eq!(connection.response().text(), "ok");
    drip(&mut connection, "a");
    assert_eq!(connection.response().status, 408);
    assert!(connection.is_closed());
}

#[test]
fn a_body_may_stand_still_three_times_as_long() {
    let broker = Broker::start(&HURRY);
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
fn a_body_that_moves_may_take_its_time() {
    let broker = Broker::start(&HURRY);
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
fn a_body_that_nobody_wants_is_dropped_in_time_or_not_waited_for() {
    let broker = Broker::start(&HURRY);
    // It is too long to be dropped: the answer comes at once, and the end after it.
    let mut long = broker.connect();
    long.send("GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n");
    let answer = long.response();
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    assert!(long.is_closed());
    for (request, status) in [("GET /healthz", 200), ("POST /nowhere", 404), ("GET /audit/a", 200)] {
        for framing in ["Content-Length: 60000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nea60\r\n"] {
            let mut connection = broker.connect();
            connection.send(format!("{request} HTTP/1.1\r\nHost: h\r\n{framing}"));
            let time = drip(&mut connection, "x");
            assert!((450..10_000).contains(&time.as_millis()), "{time:?}");
            let answer = connection.response();
            assert_eq!((answer.status, answer.field("Connection")), (status, Some("close")), "{request} {framing}");
            assert!(connection.is_closed());
        }
    }
    broker.wait_for("alone", |stats| stats["clients"] == 1);
}

#[test]
fn a_connection_is_kept_for_its_next_request_as_long_as_it_is_told_to() {
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
fn a_connection_that_never_says_a_word_is_closed_without_one() {
    let broker = Broker::start(&HURRY);
    let begin = Instant::now();
    assert!(broker.connect().is_closed());
    assert!(begin.elapsed() > Duration::from_millis(450), "{:?}", begin.elapsed());
    let mut only_lines = broker.connect();
    drip(&mut only_lines, "\r\n");
    assert!(only_lines.is_closed());
}

/// It has asked for more than sockets hold and takes nothing: saying more does not keep it.
#[test]
fn a_client_that_takes_no_byte_is_closed_though_it_talks_on() {
    let broker = Broker::start(&["--stall", "500ms"]);
    let mut connection = broker.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&connection.socket, 4096).expect("buffers can be small");
    connection.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3000));
    let begin = Instant::now();
    while connection.socket.write_all(b"G").is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the broker waits for ever");
        std::thread::sleep(Duration::from_millis(20));
    }
    broker.wait_for("closed", |stats| stats["clients"] == 1);
}

/// Sends a refused body to its end, whatever the broker says meanwhile, and only then reads.
fn assert_answer_is_read(broker: &Broker, head: &str, body: &[u8], status: u16) {
    let mut connection = broker.connect();
    connection.send(head);
    for part in body.chunks(50_000) {
        connection.socket.write_all(part).unwrap_or_else(|error| panic!("{error} while sending to {head}"));
    }
    connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = connection.final_response();
    assert_eq!((response.status, response.field("Connection")), (status, Some("close")), "{head}");
    assert!(connection.is_closed(), "{head}");
    broker.assert_well();
}

#[test]
fn the_answer_to_a_refused_body_is_read_and_no_reset() {
    const SIZE: usize = 6 << 20;
    let broker = Broker::start(&[]);
    let body = vec![b'x'; SIZE];
    let chunks = [format!("{SIZE:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    let small_chunks = [b"100\r\n", &[b'x'; 256][..], b"\r\n"].concat().repeat(SIZE / 256);
    for expect in ["", "Expect: 100-continue\r\n"] {
        for (target, status) in [("/publish/topicone1", 413), ("/publish/bad", 413), ("/healthz", 413)] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{expect}Content-Length: {SIZE}\r\n\r\n");
            assert_answer_is_read(&broker, &head, &body, status);
        }
        for (target, status) in [("/publish/topicone1", 413), ("/publish/bad", 400), ("/nothing", 404)] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\n{expect}Transfer-Encoding: chunked\r\n\r\n");
            assert_answer_is_read(&broker, &head, &chunks, status);
        }
    }
    let head = "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_answer_is_read(&broker, head, &small_chunks, 413);
    assert_answer_is_read(&broker, "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", &body, 400);
    assert_answer_is_read(&broker, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), &body, 414);
    assert_eq!(broker.stats()["events_published"], 0);
}

#[test]
fn a_refused_client_that_never_ends_is_cut_off() {
    let broker = Broker::start(&[]);
    // One that neither speaks nor leaves after its answer.
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
        assert!(begin.elapsed() < PATIENCE, "the broker reads for ever");
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    broker.wait_for("alone", |stats| stats["clients"] == 1);
}

/// A full socket tells of room only once a good part of it is free, which may take longer than `--stall`.
#[test]
fn a_subscriber_that_reads_slowly_all_the_time_is_not_stalled() {
    // The slower one's window is closed nearly always, which the kernel must not take for its absence.
    for (per_20_ms, stall) in [(8_000, "1s"), (2_000, "3s")] {
        reads_slowly(per_20_ms, stall);
    }
}

fn reads_slowly(per_20_ms: usize, stall: &str) {
    const SIZE: usize = 7 << 20;
    let broker = Broker::start(&["--stall", stall, "--max-body", "8M"]);
    broker.publish("topicone1", &format!("data: {}", "x".repeat(SIZE)));
    broker.publish("topicone1", &format!("data: {}", "y".repeat(SIZE)));
    let mut stream = broker.subscribe("/subscribe/topicone1", "Last-Event-ID: 0\r\n");
    stream.opening();
    let (begin, mut count) = (Instant::now(), 1);
    while begin.elapsed() < Duration::from_secs(6) {
        stream.connection.take_ahead(count * per_20_ms);
        count += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stream.data(2).iter().all(|data| data.len() == SIZE));
}
