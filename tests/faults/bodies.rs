//! Bodies that need much CPU time: more events than a body may have, the maximum number of events, very many lines. Meanwhile,
//! small publishes get responses and are delivered.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::flood::flood_with;
use super::lock_machine;
use super::support::{Broker, TIMEOUT};

/// Connections that repeatedly send such bodies.
const SENDERS: usize = 24;
/// How long small events are published and received, and the minimum number of them.
const ROUND: Duration = Duration::from_secs(4);
const EVENTS: usize = 50;
/// The limit for the latency of a small publish; many times what is measured on a busy machine.
const MAX_LATENCY: Duration = Duration::from_secs(5);

#[test]
fn bodies_with_very_many_events_delay_nobody() {
    let _lock = lock_machine();
    // The retained events depend on which bodies come last, so the history is smaller than the slack.
    let broker = Broker::start(&["--heartbeat", "1s", "--threads", "1", "--history-bytes", "8M"]);
    let fast = FastSubscribers::start(&broker, 100);
    let requests = requests();
    let mut all = Vec::new();
    assert_survives("bodies", &broker, 100 + 1, 16 * SLACK, || {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| flood_with(broker.address, SENDERS, &requests, &is_over));
            let measured = scope.spawn(|| publish_and_hear(&broker)).join();
            is_over.store(true, SeqCst);
            all.extend(measured.expect("small publishes succeed"));
        });
        fast.await_more(1);
    });
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    eprintln!("from the publish to its arrival: median {:?}, 99 % {:?}, at most {:?}", at(50), at(99), at(100));
    let metrics = broker.metrics();
    let refused = metrics.labeled("esker_publishes_refused_total", "reason", "invalid");
    eprintln!("{} events published, {refused} bodies refused", metrics.value("esker_events_published_total"));
    eprintln!("each fast subscriber got {}", fast.finish());
    assert!(at(99) < MAX_LATENCY, "{all:?}");
}

/// Returns the requests that senders send one after the other.
fn requests() -> String {
    let bodies = [
        "data\n\n".repeat((1 << 20) / 6),
        "data: x\n\n".repeat(10_000),
        format!("{}data", ":\n".repeat(1 << 17)),
        format!("{}data", "data\n".repeat(50_000)),
    ];
    let request = |body: &String| {
        format!("POST /publish/topicmany1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    bodies.iter().map(request).collect()
}

/// Publishes one event after the other, and returns each one's delivery time.
fn publish_and_hear(broker: &Broker) -> Vec<Duration> {
    let mut stream = broker.subscribe("/subscribe/topichonest1", "");
    stream.opening();
    let mut connection = broker.connect();
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < EVENTS || start.elapsed() < ROUND {
        let number = times.len();
        let body = format!("data: {number}");
        let begin = Instant::now();
        let length = body.len();
        connection
            .send(format!("POST /publish/topichonest1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"));
        let response = connection.response();
        assert_eq!(response.status, 200, "a small publish is refused: {response:?}");
        assert_eq!(stream.data(1), [number.to_string()]);
        times.push(begin.elapsed());
        assert!(begin.elapsed() < TIMEOUT);
        thread::sleep(Duration::from_millis(5));
    }
    times
}
