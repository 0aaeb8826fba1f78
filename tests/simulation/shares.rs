//! A loop iteration and time: where each call of the kernel takes long, an iteration still ends soon, and connections are
//! driven in the order in which they came to have something to do, each for its share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::stepped::{Ground, ManualClock, Stepped};
use esker::store::{Location, Tuning};

use super::net::{Shared, SimKernel};

/// What one read or write takes: more than one connection's share.
const CALL_MICROS: u64 = 700;
/// What driving connections may take in one iteration, and what timing them out may.
const DRIVE_MICROS: u64 = 2_000;
const TIME_OUT_MICROS: u64 = 500;
/// The calls that one connection's share may end with: it reads, and what it is answered is written.
const CALLS: u64 = 2;

/// A broker with one worker.
struct House {
    net: Shared,
    dial: Arc<ManualClock>,
    broker: Stepped<SimKernel>,
}

impl House {
    fn new() -> Self {
        let (net, dial) = (Shared::default(), Arc::new(ManualClock::default()));
        let (kernels, listener) = net.restart(1);
        let ground =
            Ground { place: &Location::Memory, tuning: Tuning::default(), dial: Arc::clone(&dial), kernels, listener };
        let config = Config::new().data(":memory:").threads(1).port(0).no_auth(true);
        let broker = Stepped::start(&config, ground).expect("it starts");
        Self { net, dial, broker }
    }

    fn come(&self, bytes: &[u8]) -> usize {
        let mut net = self.net.get();
        let pipe = net.connect(None);
        net.send(pipe, bytes);
        net.deliver(pipe, usize::MAX);
        pipe
    }

    /// From now on calls take long.
    fn slow_down(&self) {
        self.net.get().slow_calls = Some((Arc::clone(&self.dial), CALL_MICROS));
    }

    /// One iteration; how long it took.
    fn turn(&mut self) -> u64 {
        let before = self.dial.elapsed_micros.load(Ordering::Relaxed);
        self.broker.turn(0);
        self.dial.elapsed_micros.load(Ordering::Relaxed) - before
    }

    /// How many answers have come since the last call.
    fn answers(&self, pipe: usize) -> usize {
        let bytes = self.net.get().take_received(pipe);
        String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count()
    }
}

fn request(padding: usize) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(padding)).into_bytes()
}

#[test]
fn many_that_pour_have_their_shares_in_turn_and_keep_nobody_waiting_for_more() {
    let mut house = House::new();
    let pipes: Vec<_> = (0..8).map(|_| house.come(&request(10_000).repeat(60))).collect();
    house.turn();
    house.slow_down();
    let mut answers = vec![0; pipes.len()];
    for turn in 0..60 {
        let took = house.turn();
        assert!(took < DRIVE_MICROS + CALLS * CALL_MICROS, "iteration {turn} took {took} µs");
        answers.iter_mut().zip(&pipes).for_each(|(count, &pipe)| *count += house.answers(pipe));
        // A request is longer than what is read at once leaves over: now and then a share is only for reading.
        let (least, most) = (answers.iter().min(), answers.iter().max());
        assert!(most.copied() <= least.map(|count| count + 8), "{answers:?}");
    }
    assert!(answers.iter().all(|&count| count >= 10), "{answers:?}");
    let (honest, mut turns) = (house.come(&request(0)), 0);
    while house.answers(honest) == 0 {
        house.turn();
        turns += 1;
    }
    // It is accepted, and then driven after the eight: one at least in each iteration, and as many as have room in it.
    assert!(turns <= 8, "it waited for {turns} iterations");
}

#[test]
fn many_that_are_late_are_timed_out_in_slices() {
    let mut house = House::new();
    let pipes: Vec<_> = (0..100).map(|_| house.come(b"GET /healthz HTTP/1.1\r\n")).collect();
    house.turn();
    house.dial.advance(11_000_000);
    house.slow_down();
    let mut answered = 0;
    for turn in 0..200 {
        let took = house.turn();
        assert!(took < DRIVE_MICROS + TIME_OUT_MICROS + 4 * CALLS * CALL_MICROS, "iteration {turn} took {took} µs");
        answered += pipes.iter().map(|&pipe| house.answers(pipe)).sum::<usize>();
        if answered == pipes.len() {
            return;
        }
    }
    panic!("{answered} of {} were answered", pipes.len());
}
