//! Clients that take their time, on a clock that nobody has to wait for: how long each is waited for, and what all of them
//! may hold. No faults and no chance: each test plays one story.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::Config;
use esker::stepped::{Ground, ManualClock, Stepped};
use esker::store::{Location, Tuning};

use super::net::{Shared, SimKernel, Watch};

const SECOND: u64 = 1000;
/// Bytes of all unsent answers together.
const MAX_UNSENT: f64 = (64 << 20) as f64;

/// A broker, its clients' ends and its time.
struct Stage {
    net: Shared,
    dial: Arc<ManualClock>,
    broker: Stepped<SimKernel>,
    watches: Vec<Watch>,
    due: Vec<Option<u64>>,
}

impl Stage {
    fn new(config: Config, workers: usize) -> Self {
        let (net, dial) = (Shared::default(), Arc::new(ManualClock::default()));
        dial.unix_micros.store(1_770_000_000_000_000, Ordering::Relaxed);
        let (kernels, listener) = net.restart(workers);
        let watches = kernels.iter().map(SimKernel::watch).collect();
        let ground =
            Ground { place: &Location::Memory, tuning: Tuning::default(), dial: Arc::clone(&dial), kernels, listener };
        let config = config.no_auth(true).port(0).threads(workers);
        let broker = Stepped::start(&config, ground).expect("it starts");
        Self { net, dial, broker, watches, due: vec![Some(0); workers] }
    }

    fn millis(&self) -> u64 {
        self.dial.elapsed_micros.load(Ordering::Relaxed) / 1000
    }

    /// Turns until nothing more happens in this moment.
    fn settle(&mut self) {
        let is_due = |due: &Option<u64>, now| due.is_some_and(|due| due <= now);
        loop {
            let now = self.millis();
            let waking: Vec<_> =
                (0..self.due.len()).filter(|&id| is_due(&self.due[id], now) || self.watches[id].would_wake()).collect();
            if waking.is_empty() {
                return;
            }
            for id in waking {
                self.broker.turn(id);
                self.due[id] = self.broker.patience(id).map(|patience| now + patience);
            }
        }
    }

    /// Time passes, and whatever is due is done in time.
    fn pass(&mut self, millis: u64) {
        let end = self.millis() + millis;
        self.settle();
        while self.millis() < end {
            let next = self.due.iter().flatten().copied().min().unwrap_or(end).clamp(self.millis() + 1, end);
            self.dial.advance((next - self.millis()) * 1000);
            self.settle();
        }
    }

    /// A client that reads everything, or so many bytes for now.
    fn connect(&self, host: u8, room: Option<usize>) -> usize {
        self.net.get().connect_from(host, room)
    }

    fn send(&mut self, pipe: usize, bytes: &[u8]) {
        let mut net = self.net.get();
        net.send(pipe, bytes);
        net.deliver(pipe, usize::MAX);
        drop(net);
        self.settle();
    }

    fn received(&self, pipe: usize) -> String {
        String::from_utf8(self.net.get().take_received(pipe)).expect("answers are text")
    }

    fn is_over(&self, pipe: usize) -> bool {
        self.net.get().is_over(pipe)
    }

    /// The sum of a metric's samples, asked for on a connection of its own.
    fn metric(&mut self, name: &str) -> f64 {
        let pipe = self.connect(250, None);
        self.send(pipe, b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let text = self.received(pipe);
        self.net.get().reset(pipe);
        self.settle();
        let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let values: Vec<f64> = samples.filter_map(|line| line.rsplit(' ').next()?.trim().parse().ok()).collect();
        assert!(!values.is_empty(), "there is no {name}");
        values.iter().sum()
    }
}

fn publish_head(length: usize) -> String {
    format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_body_that_drips_is_ended_however_much_came_at_first() {
    let mut stage = Stage::new(Config::new(), 1);
    let (burst, drip) = (stage.connect(1, None), stage.connect(1, None));
    stage.send(burst, &[publish_head(1 << 20).as_bytes(), &vec![b'x'; 900_000]].concat());
    stage.send(drip, publish_head(1000).as_bytes());
    stage.pass(20 * SECOND);
    for pipe in [burst, drip] {
        stage.send(pipe, b"x");
        assert_eq!(stage.received(pipe), "");
    }
    stage.pass(9 * SECOND);
    assert!(!stage.is_over(burst) && !stage.is_over(drip));
    assert!(stage.metric("esker_bodies_bytes") > 900_000.0);
    stage.pass(2 * SECOND);
    for pipe in [burst, drip] {
        let answer = stage.received(pipe);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("1 KiB/s"), "{answer}");
        assert!(stage.is_over(pipe));
    }
    assert_eq!(stage.metric("esker_bodies_bytes"), 0.0);
    assert_eq!(stage.metric("esker_bodies_refused_total"), 2.0);
}

#[test]
fn a_body_at_its_least_rate_is_taken() {
    let mut stage = Stage::new(Config::new(), 1);
    let pipe = stage.connect(1, None);
    stage.send(pipe, publish_head(200 << 10).as_bytes());
    stage.send(pipe, b"data:");
    for _ in 0..20 {
        stage.pass(10 * SECOND);
        stage.send(pipe, &[b'x'; 10 << 10]);
    }
    assert!(!stage.is_over(pipe) && stage.received(pipe).starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_unwanted_body_is_not_waited_for_longer_by_its_bytes() {
    let mut stage = Stage::new(Config::new(), 1);
    let (pipe, refused) = (stage.connect(1, None), stage.connect(1, None));
    stage.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    stage.send(refused, b"POST /publish/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..9 {
        stage.pass(SECOND);
        stage.send(pipe, b"x");
        stage.send(refused, b"1\r\nx\r\n");
        assert_eq!((stage.received(pipe), stage.received(refused)), (String::new(), String::new()));
    }
    stage.pass(2 * SECOND);
    for (pipe, status) in [(pipe, 200), (refused, 400)] {
        let answer = stage.received(pipe);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("Connection: close"), "{answer}");
        assert!(stage.is_over(pipe));
    }
    // What it goes on to say after its end is dropped for a while, and no longer.
    for _ in 0..6 {
        stage.pass(SECOND);
        stage.send(pipe, b"x");
    }
    assert!(stage.net.get().was_given_back(pipe));
}

/// The console's page is larger than what is taken of it here.
#[test]
fn an_answer_must_be_taken_at_a_least_rate() {
    let mut stage = Stage::new(Config::new().stall(Duration::from_secs(5)), 1);
    let pipes = [1, 2000, 9 << 10].map(|per_second| (per_second, stage.connect(1, Some(per_second))));
    for (_, pipe) in pipes {
        stage.send(pipe, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for second in 0..10 {
        stage.pass(SECOND);
        for (per_second, pipe) in pipes {
            stage.net.get().give_room(pipe, Some(per_second));
        }
        stage.settle();
        assert!(second >= 4 || pipes.iter().all(|&(_, pipe)| !stage.is_over(pipe)), "second {second}");
    }
    assert_eq!(pipes.map(|(_, pipe)| stage.is_over(pipe)), [true, true, false]);
    assert_eq!(stage.metric("esker_unsent_closed_total"), 2.0);
    stage.pass(6 * SECOND);
    stage.net.get().give_room(pipes[2].1, None);
    stage.settle();
    assert!(stage.received(pipes[2].1).contains("</html>"));
}

#[test]
fn clients_that_read_nothing_hold_no_more_than_all_may() {
    const CLIENTS: usize = 700;
    for workers in [1, 3] {
        let mut stage = Stage::new(Config::new(), workers);
        let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2000);
        // One that asks early, and reads.
        let reader = stage.connect(2, Some(1000));
        stage.send(reader, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        // One whose request comes in two parts, with less time left than those that read nothing have.
        let halting = stage.connect(3, None);
        stage.send(halting, b"GET /healthz HTTP/1.1\r\nHo");
        for number in 0..CLIENTS {
            stage.pass(1);
            let pipe = stage.connect(1, Some(0));
            stage.send(pipe, requests.as_bytes());
            stage.net.get().give_room(reader, Some(100));
            if number % 50 == 0 {
                let unsent = stage.metric("esker_unsent_bytes");
                assert!(unsent <= MAX_UNSENT, "{unsent}");
            }
        }
        let unsent = stage.metric("esker_unsent_bytes");
        assert!((MAX_UNSENT / 2.0..=MAX_UNSENT).contains(&unsent), "{unsent}");
        assert!(stage.metric("esker_unsent_closed_total") > 100.0);
        stage.send(halting, b"st: h\r\n\r\n");
        assert!(stage.received(halting).ends_with("ok"), "a part of a request is no answer that nobody takes");
        stage.net.get().give_room(reader, None);
        stage.settle();
        assert!(stage.received(reader).contains("</html>"), "a client that reads is served");
        stage.pass(70 * SECOND);
        assert_eq!(stage.metric("esker_unsent_bytes"), 0.0);
    }
}

#[test]
fn an_idle_connection_is_kept_longer_than_proxies_keep_theirs() {
    let mut stage = Stage::new(Config::new(), 1);
    let pipe = stage.connect(1, None);
    for _ in 0..2 {
        stage.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(stage.received(pipe).ends_with("ok"));
        stage.pass(649 * SECOND);
        assert!(!stage.is_over(pipe));
    }
    stage.pass(3 * SECOND);
    assert!(stage.is_over(pipe));
}

/// One that answers a request late is not the longest idle, though it was so when the place was asked for.
#[test]
fn the_longest_idle_connection_makes_room() {
    for workers in [1, 3] {
        let mut stage = Stage::new(Config::new().max_connections(4), workers);
        let pipes: Vec<_> = (0..4).map(|host| stage.connect(host, None)).collect();
        for &pipe in &pipes {
            stage.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
            stage.pass(SECOND);
        }
        // The head of another request has begun, or is in the socket and unread.
        stage.send(pipes[0], b"GET /");
        stage.net.get().send(pipes[1], b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        let newcomer = stage.connect(9, None);
        stage.net.get().deliver(pipes[1], usize::MAX);
        stage.send(newcomer, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        stage.pass(2 * SECOND);
        assert!(stage.received(newcomer).ends_with("ok"));
        assert!(!stage.is_over(pipes[0]) && !stage.is_over(pipes[1]), "requests are under way");
        let closed = pipes.iter().filter(|&&pipe| stage.is_over(pipe)).count();
        assert_eq!((closed, stage.is_over(pipes[2]) || workers > 1), (1, true));
    }
}
