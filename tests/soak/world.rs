//! The state that all roles share: the run, the broker and the oracle.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::client::{Client, Peer};
use crate::ledger::Ledger;
use crate::records::Records;
use crate::run::Run;
use crate::server::Server;
use crate::shim::Shim;
use crate::tokens;

/// The longest time until a clock step affects what is retained.
const CLOCK_GRACE: Duration = Duration::from_secs(3);

/// The shared state.
pub struct World {
    run: Run,
    pub address: SocketAddr,
    pub server: Mutex<Server>,
    pub shim: Shim,
    pub ledger: Ledger,
    pub records: Records,
    pub counts: Counts,
    /// The broker's process.
    pub pid: AtomicU32,
    /// Incremented before a broker is ended and when the next one listens; odd in between.
    pub generation: AtomicU32,
}

/// Counters of what happened so far.
#[derive(Default)]
pub struct Counts {
    /// Events that were acknowledged.
    pub accepted: AtomicU64,
    /// Bodies whose response was not 200.
    pub refused: AtomicU64,
    /// Bodies without a response.
    pub unknown: AtomicU64,
    /// Events that followers received.
    pub delivered: AtomicU64,
    /// Gaps that followers received.
    pub gaps: AtomicU64,
    /// Streams that followers opened.
    pub opened: AtomicU64,
    /// Records that were acknowledged.
    pub stored: AtomicU64,
    /// Connections and requests of other clients.
    pub others: AtomicU64,
    pub restarts: AtomicU64,
}

impl World {
    pub fn new(seed: u64, server: Server, shim: Shim, ledger: Ledger, records: Records) -> Self {
        Self {
            run: Run::new(seed),
            address: server.address(),
            pid: AtomicU32::new(server.pid()),
            server: Mutex::new(server),
            shim,
            ledger,
            records,
            counts: Counts::default(),
            generation: AtomicU32::new(0),
        }
    }

    pub fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }

    /// Returns the number of events that empty all histories: a restart, or a clock step, which ages them.
    pub fn causes(&self) -> u32 {
        self.generation() + self.shim.steps()
    }

    /// Returns whether such an event is in progress, so that one cause may lead to two gaps.
    pub fn may_cause_gap(&self) -> bool {
        !self.generation().is_multiple_of(2) || self.shim.was_set_within(CLOCK_GRACE)
    }

    /// Returns whether the broker was restarted since this generation, or is being restarted.
    pub fn has_restarted_since(&self, generation: u32) -> bool {
        !generation.is_multiple_of(2) || generation != self.generation()
    }

    /// Returns a client that may publish and insert anything.
    pub fn publisher(&self) -> Client<'_> {
        Client::new(self, &tokens::publisher())
    }

    /// Returns a client that may read anything.
    pub fn reader(&self) -> Client<'_> {
        Client::new(self, &tokens::subscriber(tokens::FAR, "*"))
    }
}

impl Deref for World {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

impl Peer for World {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn generation(&self) -> u32 {
        self.generation()
    }
}
