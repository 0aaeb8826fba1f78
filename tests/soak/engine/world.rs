//! The state that all roles share: the run, the cluster and the oracle.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::client::{Client, Peer};
use crate::engine::cluster::{Balanced, Cluster};
use crate::engine::ledger::Ledger;
use crate::engine::records::Records;
use crate::run::Run;
use crate::tokens;

/// The shared state.
pub struct World {
    run: Run,
    pub cluster: Cluster,
    pub ledger: Ledger,
    /// `None` if the brokers keep no records.
    pub records: Option<Records>,
    pub counts: Counts,
    /// The length of the faults: 1 is the usual one.
    pub fault_length: f64,
}

/// Counters of what happened so far.
#[derive(Default)]
pub struct Counts {
    /// Bodies whose response was 200, and repetitions among them.
    pub accepted: AtomicU64,
    pub duplicates: AtomicU64,
    /// Requests with status 503, with status 504, and without a response.
    pub refused: AtomicU64,
    pub timeouts: AtomicU64,
    pub broken: AtomicU64,
    /// Records that were acknowledged.
    pub stored: AtomicU64,
    /// Pages of audits that were compared with the ledger.
    pub audits: AtomicU64,
    /// Events and records that followers received, and streams that they opened.
    pub delivered: AtomicU64,
    pub opened: AtomicU64,
}

impl World {
    pub fn new(seed: u64, cluster: Cluster, records: Option<Records>, fault_length: f64) -> Self {
        let (ledger, counts) = (Ledger::default(), Counts::default());
        Self { run: Run::new(seed), cluster, ledger, records, counts, fault_length }
    }

    /// Returns a client that may publish and insert anything, at the brokers in turn or through the balancer.
    pub fn publisher<'w>(&'w self, balanced: Option<&'w Balanced<'w>>) -> Client<'w> {
        let peer: &dyn Peer = balanced.map_or(&self.cluster, |balanced| balanced);
        Client::new(peer, &tokens::publisher())
    }

    /// Returns a client that may read anything at this peer.
    pub fn reader<'w>(&'w self, peer: &'w dyn Peer) -> Client<'w> {
        Client::new(peer, &tokens::subscriber(tokens::FAR, "*"))
    }

    /// Returns a time in this range of milliseconds, in proportion to the length of the faults.
    pub fn time(&self, random: &mut fastrand::Rng, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(random.u64(millis)).mul_f64(self.fault_length)
    }

    /// Returns all counters with their names.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counts;
        [
            ("accepted", &counts.accepted),
            ("repeated", &counts.duplicates),
            ("503", &counts.refused),
            ("504", &counts.timeouts),
            ("broken", &counts.broken),
            ("records", &counts.stored),
            ("audits", &counts.audits),
            ("delivered", &counts.delivered),
            ("streams", &counts.opened),
            ("restarts", &self.cluster.restarts),
        ]
        .map(|(name, count)| (name, count.load(Relaxed)))
        .to_vec()
    }
}

impl Deref for World {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

/// The brokers in turn.
impl Peer for World {
    fn address(&self) -> std::net::SocketAddr {
        self.cluster.address()
    }

    fn generation(&self) -> u32 {
        self.cluster.generation()
    }
}
