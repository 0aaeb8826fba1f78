//! Publishers that flood: as much as the broker takes, from many sides, of large events and of small. Whoever reads on another
//! topic notices nothing; whoever reads the flooded one gets all of it, or is told what is gone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, PATIENCE};
use super::turn;

const PUBLISHERS: usize = 8;
const RETAINED: usize = 64;
/// How long a round is.
const ROUND: Duration = Duration::from_secs(4);

#[test]
fn a_flood_is_delivered_announced_or_refused() {
    let _turn = turn();
    let broker = Broker::start(&[
        "--heartbeat",
        "1s",
        "--history",
        &RETAINED.to_string(),
        "--history-bytes",
        "8M",
        "--stall",
        "5s",
    ]);
    let (fast, ledger) = (Fast::start(&broker, 100), Ledger::new());
    let start = |pace| Oracle::start(broker.address, "topicone1", &ledger, pace);
    let slow = Pace::Slow(30_000, Duration::from_millis(10));
    let oracles = [start(Pace::Eager), start(Pace::Fickle(1 << 20)), start(slow), start(slow)];
    survives("flood", &broker, 100 + 1 + 4, 8 * SLACK, || {
        thread::scope(|scope| {
            for number in 0..PUBLISHERS {
                let publisher = Publisher::new(broker.address, "topicone1", &ledger);
                scope.spawn(move || flood(publisher, number));
            }
        });
        fast.await_more(10);
        // What is retained then is the same in every round.
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        (0..RETAINED).for_each(|_| assert!(publisher.publish(&fastrand::u64(..).to_string())));
    });
    eprintln!(
        "{} accepted, {} refused; each of the fast got {}",
        ledger.accepted(),
        ledger.entries().refused.len(),
        fast.finish()
    );
    let verdicts: Vec<_> = oracles.into_iter().map(Oracle::judge).collect();
    verdicts.iter().for_each(|verdict| eprintln!("{verdict}"));
    assert!(verdicts[2].gaps > 0, "whoever reads too slowly is told so");
}

fn flood(mut publisher: Publisher, number: usize) {
    let filling = "x".repeat([100, 200_000][number % 2]);
    let end = Instant::now() + ROUND;
    while Instant::now() < end {
        publisher.publish(&format!("{} {filling}", fastrand::u64(..)));
    }
}

/// More than a turn could listen to, if it let each of them say all that a connection may say in one.
const POURING: usize = 400;
/// So many answers must come while they pour.
const ANSWERS: usize = 20;

#[test]
fn many_that_pour_keep_nobody_else_waiting() {
    let _turn = turn();
    let broker = Broker::start(&["--heartbeat", "1s", "--threads", "1"]);
    let fast = Fast::start(&broker, 50);
    survives("pouring", &broker, 50 + 1, 4 * SLACK, || {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let request = "POST /publish/topicpour1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
            scope.spawn(|| pour(broker.address, POURING, &request.repeat(2000), &is_over));
            let answers = scope.spawn(|| ask(broker.connect())).join();
            is_over.store(true, SeqCst);
            assert_eq!(answers.ok(), Some(ANSWERS), "who asks little is answered");
        });
        fast.await_more(1);
    });
    eprintln!("each of the fast got {}", fast.finish());
}

/// Asks again and again; how often it was answered in time.
fn ask(mut connection: Connection) -> usize {
    let begin = Instant::now();
    let answers = (0..ANSWERS).take_while(|_| {
        connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        connection.response().status == 200 && begin.elapsed() < 2 * PATIENCE
    });
    answers.count()
}

/// Sends the requests again and again on this many connections, as fast as the broker takes them, and drops the answers.
pub fn pour(address: SocketAddr, connections: usize, requests: &str, is_over: &AtomicBool) {
    let mut answers = vec![0; 1 << 20];
    let connect = |_| {
        let socket = TcpStream::connect(address).expect("the broker accepts");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        // What is still in its buffers when it leaves is not worth publishing.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a close can be a reset");
        (socket, 0)
    };
    let mut sockets: Vec<_> = (0..connections).map(connect).collect();
    while !is_over.load(SeqCst) {
        for (socket, at) in &mut sockets {
            let written = socket.write(&requests.as_bytes()[*at..]).unwrap_or(0);
            *at = (*at + written) % requests.len();
            let _ = socket.read(&mut answers);
        }
    }
}
