//! Clients that flood the broker, send garbage, or disconnect: memory stays bounded, and nothing is leaked.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use super::support::{Broker, Connection, TIMEOUT};

/// Closes the connection with a reset, as the kernel of a crashed peer does.
fn reset(connection: Connection) {
    let socket = connection.socket;
    rustix::net::sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO)).expect("lingering can be set");
    drop(socket);
}

/// Sends until the broker stops reading.
fn send_until_blocked(connection: &mut Connection, bytes: &[u8]) {
    connection.socket.set_write_timeout(Some(std::time::Duration::from_millis(100))).expect("a timeout can be set");
    let begin = std::time::Instant::now();
    while begin.elapsed() < TIMEOUT {
        match connection.socket.write(bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            Err(error) => panic!("the broker closed the connection: {error}"),
        }
    }
    panic!("the broker keeps reading requests though no response is read");
}

#[test]
fn a_client_that_reads_no_responses_is_no_longer_read() {
    const CLIENTS: usize = 20;
    let broker = Broker::start(&[]);
    let before = broker.private_bytes();
    let requests = "GET /stats HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| broker.connect()).collect();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| send_until_blocked(client, requests.as_bytes()));
        }
    });
    let grown = broker.private_bytes().saturating_sub(before);
    assert!(grown < CLIENTS * (256 << 10) + (2 << 20), "{grown} bytes for {CLIENTS} clients");
    // Once the client reads again, it gets every response, complete.
    for _ in 0..2000 {
        assert_eq!(clients[0].response().status, 200);
    }
    broker.assert_healthy();
    clients.into_iter().for_each(reset);
    broker.wait_for("the only client", |stats| stats["clients"] == 1);
}

/// Each response is twenty times as long as its request. Unread input stays in the socket, and the buffer doesn't grow.
#[test]
fn a_long_pipeline_waits_in_the_socket() {
    const REQUESTS: usize = 100_000;
    let broker = Broker::start(&[]);
    let mut reader = broker.connect();
    let mut sender = Connection::from_socket(reader.socket.try_clone().expect("sockets can be cloned"));
    let before = broker.private_bytes();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send("GET /nothing HTTP/1.1\r\nHost:\r\n\r\n".repeat(REQUESTS));
            sender.shutdown_write();
        });
        reader.take(8 << 20);
        let grown = broker.private_bytes().saturating_sub(before);
        let _ = reader.socket.shutdown(Shutdown::Both);
        assert!(grown < 2 << 20, "{grown} bytes");
    });
    broker.assert_healthy();
}

#[test]
fn random_bytes_do_no_harm() {
    let broker = Broker::start(&[]);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..random.usize(1..3000)).map(|_| random.u8(..)).collect();
        let mut connection = broker.connect();
        connection.send(&bytes);
        connection.shutdown_write();
        let response = connection.read_to_end();
        assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 4") || response.starts_with(b"HTTP/1.1 5"));
    }
    broker.assert_healthy();
}

/// Requests with some bytes changed: the broker responds or closes, and keeps working.
#[test]
fn corrupted_requests_do_no_harm() {
    const REQUEST: &str = "POST /publish/topicone1?event=a%20b HTTP/1.1\r\nHost: h:80\r\nContent-Type: text/plain\r\n\
        Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\n\
        GET /stats HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let broker = Broker::start(&["--request-timeout", "10s"]);
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..1000 {
        let mut bytes = REQUEST.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, *random.choice(b"\r\n :;,\0\t05a").expect("not empty")),
            }
        }
        let mut connection = broker.connect();
        connection.send(&bytes);
        connection.shutdown_write();
        let responses = connection.read_to_end();
        assert!(responses.is_empty() || responses.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&bytes));
    }
    broker.assert_healthy();
    broker.wait_for("the only client", |stats| stats["clients"] == 1);
}

#[test]
fn resets_at_every_stage_leak_nothing() {
    let broker = Broker::start(&["--max-connections", "100"]);
    let body = "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\ndata: ";
    for _ in 0..20 {
        for stage in [
            "",
            "GET /hea",
            "GET /stats HTTP/1.1\r\nHost: h\r\n\r\n",
            body,
            "no HTTP at all\r\n\r\n",
            "GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /subscribe/topicone1 HTTP/1.0\r\n\r\n",
        ] {
            let mut one = broker.connect();
            one.send(stage);
            reset(one);
            let mut other = broker.connect();
            other.send(stage);
            broker.assert_healthy();
            reset(other);
        }
    }
    broker.wait_for("the only client", |stats| {
        stats["clients"] == 1 && stats["subscribers"] == 0 && stats["topics"] == 0
    });
    assert_eq!(broker.publish("topicone1", "data: x")["subscribers"], 0);
}

#[test]
fn half_a_request_before_the_end_is_not_a_request() {
    let broker = Broker::start(&[]);
    for half in [
        "GET /stats HTTP/1.1\r\nHost: h\r\n",
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\ndata: x",
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: x\r\n",
        "POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: x\r\n0\r\n",
    ] {
        let mut connection = broker.connect();
        connection.send(half);
        connection.shutdown_write();
        assert_eq!(String::from_utf8(connection.read_to_end()).expect("UTF-8"), "", "{half}");
    }
    assert_eq!(broker.stats()["events_published"], 0);
}
