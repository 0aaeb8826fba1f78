//! The state that all roles share: the broker, the oracle, the failures, and whether the load is paused.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::histogram::Histogram;
use crate::ledger::Ledger;
use crate::records::Records;
use crate::server::Server;
use crate::shim::Shim;
use crate::tokens;

/// The number of failures that are printed.
const MAX_PRINTED: usize = 50;

/// The longest time until a clock step affects what is retained.
const CLOCK_GRACE: Duration = Duration::from_secs(3);
/// The interval at which paused roles check whether to continue.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The shared state.
pub struct World {
    pub seed: u64,
    pub address: SocketAddr,
    pub server: Mutex<Server>,
    pub shim: Shim,
    pub ledger: Ledger,
    pub records: Records,
    pub counts: Counts,
    /// The probes' latency in nanoseconds: since the last sample, and in this phase.
    pub probes: Mutex<Vec<u64>>,
    pub latencies: Mutex<Histogram>,
    pub began: Instant,
    /// The broker's process.
    pub pid: AtomicU32,
    /// Incremented before a broker is ended and when the next one listens; odd in between.
    pub generation: AtomicU32,
    /// The load is paused.
    pub is_idle: AtomicBool,
    /// The number of roles, and of those that are paused.
    pub roles: AtomicUsize,
    pub paused: AtomicUsize,
    /// The soak is over.
    pub is_over: AtomicBool,
    failures: Mutex<Vec<String>>,
    failed: AtomicU64,
    phase: Mutex<String>,
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
            seed,
            address: server.address(),
            pid: AtomicU32::new(server.pid()),
            server: Mutex::new(server),
            shim,
            ledger,
            records,
            counts: Counts::default(),
            probes: Mutex::default(),
            latencies: Mutex::default(),
            began: Instant::now(),
            generation: AtomicU32::new(0),
            is_idle: AtomicBool::new(false),
            roles: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
            failed: AtomicU64::new(0),
            phase: Mutex::default(),
        }
    }

    /// Reports a failed check.
    pub fn fail(&self, words: impl Into<String>) {
        self.failed.fetch_add(1, SeqCst);
        let words = format!("{:>6.1} s, {}: {}", self.began.elapsed().as_secs_f64(), self.phase(), words.into());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < MAX_PRINTED {
            eprintln!("soak: {words}");
            failures.push(words);
        }
    }

    /// Returns the number of failed checks.
    pub fn failed(&self) -> u64 {
        self.failed.load(SeqCst)
    }

    /// Returns the first failures.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the name of the current phase.
    pub fn enter(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn phase(&self) -> String {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    pub fn is_idle(&self) -> bool {
        self.is_idle.load(SeqCst)
    }

    /// Returns a generator for a role, which makes the same numbers in every run with this seed.
    pub fn random(&self, role: &str) -> fastrand::Rng {
        // FNV-1a: spreads names and is the same everywhere.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        fastrand::Rng::with_seed(role.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.seed, step))
    }

    /// Returns a client that may publish and insert anything.
    pub fn publisher(&self) -> Client<'_> {
        Client::new(self, &tokens::publisher())
    }

    /// Returns a client that may read anything.
    pub fn reader(&self) -> Client<'_> {
        Client::new(self, &tokens::subscriber(tokens::FAR, "*"))
    }

    /// Repeats `step` until the soak is over, except while the load is paused. `pause` runs at the beginning and at the end of
    /// a pause: it releases what the role holds, and resets its timers.
    pub fn work<T>(&self, state: &mut T, mut step: impl FnMut(&mut T), mut pause: impl FnMut(&mut T)) {
        self.roles.fetch_add(1, SeqCst);
        while !self.is_over() {
            if !self.is_idle() {
                step(state);
                continue;
            }
            pause(state);
            self.paused.fetch_add(1, SeqCst);
            while self.is_idle() && !self.is_over() {
                std::thread::sleep(CHECK_INTERVAL);
            }
            pause(state);
            self.paused.fetch_sub(1, SeqCst);
        }
    }

    /// Returns whether all roles are paused.
    pub fn all_paused(&self) -> bool {
        self.paused.load(SeqCst) == self.roles.load(SeqCst)
    }
}
