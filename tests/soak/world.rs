//! What all roles of a soak share: where the broker is, what is known to be true, what went wrong, and whether it is time to rest.

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

/// So many failures are told in words.
const TOLD: usize = 50;

/// A clock that was set shows in what is retained after so long at the latest.
const UNSETTLED: Duration = Duration::from_secs(3);
/// Who rests looks up so often.
const REST: Duration = Duration::from_millis(10);

/// See the module's page.
pub struct World {
    pub seed: u64,
    pub address: SocketAddr,
    pub server: Mutex<Server>,
    pub shim: Shim,
    pub ledger: Ledger,
    pub records: Records,
    pub counts: Counts,
    /// How long probes took since the last sample, in nanoseconds, and in all of this phase.
    pub probes: Mutex<Vec<u64>>,
    pub latencies: Mutex<Histogram>,
    pub began: Instant,
    /// The broker's process.
    pub pid: AtomicU32,
    /// Counts up before a broker is ended, and once the next one listens: odd in between.
    pub generation: AtomicU32,
    /// Nobody publishes, comes or goes.
    pub is_quiet: AtomicBool,
    /// Roles at work, and those of them that rest.
    pub working: AtomicUsize,
    pub resting: AtomicUsize,
    /// The soak is over.
    pub is_over: AtomicBool,
    failures: Mutex<Vec<String>>,
    failed: AtomicU64,
    phase: Mutex<String>,
}

/// What was seen so far.
#[derive(Default)]
pub struct Counts {
    /// Events that were acknowledged.
    pub accepted: AtomicU64,
    /// Bodies with another answer than 200.
    pub refused: AtomicU64,
    /// Bodies without an answer.
    pub unknown: AtomicU64,
    /// Events that came to followers.
    pub delivered: AtomicU64,
    /// Gaps that followers were told.
    pub gaps: AtomicU64,
    /// Streams that followers opened.
    pub opened: AtomicU64,
    /// Records that were acknowledged.
    pub stored: AtomicU64,
    /// Whoever came and went beside the followers.
    pub guests: AtomicU64,
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
            is_quiet: AtomicBool::new(false),
            working: AtomicUsize::new(0),
            resting: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
            failed: AtomicU64::new(0),
            phase: Mutex::default(),
        }
    }

    /// Something is not as it must be.
    pub fn fail(&self, words: impl Into<String>) {
        self.failed.fetch_add(1, SeqCst);
        let words = format!("{:>6.1} s, {}: {}", self.began.elapsed().as_secs_f64(), self.phase(), words.into());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            eprintln!("soak: {words}");
            failures.push(words);
        }
    }

    /// How much has failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(SeqCst)
    }

    /// The first failures, in words.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is going on now.
    pub fn enter(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn phase(&self) -> String {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn generation(&self) -> u32 {
        self.generation.load(SeqCst)
    }

    /// Counts up when the history of all topics is lost: it dies with the process, and a clock that is set forward ages it.
    pub fn causes(&self) -> u32 {
        self.generation() + self.shim.steps()
    }

    /// Whether something of that kind goes on, so that one cause may show twice.
    pub fn is_unsettled(&self) -> bool {
        !self.generation().is_multiple_of(2) || self.shim.was_set_within(UNSETTLED)
    }

    /// Whether the broker was started anew since this generation, or is just now.
    pub fn has_restarted_since(&self, generation: u32) -> bool {
        !generation.is_multiple_of(2) || generation != self.generation()
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    pub fn is_quiet(&self) -> bool {
        self.is_quiet.load(SeqCst)
    }

    /// Random numbers of a role of its own, the same with every run of this seed.
    pub fn random(&self, role: &str) -> fastrand::Rng {
        // FNV-1a: spreads names and is the same everywhere.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        fastrand::Rng::with_seed(role.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.seed, step))
    }

    /// Who may publish and insert anything.
    pub fn publisher(&self) -> Client<'_> {
        Client::new(self, &tokens::publisher())
    }

    /// Who may read anything.
    pub fn reader(&self) -> Client<'_> {
        Client::new(self, &tokens::subscriber(tokens::FAR, "*"))
    }

    /// Works step by step until the soak is over, and rests while it is quiet; `rest` lets go of what it holds, and forgets
    /// in the end how long that was.
    pub fn work<T>(&self, state: &mut T, mut step: impl FnMut(&mut T), mut rest: impl FnMut(&mut T)) {
        self.working.fetch_add(1, SeqCst);
        while !self.is_over() {
            if !self.is_quiet() {
                step(state);
                continue;
            }
            rest(state);
            self.resting.fetch_add(1, SeqCst);
            while self.is_quiet() && !self.is_over() {
                std::thread::sleep(REST);
            }
            rest(state);
            self.resting.fetch_sub(1, SeqCst);
        }
    }

    /// Whether nobody is at work any more.
    pub fn all_rest(&self) -> bool {
        self.resting.load(SeqCst) == self.working.load(SeqCst)
    }
}
