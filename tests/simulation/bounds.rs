//! The limits of one seed's broker, and whether it keeps them.

use std::time::Duration;

use esker::Config;
use fastrand::Rng;

use super::tokens;
use super::world::{Scenario, TOPICS, World};

/// The time limit of a drain that ends all streams at once.
const DRAIN_MILLIS: u64 = 10_000;

/// Limits on what the broker may retain and accept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Events per topic.
    events: usize,
    bytes: usize,
    connections: usize,
    /// The time over which a drain spreads the end of streams.
    drain: Duration,
}

impl Bounds {
    pub fn new(rng: &mut Rng, scenario: &Scenario) -> Self {
        let (events, bytes) = match scenario.is_roomy {
            true => (1_000_000, 1 << 40),
            false => {
                (rng.usize(0..12).min(rng.usize(0..12)), if rng.bool() { 400_000 } else { rng.usize(500..200_000) })
            }
        };
        let connections = if scenario.is_over_capacity { rng.usize(8..20) } else { 1 << 16 };
        let drain = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(0..1_000) });
        Self { events, bytes, connections, drain }
    }

    pub fn configure(self, rng: &mut Rng, scenario: &Scenario) -> Config {
        let is_ageless = scenario.is_roomy || rng.bool();
        let age = if is_ageless { Duration::MAX } else { Duration::from_millis(rng.u64(1..60_000)) };
        let config = Config::new().data(":memory:").threads(scenario.workers).port(0);
        let config = config.heartbeat(Duration::from_secs(15)).stall(Duration::from_secs(60));
        let config = config.history(self.events).history_age(age).history_bytes(self.bytes);
        let config = config.max_connections(self.connections).drain(self.drain);
        match scenario.has_tokens {
            true => config.publisher_secret(tokens::PUBLISHER).subscriber_secret(tokens::SUBSCRIBER),
            false => config.no_auth(true),
        }
    }
}

impl Bounds {
    /// Returns the time limit of a drain, in milliseconds.
    pub fn drain_millis(self) -> u64 {
        DRAIN_MILLIS + self.drain.as_millis() as u64
    }
}

impl World {
    /// Checks the limits that hold at every step.
    pub(super) fn assert_bounded(&self) {
        let open = self.net.get().open();
        assert!(open <= self.bounds.connections, "{open} connections are open: {:?}", self.bounds);
        let Some(broker) = &self.broker else { return };
        let counts = broker.hub().counts();
        assert!(counts.history_events <= TOPICS.len() * self.bounds.events, "{:?}: {counts:?}", self.bounds);
        assert!(counts.history_bytes <= self.bounds.bytes, "{:?}: {counts:?}", self.bounds);
    }

    /// Checks an idle broker: no connection waits if the limit allows another, and the workers have served everything.
    pub(super) fn assert_nothing_pending(&self) {
        let net = self.net.get();
        let (open, waiting) = (net.open(), net.waiting());
        assert!(waiting == 0 || open >= self.bounds.connections, "{waiting} connections wait though there is room");
        let in_flight: Vec<_> = self.broker.iter().flat_map(|broker| broker.hub().in_flight()).collect();
        assert!(
            in_flight.iter().all(|&count| count == (0, 0)),
            "the broker is idle, and workers have not served everything: {in_flight:?}"
        );
    }
}
