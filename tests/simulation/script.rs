//! A broker for tests that are scripts, on a simulated clock, without faults and random choices.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::internals::sim::{self, ManualClock};
use esker::internals::store::{Location, Tuning};

use super::net::{Shared, SimKernel, Watch};

/// A broker, its network and its clock.
pub struct Harness {
    pub net: Shared,
    dial: Arc<ManualClock>,
    pub broker: sim::Broker<SimKernel>,
    watches: Vec<Watch>,
    due: Vec<Option<u64>>,
}

impl Harness {
    /// Starts a broker that requires no tokens.
    pub fn new(config: Config, workers: usize) -> Self {
        Self::start(config.no_auth(true), workers)
    }

    /// Starts a broker with tokens or without, as configured.
    pub fn start(config: Config, workers: usize) -> Self {
        let (net, dial) = (Shared::default(), Arc::new(ManualClock::default()));
        dial.unix_micros.store(1_770_000_000_000_000, Ordering::Relaxed);
        let (kernels, listener) = net.restart(workers);
        let watches = kernels.iter().map(SimKernel::watch).collect();
        let env = sim::Env {
            location: &Location::Memory,
            tuning: Tuning::default(),
            clock: Arc::clone(&dial),
            reactors: kernels,
            listener,
            history: None,
            engine: None,
        };
        let config = config.port(0).threads(workers);
        let broker = sim::Broker::start(&config, env).expect("it starts");
        Self { net, dial, broker, watches, due: vec![Some(0); workers] }
    }

    pub fn millis(&self) -> u64 {
        self.dial.elapsed_micros.load(Ordering::Relaxed) / 1000
    }

    /// Runs workers until nothing more happens at this time.
    pub fn settle(&mut self) {
        let is_due = |due: &Option<u64>, now| due.is_some_and(|due| due <= now);
        loop {
            let now = self.millis();
            let waking: Vec<_> =
                (0..self.due.len()).filter(|&id| is_due(&self.due[id], now) || self.watches[id].would_wake()).collect();
            if waking.is_empty() {
                return;
            }
            for id in waking {
                self.broker.step(id);
                self.due[id] = self.broker.timeout(id).map(|timeout| now + timeout);
            }
        }
    }

    /// Lets time pass, and runs workers when they are due.
    pub fn pass(&mut self, millis: u64) {
        let end = self.millis() + millis;
        self.settle();
        while self.millis() < end {
            let next = self.due.iter().flatten().copied().min().unwrap_or(end).clamp(self.millis() + 1, end);
            self.dial.advance((next - self.millis()) * 1000);
            self.settle();
        }
    }

    /// Connects a client that reads everything, or for now only `room` bytes.
    pub fn connect(&self, host: u8, room: Option<usize>) -> usize {
        self.net.get().connect_from(host, room)
    }

    pub fn send(&mut self, pipe: usize, bytes: &[u8]) {
        let mut net = self.net.get();
        net.send(pipe, bytes);
        net.deliver(pipe, usize::MAX);
        drop(net);
        self.settle();
    }

    pub fn received(&self, pipe: usize) -> String {
        String::from_utf8(self.net.get().take_received(pipe)).expect("responses are text")
    }

    pub fn is_over(&self, pipe: usize) -> bool {
        self.net.get().is_over(pipe)
    }

    /// Returns the sum of a metric's samples, read on a separate connection.
    pub fn metric(&mut self, name: &str) -> f64 {
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
