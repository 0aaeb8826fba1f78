//! Bodies that take much work: with more events than a body may have, with as many as it may have, with very many lines. Small
//! publishes are answered and delivered meanwhile.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::baseline::{SLACK, survives};
use super::fast::Fast;
use super::flood::pour;
use super::support::{Broker, PATIENCE};
use super::turn;

/// Connections that send such bodies, again and again.
const SENDERS: usize = 24;
/// How long small events are published and heard meanwhile, and how many at least.
const ROUND: Duration = Duration::from_secs(4);
const EVENTS: usize = 50;
/// No small publish takes longer; many times what is measured on a busy machine.
const WIDE: Duration = Duration::from_secs(5);

#[test]
fn bodies_of_very_many_events_keep_nobody_waiting() {
    let _turn = turn();
    // What is retained depends on which bodies come last, so it is less than the slack.
    let broker = Broker::start(&["--heartbeat", "1s", "--threads", "1", "--history-bytes", "8M"]);
    let fast = Fast::start(&broker, 100);
    let requests = requests();
    let mut all = Vec::new();
    survives("bodies", &broker, 100 + 1, 16 * SLACK, || {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| pour(broker.address, SENDERS, &requests, &is_over));
            let measured = scope.spawn(|| publish_and_hear(&broker)).join();
            is_over.store(true, SeqCst);
            all.extend(measured.expect("small publishes are answered"));
        });
        fast.await_more(1);
    });
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    eprintln!("from the publish to its arrival: median {:?}, 99 % {:?}, at most {:?}", at(50), at(99), at(100));
    let metrics = broker.metrics();
    let refused = metrics.by("esker_publishes_refused_total", "reason", "invalid");
    eprintln!("{} events published, {refused} bodies refused", metrics.of("esker_events_published_total"));
    eprintln!("each of the fast got {}", fast.finish());
    assert!(at(99) < WIDE, "{all:?}");
}

/// What the senders send, one after the other.
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

/// Publishes one event after the other; how long each took to arrive.
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
        let answer = connection.response();
        assert_eq!(answer.status, 200, "nobody is refused: {answer:?}");
        assert_eq!(stream.data(1), [number.to_string()]);
        times.push(begin.elapsed());
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    times
}
