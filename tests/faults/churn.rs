//! A thousand subscribers a second connect and disconnect, some with a reset, while others keep resuming. `ESKER_FAULT_SECONDS`
//! sets the length of a round.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::support::{Broker, TempDir};

/// Subscribers connect at this rate, unless the machine is too slow.
const PER_SECOND: u32 = 1000;
const THREADS: u32 = 2;

fn round() -> Duration {
    let seconds = std::env::var("ESKER_FAULT_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

#[test]
fn a_thousand_subscribers_a_second_connect_and_disconnect() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s"]);
    let (fast, ledger, connected) = (FastSubscribers::start(&broker, 100), Ledger::new(), AtomicUsize::new(0));
    let start = |pace| Oracle::start(broker.address, "topicone1", &ledger, pace);
    let oracles = [start(Pace::Eager), start(Pace::Fickle(2000)), start(Pace::Fickle(100))];
    assert_survives("churn", &broker, 100 + 1 + 3, SLACK, || {
        let end = Instant::now() + round();
        thread::scope(|scope| {
            let (address, connected) = (broker.address, &connected);
            for _ in 0..THREADS {
                scope.spawn(move || connect_repeatedly(address, end, connected));
            }
            let mut publisher = Publisher::new(address, "topicone1", &ledger);
            while Instant::now() < end {
                publisher.publish(&fastrand::u64(..).to_string());
                thread::sleep(Duration::from_millis(2));
            }
        });
        broker.wait_for("the only client", |stats| stats["subscribers"].as_u64() <= Some(103) && stats["topics"] == 2);
    });
    eprintln!("{} connected and disconnected; each fast subscriber got {}", connected.into_inner(), fast.finish());
    oracles.into_iter().for_each(|oracle| eprintln!("{}", oracle.judge()));
}

fn connect_repeatedly(address: SocketAddr, end: Instant, connected: &AtomicUsize) {
    let (begin, mut count) = (Instant::now(), 0);
    while Instant::now() < end {
        visit(address, count);
        connected.fetch_add(1, SeqCst);
        count += 1;
        let due = begin + Duration::from_secs(1) * count * THREADS / PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Disconnects before the request is complete, before the response, after it, or in the middle of events, with a FIN or a
/// reset.
fn visit(address: SocketAddr, number: u32) {
    let mut socket = TcpStream::connect(address).expect("the broker accepts");
    let request =
        format!("GET /subscribe/topic{:04},topicone1?last_event_id=0 HTTP/1.1\r\nHost: h\r\n\r\n", number % 5000);
    let part = if number.is_multiple_of(8) { &request[..30] } else { &request };
    socket.write_all(part.as_bytes()).expect("a request fits in the buffer");
    if number % 8 > 2 {
        socket.read_exact(&mut [0; 100]).expect("the stream opens");
    }
    if number.is_multiple_of(2) {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a close can be a reset");
    }
}

/// Resets connections in every state that a connection can be in.
#[test]
fn thousands_of_resets_leak_nothing() {
    const RESETS: usize = 5000;
    const STAGES: [&str; 8] = [
        "",
        "GET /subscribe/topicone1 HTT",
        "GET /stats HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /publish/topictwo2 HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\ndata: ",
        "POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":1}",
        "GET /subscribe/topicone1,topictwo2?last_event_id=0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: h\r\n\r\n",
        "no HTTP at all\r\n\r\n",
    ];
    let _lock = lock_machine();
    let dir = TempDir::new();
    let data = dir.path.join("data").display().to_string();
    let broker = Broker::start(&["--heartbeat", "1s", "--data", &data]);
    let (fast, ledger) = (FastSubscribers::start(&broker, 100), Ledger::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
    assert_survives("resets", &broker, 100 + 1 + 2, SLACK, || {
        for number in 0..RESETS {
            let mut socket = TcpStream::connect(broker.address).expect("the broker accepts");
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a close can be a reset");
            socket.write_all(STAGES[number % STAGES.len()].as_bytes()).expect("it fits in the buffer");
            if number.is_multiple_of(3) {
                thread::sleep(Duration::from_micros(300));
            }
            if number.is_multiple_of(50) {
                assert!(publisher.publish(&fastrand::u64(..).to_string()));
            }
        }
    });
    drop(publisher);
    eprintln!("{}; each fast subscriber got {}", oracle.judge(), fast.finish());
}
