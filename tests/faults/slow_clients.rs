//! Masses of slow clients, each within its limits: heads and bodies that drip, bodies that stall, responses and streams that
//! are not read. All other clients are served in the meantime, and clients that exceed a limit are closed in time.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Instant;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, TIMEOUT, connect_small};

/// The number of clients of each kind.
const PEERS: usize = 1000;

#[test]
fn slow_heads_bodies_and_readers_starve_nobody() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s", "--request-timeout", "1s", "--stall", "2s"]);
    let (fast, ledger) = (FastSubscribers::start(&broker, 100), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    assert_survives("slowloris", &broker, 100 + 1 + 1, SLACK, || {
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let mut heads = begin(&broker, "GET /healthz HTTP/1.1\r\nX: ");
        let still = begin(&broker, "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\ndata: ");
        let mut moving = begin(
            &broker,
            "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\ndata: ",
        );
        let send_unread_requests = send_unread_requests(&broker);
        let begin = Instant::now();
        // Dripping heads are closed though they never pause, and so are stalled bodies.
        while broker.stats()["clients"].as_u64() > Some(102 + PEERS as u64 + 3) {
            assert!(begin.elapsed() < TIMEOUT, "slow clients are never closed: {}", broker.stats());
            heads.iter_mut().chain(&mut moving).for_each(drip);
            broker.assert_healthy();
            assert!(publisher.publish(&fastrand::u64(..).to_string()));
            assert!(Publisher::new(broker.address, "topicone1", &ledger).publish(&fastrand::u64(..).to_string()));
        }
        fast.await_more(20);
        assert!(statuses(heads).iter().all(|status| *status == Some(408)), "a dripping head gets 408");
        assert!(statuses(still).iter().all(|status| *status == Some(408)), "a stalled body gets 408");
        drop((moving, send_unread_requests));
    });
    eprintln!("{}; each fast subscriber got {}", oracle.judge(), fast.finish());
}

fn begin(broker: &Broker, words: &str) -> Vec<Connection> {
    let begin = |_| {
        let mut connection = broker.connect();
        connection.send(words);
        connection
    };
    (0..PEERS).map(begin).collect()
}

/// These clients request much and read nothing.
fn send_unread_requests(broker: &Broker) -> Vec<TcpStream> {
    let send_request = |_| {
        let mut socket = connect_small(broker.address);
        socket
            .write_all("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(500).as_bytes())
            .expect("requests fit in the buffer");
        socket
    };
    (0..PEERS / 10).map(send_request).collect()
}

/// Sends one more byte. If the connection is closed already, its response can be read.
fn drip(connection: &mut Connection) {
    let _ = connection.socket.write(b"a");
}

/// A reset may overtake the response if the client keeps sending.
fn statuses(connections: Vec<Connection>) -> Vec<Option<u16>> {
    let responses = connections.into_iter().map(|mut connection| connection.response_or_end());
    responses.map(|response| response.map(|response| response.status)).collect()
}
