//! What every soak has, whatever it puts under load: the seed, the failures, the phase, whether the load is paused, and the
//! latency of the probes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;

/// The number of failures that are printed.
const MAX_PRINTED: usize = 50;
/// The interval at which paused roles check whether to continue.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// One run of a soak.
pub struct Run {
    pub seed: u64,
    pub began: Instant,
    /// The probes' latency in nanoseconds: since the last sample, and in this phase.
    pub probes: Mutex<Vec<u64>>,
    pub latencies: Mutex<Histogram>,
    /// The load is paused.
    pub is_idle: AtomicBool,
    /// The number of roles, and of those that are paused.
    roles: AtomicUsize,
    paused: AtomicUsize,
    /// The soak is over.
    pub is_over: AtomicBool,
    failures: Mutex<Vec<String>>,
    failed: AtomicU64,
    phase: Mutex<String>,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            began: Instant::now(),
            probes: Mutex::default(),
            latencies: Mutex::default(),
            is_idle: AtomicBool::new(false),
            roles: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failures: Mutex::default(),
            failed: AtomicU64::new(0),
            phase: Mutex::default(),
        }
    }

    /// Returns the title of the reports.
    pub fn title(&self, what: &str) -> String {
        let (seconds, seed) = (self.began.elapsed().as_secs(), self.seed);
        format!("{what} of {} min {:02} s, seed {seed}", seconds / 60, seconds % 60)
    }

    /// Reports a failed check. The same one in a row is counted, but printed once.
    pub fn fail(&self, words: impl Into<String>) {
        self.failed.fetch_add(1, SeqCst);
        let words: String = words.into();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // One defect is often noticed by many followers.
        let is_known = failures.last().is_some_and(|last| last.ends_with(&words));
        if failures.len() < MAX_PRINTED && !is_known {
            let words = format!("{:>6.1} s, {}: {words}", self.began.elapsed().as_secs_f64(), self.phase());
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

    /// Notes the latency of a probe.
    pub fn note_latency(&self, nanos: u64) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).push(nanos);
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(nanos);
    }

    /// Returns the median, the 99th percentile and the maximum of the probes' latency in milliseconds since the last call, if
    /// any arrived.
    pub fn take_probes(&self) -> Option<[f64; 3]> {
        let mut nanos = std::mem::take(&mut *self.probes.lock().unwrap_or_else(PoisonError::into_inner));
        nanos.sort_unstable();
        let last = nanos.len().checked_sub(1)?;
        Some([last / 2, last * 99 / 100, last].map(|index| nanos[index] as f64 / 1e6))
    }

    /// Takes the latencies of this phase: median, 99th percentile and maximum in milliseconds.
    pub fn take_latencies(&self) -> [f64; 3] {
        let latencies = std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner));
        [0.5, 0.99, 1.0].map(|share| latencies.quantile(share) as f64 / 1e6)
    }
}
