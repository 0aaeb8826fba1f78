//! The world around one broker: clients that come and go, a net that breaks, a clock that jumps, a disk that fails, and
//! restarts in the middle. One seed decides all of it; every step is held against the truth.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::stepped::{ManualClock, Stepped};
use fastrand::Rng;

use super::asker::Asker;
use super::backup::Backup;
use super::bounds::Bounds;
use super::listener::Listener;
use super::net::{Shared, SimKernel, Transcript, Watch};
use super::storage::Storage;
use super::tokens;
use super::truth::Truth;

pub const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];
pub const NAMES: [&str; 12] = ["user", "order", "a/b", "\u{e9}t\u{e9}", "x", "y", "z", "X", "Y", "Z", " ", "last"];
/// So many of them are in use at a time: new ones come, old ones are left.
const NAMES_IN_USE: usize = 5;
const STEPS: usize = 600;
/// The simulated time begins in 2026.
const BEGIN_MICROS: u64 = 1_770_000_000_000_000;

/// What one seed's world is like.
#[derive(Clone, Debug)]
pub struct Traits {
    pub(super) workers: usize,
    /// Everything is retained for ever.
    pub(super) is_roomy: bool,
    pub padding: usize,
    pub has_disk_faults: bool,
    pub(super) has_lying_disk: bool,
    pub(super) has_tokens: bool,
    /// More clients than the broker takes.
    pub(super) is_crowded: bool,
    /// More listeners than a turn serves, all with one worker.
    pub(super) is_thronged: bool,
    /// Fields with tokens, or nothing.
    pub publisher: String,
    pub subscriber: String,
    pub is_ending: bool,
}

/// What happened, so that a simulation of nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub events: usize,
    pub gaps: usize,
    pub records: usize,
    pub restarts: usize,
    pub power_cuts: usize,
    pub restores: usize,
    pub expiries: usize,
    /// All bytes and calls.
    pub transcript: Transcript,
}

impl Tally {
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            gaps: self.gaps + other.gaps,
            records: self.records + other.records,
            restarts: self.restarts + other.restarts,
            power_cuts: self.power_cuts + other.power_cuts,
            restores: self.restores + other.restores,
            expiries: self.expiries + other.expiries,
            transcript: other.transcript,
        }
    }
}

/// See the module's page.
pub struct World {
    pub(super) rng: Rng,
    pub(super) traits: Traits,
    pub(super) net: Shared,
    pub(super) dial: Arc<ManualClock>,
    pub(super) storage: Storage,
    pub(super) backup: Option<Backup>,
    pub(super) bounds: Bounds,
    pub(super) config: Config,
    pub(super) broker: Option<Stepped<SimKernel>>,
    pub(super) watches: Vec<Watch>,
    pub(super) truth: Truth,
    pub(super) askers: Vec<Asker>,
    pub(super) listeners: Vec<Listener>,
    /// See `throng`.
    pub(super) thronging: Vec<usize>,
    /// Whom the drain under way has ended.
    pub(super) ended: Vec<Listener>,
    /// When each worker wants its next turn, in milliseconds.
    pub(super) due: Vec<Option<u64>>,
    pub(super) latest_second: u64,
    pub(super) tally: Tally,
}

impl World {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let has_tokens = rng.u8(0..3) == 0;
        let has_lying_disk = rng.u8(0..8) == 0;
        let is_thronged = rng.u8(0..24) == 0;
        let traits = Traits {
            workers: if is_thronged { 1 } else { rng.usize(1..4) },
            is_roomy: rng.bool(),
            padding: if is_thronged { 2 } else { [2, 40, 400, 20_000][rng.usize(0..4)] },
            // One that lies may find that it is damaged.
            has_disk_faults: has_lying_disk || rng.bool(),
            has_lying_disk,
            has_tokens,
            is_crowded: !is_thronged && rng.u8(0..8) == 0,
            is_thronged,
            publisher: if has_tokens { tokens::field(tokens::PUBLISHER, u64::MAX >> 12) } else { String::new() },
            subscriber: if has_tokens { tokens::field(tokens::SUBSCRIBER, u64::MAX >> 12) } else { String::new() },
            is_ending: false,
        };
        tell(0, &format!("{traits:?}"));
        let bounds = Bounds::new(&mut rng, &traits);
        let config = bounds.configure(&mut rng, &traits);
        let dial = Arc::new(ManualClock::default());
        dial.unix_micros.store(BEGIN_MICROS, Ordering::Relaxed);
        let mut world = Self {
            storage: Storage::new(rng.u64(..), &dial, traits.has_lying_disk),
            backup: None,
            rng,
            traits,
            net: Shared::default(),
            dial,
            bounds,
            config,
            broker: None,
            watches: Vec::new(),
            truth: Truth::default(),
            askers: Vec::new(),
            listeners: Vec::new(),
            thronging: Vec::new(),
            ended: Vec::new(),
            due: Vec::new(),
            latest_second: 0,
            tally: Tally::default(),
        };
        world.start();
        world
    }

    pub fn run(mut self) -> Tally {
        for _ in 0..STEPS {
            self.truth.step += 1;
            self.throng();
            self.step();
            self.look();
        }
        self.settle();
        self.shut();
        self.start();
        self.audit_all();
        self.leave();
        self.tally.transcript = self.net.get().transcript;
        self.tally
    }

    fn step(&mut self) {
        if self.has_store_failed() && self.rng.u8(0..5) == 0 {
            return self.supervise();
        }
        match self.rng.u8(0..100) {
            0..28 => self.turn_some(),
            28..36 => self.turn_store(),
            36..50 => self.deliver(),
            50..57 => self.read_some(),
            57..73 => self.ask(),
            73..78 => self.come(),
            78..85 => self.listen(),
            85..93 => self.pass_time(),
            93..95 => self.break_some(),
            95 => self.jump(),
            96 => self.trouble(),
            97 => self.settle(),
            98 if self.rng.bool() => self.restart(),
            _ => drop(self.turn_all()),
        }
    }
}

/// One of the names that are in use.
pub fn name_in_use(rng: &mut Rng, step: usize) -> usize {
    let oldest = step * NAMES.len() / STEPS;
    (oldest + rng.usize(0..NAMES_IN_USE)).min(NAMES.len() - 1)
}

/// The story of a seed that runs alone.
pub fn tell(step: usize, what: &str) {
    if std::env::var_os(super::ONE_SEED).is_some() {
        println!("{step}: {what}");
    }
}
