//! Many publishers send large and small events as fast as the broker accepts them. Subscribers to another topic are unaffected;
//! subscribers to the flooded topic get every event, or a `gap`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Connection, TIMEOUT};

const PUBLISHERS: usize = 8;
const RETAINED: usize = 64;
/// The length of a round.
const ROUND: Duration = Duration::from_secs(4);

#[test]
fn a_flood_is_delivered_or_refused_or_reported_by_a_gap() {
    let _lock = lock_machine();
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
    let (fast, ledger) = (FastSubscribers::start(&broker, 100), Ledger::new());
    let start = |pace| Oracle::start(broker.address, "topicone1", &ledger, pace);
    let slow = Pace::Slow(30_000, Duration::from_millis(10));
    let oracles = [start(Pace::Eager), start(Pace::Fickle(1 << 20)), start(slow), start(slow)];
    assert_survives("flood", &broker, 100 + 1 + 4, 8 * SLACK, || {
        thread::scope(|scope| {
            for number in 0..PUBLISHERS {
                let publisher = Publisher::new(broker.address, "topicone1", &ledger);
                scope.spawn(move || flood(publisher, number));
            }
        });
        fast.await_more(10);
        // The same events are retained at the end of every round.
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        (0..RETAINED).for_each(|_| assert!(publisher.publish(&fastrand::u64(..).to_string())));
    });
    eprintln!(
        "{} accepted, {} refused; each fast subscriber got {}",
        ledger.accepted(),
        ledger.entries().refused.len(),
        fast.finish()
    );
    let verdicts: Vec<_> = oracles.into_iter().map(Oracle::judge).collect();
    verdicts.iter().for_each(|verdict| eprintln!("{verdict}"));
    assert!(verdicts[2].gaps > 0, "a slow reader gets a gap");
}

fn flood(mut publisher: Publisher, number: usize) {
    let filling = "x".repeat([100, 200_000][number % 2]);
    let end = Instant::now() + ROUND;
    while Instant::now() < end {
        publisher.publish(&format!("{} {filling}", fastrand::u64(..)));
    }
}

/// More connections than one loop iteration could serve, if each could use its whole read budget.
const FLOODING_CLIENTS: usize = 400;
/// Responses that must arrive in the meantime.
const ANSWERS: usize = 20;

#[test]
fn many_flooding_clients_delay_nobody() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s", "--threads", "1"]);
    let fast = FastSubscribers::start(&broker, 50);
    assert_survives("flooding clients", &broker, 50 + 1, 4 * SLACK, || {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let request = "POST /publish/topicpour1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
            scope.spawn(|| flood_with(broker.address, FLOODING_CLIENTS, &request.repeat(2000), &is_over));
            let responses = scope.spawn(|| send_request(broker.connect())).join();
            is_over.store(true, SeqCst);
            assert_eq!(responses.ok(), Some(ANSWERS), "a client that sends little is served");
        });
        fast.await_more(1);
    });
    eprintln!("each fast subscriber got {}", fast.finish());
}

/// Sends requests repeatedly, and returns how many got a response in time.
fn send_request(mut connection: Connection) -> usize {
    let begin = Instant::now();
    let responses = (0..ANSWERS).take_while(|_| {
        connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        connection.response().status == 200 && begin.elapsed() < 2 * TIMEOUT
    });
    responses.count()
}

/// Sends the requests repeatedly on this many connections, as fast as the broker reads, and drops the responses.
pub fn flood_with(address: SocketAddr, connections: usize, requests: &str, is_over: &AtomicBool) {
    let mut responses = vec![0; 1 << 20];
    let connect = |_| {
        let socket = TcpStream::connect(address).expect("the broker accepts");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        // Data still in the buffers at the end doesn't need to be published.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a close can be a reset");
        (socket, 0)
    };
    let mut sockets: Vec<_> = (0..connections).map(connect).collect();
    while !is_over.load(SeqCst) {
        for (socket, at) in &mut sockets {
            let written = socket.write(&requests.as_bytes()[*at..]).unwrap_or(0);
            *at = (*at + written) % requests.len();
            let _ = socket.read(&mut responses);
        }
    }
}
