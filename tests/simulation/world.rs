//! One simulated broker and the world around it: clients, a network that breaks, a clock that jumps, a disk that fails, and
//! restarts. One seed decides everything; the oracle checks every step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::internals::sim::{self, ManualClock};
use fastrand::Rng;

use super::backup::Backup;
use super::bounds::Bounds;
use super::net::{Shared, SimKernel, Transcript, Watch};
use super::oracle::Oracle;
use super::requester::Requester;
use super::storage::Storage;
use super::subscriber::Subscriber;
use super::tokens;

pub const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];
pub const NAMES: [&str; 12] = ["user", "order", "a/b", "\u{e9}t\u{e9}", "x", "y", "z", "X", "Y", "Z", " ", "last"];
/// The number of names in use at a time. New ones replace old ones.
const NAMES_IN_USE: usize = 5;
const STEPS: usize = 600;
/// The simulated time begins in 2026.
const BEGIN_MICROS: u64 = 1_770_000_000_000_000;

/// What one seed's world is like.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(super) workers: usize,
    /// Everything is retained forever.
    pub(super) is_roomy: bool,
    pub padding: usize,
    pub has_disk_faults: bool,
    pub(super) has_lying_disk: bool,
    pub(super) has_tokens: bool,
    /// How many versions of each record name are kept; `None` for all.
    pub(super) kept: Option<usize>,
    /// Versions are erased.
    pub(super) has_erasures: bool,
    /// More clients connect than the broker accepts.
    pub(super) is_over_capacity: bool,
    /// More subscribers than a loop iteration serves, all on one worker; see `crowd`.
    pub(super) has_crowd: bool,
    /// Header fields with tokens, or empty.
    pub publisher_auth: String,
    pub subscriber_auth: String,
    pub is_ending: bool,
}

/// What happened, so that a simulation that tests nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub events: usize,
    pub gaps: usize,
    pub records: usize,
    /// Records that were erased.
    pub erased: usize,
    pub restarts: usize,
    /// Starts that have continued the history.
    pub continued: usize,
    pub power_cuts: usize,
    pub restores: usize,
    pub expiries: usize,
    pub revocations: usize,
    /// A hash of all bytes and calls.
    pub transcript: Transcript,
}

impl Totals {
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            gaps: self.gaps + other.gaps,
            records: self.records + other.records,
            erased: self.erased + other.erased,
            restarts: self.restarts + other.restarts,
            continued: self.continued + other.continued,
            power_cuts: self.power_cuts + other.power_cuts,
            restores: self.restores + other.restores,
            expiries: self.expiries + other.expiries,
            revocations: self.revocations + other.revocations,
            transcript: other.transcript,
        }
    }
}

/// A simulated broker, its clients, and everything that it runs on.
pub struct World {
    pub(super) rng: Rng,
    pub(super) scenario: Scenario,
    pub(super) net: Shared,
    pub(super) dial: Arc<ManualClock>,
    pub(super) storage: Storage,
    pub(super) backup: Option<Backup>,
    /// The history that a broker has left at its clean end for the next one.
    pub(super) history: Option<Vec<u8>>,
    pub(super) bounds: Bounds,
    pub(super) config: Config,
    pub(super) broker: Option<sim::Broker<SimKernel>>,
    pub(super) watches: Vec<Watch>,
    pub(super) oracle: Oracle,
    pub(super) requesters: Vec<Requester>,
    pub(super) subscribers: Vec<Subscriber>,
    /// The pipes of the crowd.
    pub(super) crowd: Vec<usize>,
    /// Subscribers whose streams the current drain has ended.
    pub(super) ended: Vec<Subscriber>,
    /// When each worker is due for its next loop iteration, in milliseconds.
    pub(super) due: Vec<Option<u64>>,
    pub(super) latest_second: u64,
    pub(super) totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let has_tokens = rng.u8(0..3) == 0;
        let has_lying_disk = rng.u8(0..8) == 0;
        let has_crowd = rng.u8(0..24) == 0;
        let scenario = Scenario {
            workers: if has_crowd { 1 } else { rng.usize(1..4) },
            is_roomy: rng.bool(),
            padding: if has_crowd { 2 } else { [2, 40, 400, 20_000][rng.usize(0..4)] },
            // A lying disk may damage the database.
            has_disk_faults: has_lying_disk || rng.bool(),
            has_lying_disk,
            has_tokens,
            kept: (seed % 3 == 1).then_some(1 + seed as usize / 3 % 3),
            has_erasures: seed % 4 == 2 && !has_lying_disk,
            is_over_capacity: !has_crowd && rng.u8(0..8) == 0,
            has_crowd,
            publisher_auth: if has_tokens { tokens::field(tokens::PUBLISHER, u64::MAX >> 12) } else { String::new() },
            subscriber_auth: if has_tokens { tokens::field(tokens::SUBSCRIBER, u64::MAX >> 12) } else { String::new() },
            is_ending: false,
        };
        trace(0, &format!("{scenario:?}"));
        let bounds = Bounds::new(&mut rng, &scenario);
        let config = bounds.configure(&mut rng, &scenario);
        let config = scenario.kept.into_iter().fold(config, |config, kept| config.versions(kept as u64));
        let dial = Arc::new(ManualClock::default());
        dial.unix_micros.store(BEGIN_MICROS, Ordering::Relaxed);
        let mut world = Self {
            storage: Storage::new(rng.u64(..), &dial, scenario.has_lying_disk),
            backup: None,
            history: None,
            rng,
            net: Shared::default(),
            dial,
            bounds,
            config,
            broker: None,
            watches: Vec::new(),
            oracle: Oracle::new(scenario.kept, scenario.has_erasures),
            scenario,
            requesters: Vec::new(),
            subscribers: Vec::new(),
            crowd: Vec::new(),
            ended: Vec::new(),
            due: Vec::new(),
            latest_second: 0,
            totals: Totals::default(),
        };
        world.start();
        world
    }

    pub fn run(mut self) -> Totals {
        for _ in 0..STEPS {
            self.oracle.step += 1;
            self.play_crowd();
            self.step();
            self.observe();
        }
        self.settle();
        self.shut_down();
        self.start();
        self.audit_all();
        self.disconnect_all();
        self.totals.transcript = self.net.get().transcript;
        self.totals
    }

    fn step(&mut self) {
        if self.has_store_failed() && self.rng.u8(0..5) == 0 {
            return self.restart_failed_store();
        }
        match self.rng.u8(0..100) {
            0..28 => self.iterate_some(),
            28..36 => self.turn_store(),
            36..50 => self.deliver(),
            50..57 => self.read_some(),
            57..73 => self.send_request(),
            73..78 => self.connect_requester(),
            78..85 => self.subscribe(),
            85..93 => self.pass_time(),
            93..95 => self.break_connection(),
            95 => self.step_clock(),
            96 => self.inject_fault(),
            97 => self.settle(),
            98 if self.rng.bool() => self.restart(),
            99 if self.scenario.has_tokens => self.revoke_one(),
            _ => drop(self.iterate_all()),
        }
    }
}

/// Returns one of the names in use at this step.
pub fn name_in_use(rng: &mut Rng, step: usize) -> usize {
    let oldest = step * NAMES.len() / STEPS;
    (oldest + rng.usize(0..NAMES_IN_USE)).min(NAMES.len() - 1)
}

/// Prints what happens, if a single seed runs.
pub fn trace(step: usize, what: &str) {
    if std::env::var_os(super::ONE_SEED).is_some() {
        println!("{step}: {what}");
    }
}
