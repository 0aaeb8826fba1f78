//! Slow peers in masses, each within its limits: heads and bodies that drip, bodies that stand still, answers and streams that
//! nobody reads. Everybody else is served meanwhile, and whoever exceeds a limit is closed in time.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Instant;

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, PATIENCE, connect_small};
use super::turn;

/// So many of each kind.
const PEERS: usize = 1000;

#[test]
fn slow_heads_bodies_and_readers_keep_nobody_out() {
    let _turn = turn();
    let broker = Broker::start(&["--heartbeat", "1s", "--request-timeout", "1s", "--stall", "2s"]);
    let (fast, ledger) = (Fast::start(&broker, 100), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    survives("slowloris", &broker, 100 + 1 + 1, SLACK, || {
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let mut heads = begin(&broker, "GET /healthz HTTP/1.1\r\nX: ");
        let still = begin(&broker, "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\ndata: ");
        let mut moving = begin(
            &broker,
            "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\ndata: ",
        );
        let deaf = deaf(&broker);
        let begin = Instant::now();
        // All who drip in their heads are closed, though they never fall silent, and so are those who stand still.
        while broker.stats()["clients"].as_u64() > Some(102 + PEERS as u64 + 3) {
            assert!(begin.elapsed() < PATIENCE, "the slow are never closed: {}", broker.stats());
            heads.iter_mut().chain(&mut moving).for_each(drip);
            broker.assert_well();
            assert!(publisher.publish(&fastrand::u64(..).to_string()));
            assert!(Publisher::new(broker.address, "topicone1", &ledger).publish(&fastrand::u64(..).to_string()));
        }
        fast.await_more(20);
        assert!(statuses(heads).iter().all(|status| *status == Some(408)), "a head that drips is told so");
        assert!(statuses(still).iter().all(|status| *status == Some(408)), "a body that stands still, too");
        drop((moving, deaf));
    });
    eprintln!("{}; each of the fast got {}", oracle.judge(), fast.finish());
}

fn begin(broker: &Broker, words: &str) -> Vec<Connection> {
    let begin = |_| {
        let mut connection = broker.connect();
        connection.send(words);
        connection
    };
    (0..PEERS).map(begin).collect()
}

/// They ask for much, and read nothing.
fn deaf(broker: &Broker) -> Vec<TcpStream> {
    let ask = |_| {
        let mut socket = connect_small(broker.address);
        socket
            .write_all("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(500).as_bytes())
            .expect("requests fit in the buffer");
        socket
    };
    (0..PEERS / 10).map(ask).collect()
}

/// One more byte; whoever was closed already has an answer to read.
fn drip(connection: &mut Connection) {
    let _ = connection.socket.write(b"a");
}

/// A reset may have overtaken an answer, where the peer went on talking.
fn statuses(connections: Vec<Connection>) -> Vec<Option<u16>> {
    let answers = connections.into_iter().map(|mut connection| connection.response_or_end());
    answers.map(|answer| answer.map(|answer| answer.status)).collect()
}
