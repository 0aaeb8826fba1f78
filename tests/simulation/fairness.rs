//! Time limits of a loop iteration. Even if every system call is slow, an iteration ends soon, and connections are driven in
//! the order in which they became ready, each for its share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::internals::sim::{self, ManualClock};
use esker::internals::store::{Location, Tuning};

use super::net::{Shared, SimKernel};

/// The duration of one read or write: more than one connection's share.
const CALL_MICROS: u64 = 700;
/// Time limits for driving connections in one iteration, and for timing them out.
const DRIVE_MICROS: u64 = 2_000;
const TIME_OUT_MICROS: u64 = 500;
/// Calls that may exceed one connection's share: a read, and the write of the response.
const CALLS: u64 = 2;

/// A broker with one worker.
struct Harness {
    net: Shared,
    dial: Arc<ManualClock>,
    broker: sim::Broker<SimKernel>,
}

impl Harness {
    fn new() -> Self {
        let (net, dial) = (Shared::default(), Arc::new(ManualClock::default()));
        let (kernels, listener) = net.restart(1);
        let env = sim::Env {
            location: &Location::Memory,
            tuning: Tuning::default(),
            clock: Arc::clone(&dial),
            reactors: kernels,
            listener,
            history: None,
            engine: None,
        };
        let config = Config::new().data(":memory:").threads(1).port(0).no_auth(true);
        let broker = sim::Broker::start(&config, env).expect("it starts");
        Self { net, dial, broker }
    }

    fn connect(&self, bytes: &[u8]) -> usize {
        let mut net = self.net.get();
        let pipe = net.connect(None);
        net.send(pipe, bytes);
        net.deliver(pipe, usize::MAX);
        pipe
    }

    /// Makes every later call slow.
    fn slow_down(&self) {
        self.net.get().slow_calls = Some((Arc::clone(&self.dial), CALL_MICROS));
    }

    /// Runs one iteration. Returns its duration in microseconds.
    fn iterate(&mut self) -> u64 {
        let before = self.dial.elapsed_micros.load(Ordering::Relaxed);
        self.broker.step(0);
        self.dial.elapsed_micros.load(Ordering::Relaxed) - before
    }

    /// Returns the number of responses since the last call.
    fn responses(&self, pipe: usize) -> usize {
        let bytes = self.net.get().take_received(pipe);
        String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count()
    }
}

fn request(padding: usize) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(padding)).into_bytes()
}

#[test]
fn busy_connections_share_iterations_evenly_and_delay_no_other_client() {
    let mut harness = Harness::new();
    let pipes: Vec<_> = (0..8).map(|_| harness.connect(&request(10_000).repeat(60))).collect();
    harness.iterate();
    harness.slow_down();
    let mut responses = vec![0; pipes.len()];
    for iteration in 0..60 {
        let took = harness.iterate();
        assert!(took < DRIVE_MICROS + CALLS * CALL_MICROS, "iteration {iteration} took {took} µs");
        responses.iter_mut().zip(&pipes).for_each(|(count, &pipe)| *count += harness.responses(pipe));
        // A read does not always complete a request: some shares only read.
        let (least, most) = (responses.iter().min(), responses.iter().max());
        assert!(most.copied() <= least.map(|count| count + 8), "{responses:?}");
    }
    assert!(responses.iter().all(|&count| count >= 10), "{responses:?}");
    let (new_client, mut iterations) = (harness.connect(&request(0)), 0);
    while harness.responses(new_client) == 0 {
        harness.iterate();
        iterations += 1;
    }
    // It is accepted, and driven after the eight others, of which each iteration drives at least one.
    assert!(iterations <= 8, "it waited for {iterations} iterations");
}

#[test]
fn many_timeouts_are_spread_over_iterations() {
    let mut harness = Harness::new();
    let pipes: Vec<_> = (0..100).map(|_| harness.connect(b"GET /healthz HTTP/1.1\r\n")).collect();
    harness.iterate();
    harness.dial.advance(11_000_000);
    harness.slow_down();
    let mut answered = 0;
    for iteration in 0..200 {
        let took = harness.iterate();
        assert!(
            took < DRIVE_MICROS + TIME_OUT_MICROS + 4 * CALLS * CALL_MICROS,
            "iteration {iteration} took {took} µs"
        );
        answered += pipes.iter().map(|&pipe| harness.responses(pipe)).sum::<usize>();
        if answered == pipes.len() {
            return;
        }
    }
    panic!("{answered} of {} were answered", pipes.len());
}
