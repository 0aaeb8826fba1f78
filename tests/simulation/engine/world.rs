//! One simulated log, the nodes that share it, and everything that happens to them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::internals::engine::RECORDS_FORMAT;
use esker::internals::engine::log::{Attach, Connect as _, Log as _};
use esker::internals::engine::settings::Retention;
use esker::internals::engine::sim::SimLog;
use esker::internals::records::VersionRetention;
use esker::internals::records::insert::InsertOutcome;
use esker::internals::sim::ManualClock;
use fastrand::Rng;

use super::super::world::trace;
use super::follower::Told;
use super::node::{Answers, Node};
use super::oracle::{Barrier, Oracle, Publish, State, Truth, events};
use super::records::{RecordTruth, Records};

pub const NODES: usize = 3;
const STEPS: usize = 800;
const TOPICS: [&str; 3] = ["topicone1", "topictwo2", "topicthree3"];
/// The simulated time begins in 2026.
const BEGIN_MICROS: u64 = 1_770_000_000_000_000;
/// How much longer than events the log knows a publisher's id.
const OWN_ID_MARGIN: Duration = Duration::from_secs(60);
/// More than the time in which everything that waits is answered, in steps of this many microseconds.
const SETTLING: usize = 200;
const SETTLING_MICROS: u64 = 100_000;
/// For how many of these steps all must be well. Nodes look for what they have appended once per second.
const CALM: usize = 13;

/// What one seed's world is like.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Servers lose what they have.
    pub has_losses: bool,
    /// Clocks are set.
    pub has_clock_steps: bool,
    /// Requests fail.
    pub has_faults: bool,
    /// Nodes are killed and started.
    pub has_restarts: bool,
    /// The log was created by a version of Esker that did not have records.
    pub has_old_format: bool,
}

/// What happened, so that a simulation that tests nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub events: usize,
    pub repetitions: usize,
    pub refused: usize,
    pub unknown: usize,
    pub lost: usize,
    pub trimmed: usize,
    pub found: usize,
    pub fenced: usize,
    pub records: usize,
    pub inserts_refused: usize,
    pub inserts_repeated: usize,
    pub conflicts: usize,
    pub keys_reused: usize,
    pub resets: usize,
    pub erased: usize,
    pub removed: usize,
}

impl Totals {
    pub fn plus(self, other: Self) -> Self {
        let mut sum = self;
        sum.counts().into_iter().zip(other.all()).for_each(|(count, more)| *count += more);
        sum
    }

    pub fn all(mut self) -> [usize; 16] {
        self.counts().map(|count| *count)
    }

    fn counts(&mut self) -> [&mut usize; 16] {
        [
            &mut self.events,
            &mut self.repetitions,
            &mut self.refused,
            &mut self.unknown,
            &mut self.lost,
            &mut self.trimmed,
            &mut self.found,
            &mut self.fenced,
            &mut self.records,
            &mut self.inserts_refused,
            &mut self.inserts_repeated,
            &mut self.conflicts,
            &mut self.keys_reused,
            &mut self.resets,
            &mut self.erased,
            &mut self.removed,
        ]
    }
}

pub struct World {
    pub rng: Rng,
    pub scenario: Scenario,
    pub log: SimLog,
    /// One for each place of a node.
    pub clocks: [Arc<ManualClock>; NODES],
    pub nodes: [Option<Node>; NODES],
    answers: Answers,
    pub oracle: Oracle,
    pub serials: u64,
    pub step: usize,
    /// The log's format allows records.
    pub is_raised: bool,
    pub totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let (short, long) = (Duration::from_secs(20), Duration::from_secs(86_400));
        let retention = Retention {
            age: if rng.u8(0..4) == 0 { short } else { long },
            bytes: if rng.u8(0..4) == 0 { rng.u64(100..2_000) } else { 1 << 30 },
            record_bytes: if rng.u8(0..4) == 0 { rng.u64(200..8_000) } else { 1 << 30 },
            versions: VersionRetention {
                versions: NonZeroU64::new(if rng.u8(0..3) == 0 { rng.u64(1..4) } else { 0 }),
                age: (rng.u8(0..6) == 0).then_some(short),
            },
        };
        let scenario = Scenario {
            has_losses: rng.u8(0..3) == 0,
            has_clock_steps: rng.u8(0..4) == 0,
            has_faults: rng.u8(0..8) != 0,
            has_restarts: rng.bool(),
            has_old_format: rng.u8(0..8) == 0,
        };
        trace(0, &format!("{scenario:?}, {retention:?}"));
        let clock = |_| {
            let clock = ManualClock::default();
            clock.unix_micros.store(BEGIN_MICROS + rng.u64(0..200_000) - 100_000, Ordering::Relaxed);
            Arc::new(clock)
        };
        let clocks = [(); NODES].map(clock);
        let own_id_micros = (retention.age + OWN_ID_MARGIN).as_micros() as u64;
        Self {
            log: SimLog::new(rng.u64(..), BEGIN_MICROS, retention),
            rng,
            scenario,
            clocks,
            nodes: [None, None, None],
            answers: Answers::default(),
            oracle: Oracle {
                own_id_micros,
                records: Records { most_bytes: retention.record_bytes, ..Records::default() },
                ..Oracle::default()
            },
            serials: 0,
            step: 0,
            is_raised: false,
            totals: Totals::default(),
        }
    }

    pub fn run(mut self) -> Totals {
        self.create_log();
        (0..NODES).for_each(|place| self.start(place));
        for _ in 0..STEPS {
            self.step += 1;
            self.draw_faults();
            self.act();
            self.take_answers();
        }
        self.settle();
        (0..NODES).for_each(|place| self.drain(place));
        self.assert_answers();
        self.count();
        self.totals
    }

    fn act(&mut self) {
        let place = self.rng.usize(0..NODES);
        match self.rng.u8(0..100) {
            0..14 => self.publish(place),
            14..20 => self.insert(place),
            20 => self.barrier(place),
            21 => self.erase(place),
            22 => self.look_up(place),
            23 => self.with(place, Node::step_reader),
            24..44 => self.with(place, Node::step_appender),
            44..72 => self.step_tail(place),
            72..80 => self.with(place, |node| node.expire()),
            80..92 => self.pass_time(),
            92..96 => self.hurt(place),
            96 if self.scenario.has_restarts => self.restart(place),
            97 if self.rng.u8(0..4) == 0 => self.settle(),
            98 => drop(self.log.deliver_late()),
            99 if self.rng.u8(0..4) == 0 => self.raise_format(),
            _ => self.run_all(),
        }
    }

    pub fn with(&mut self, place: usize, act: impl FnOnce(&mut Node)) {
        if let Some(node) = &mut self.nodes[place] {
            act(node);
        }
    }

    fn step_tail(&mut self, place: usize) {
        let room = if self.rng.u8(0..4) == 0 { self.rng.usize(0..3) } else { usize::MAX };
        self.with(place, |node| node.step_tail(room));
    }

    /// The log exists already if another version has created it.
    fn create_log(&mut self) {
        if self.scenario.has_old_format {
            let mut other = self.log.connector(0).connect().expect("a connection");
            other.attach(&Attach::default()).expect("a log");
            self.log.set_format(RECORDS_FORMAT - 1);
        }
    }

    /// Runs everything that runs by itself in a real broker.
    fn run_all(&mut self) {
        for place in 0..NODES {
            self.with(place, Node::step_appender);
            self.with(place, Node::step_reader);
            self.with(place, Node::run_tail);
            self.with(place, |node| node.expire());
        }
    }

    pub fn millis(&self) -> u64 {
        self.clocks[0].elapsed_micros.load(Ordering::Relaxed) / 1000
    }

    pub fn advance(&mut self, micros: u64) {
        self.clocks.iter().for_each(|clock| clock.advance(micros));
        self.log.advance(micros);
    }

    fn pass_time(&mut self) {
        let most = [1_000, 50_000, 500_000, 5_000_000][self.rng.usize(0..4)];
        let micros = self.rng.u64(1..most);
        self.advance(micros);
    }

    fn publish(&mut self, place: usize) {
        if self.nodes[place].is_none() {
            return;
        }
        let number = self.oracle.publishes.len();
        let repeats = (self.rng.u8(0..4) == 0).then(|| self.pick_repeat()).flatten();
        let (topic, own_ids) = repeats.unwrap_or_else(|| self.new_events(number));
        let Some(node) = &self.nodes[place] else { return };
        trace(self.step, &format!("{} publishes {number} to {topic}: {own_ids:?}", node.serial));
        let (node_serial, sent) = (node.serial, self.millis());
        let state = State::Sent;
        self.oracle.publishes.push(Publish { topic, own_ids: own_ids.clone(), node: node_serial, sent, state });
        node.publish(number, topic, &own_ids);
    }

    /// Returns a topic and the publisher's ids of some events.
    fn new_events(&mut self, number: usize) -> (&'static str, Vec<Option<String>>) {
        let rng = &mut self.rng;
        let (topic, kind) = (TOPICS[rng.usize(0..TOPICS.len())], rng.u8(0..4));
        let own_ids = (0..rng.usize(1..4)).map(|index| match kind {
            0 | 1 => None,
            2 => Some(format!("own{number}.{index}")),
            _ => Some(format!("again{}", rng.u8(0..4))),
        });
        (topic, own_ids.collect())
    }

    /// Returns the topic and the ids of a publish that a client repeats, usually because it was not accepted.
    fn pick_repeat(&mut self) -> Option<(&'static str, Vec<Option<String>>)> {
        let publishes = &self.oracle.publishes;
        let of = |state: &[State]| {
            let has_ids = |publish: &&Publish| publish.own_ids.iter().all(Option::is_some);
            let is_like = |publish: &&Publish| state.is_empty() || state.contains(&publish.state);
            publishes.iter().filter(has_ids).filter(is_like).collect::<Vec<_>>()
        };
        let failed = of(&[State::Unknown, State::Refused, State::Sent]);
        let picked = if failed.is_empty() || self.rng.bool() { of(&[]) } else { failed };
        let picked = (!picked.is_empty()).then(|| picked[self.rng.usize(0..picked.len())])?;
        Some((picked.topic, picked.own_ids.clone()))
    }

    fn barrier(&mut self, place: usize) {
        let Some(node) = &self.nodes[place] else { return };
        let goal = self.log.entries().iter().flat_map(|entry| events(entry)).map(|seen| seen.id).max();
        let (goal, lost) = (goal.unwrap_or(0), self.log.lost().len());
        let (number, is_split) = (self.oracle.barriers.len(), self.oracle.is_split);
        self.oracle.barriers.push(Barrier { node: node.serial, goal, lost, is_split, is_answered: false });
        node.barrier(number);
    }

    /// Prints what the followers were told, and takes what publishers were answered.
    fn take_answers(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            node.untold().for_each(|told| trace(self.step, &format!("{} is told {told:?}", node.serial)));
        }
        for answer in self.answers.take() {
            trace(self.step, &format!("{answer:?}"));
            self.oracle.take(answer, &self.log);
        }
    }

    pub fn start(&mut self, place: usize) {
        self.serials += 1;
        trace(self.step, &format!("{} starts", self.serials));
        self.nodes[place] = Some(Node::start(self.serials, &self.log, &self.clocks[place], &self.answers));
    }

    pub fn kill(&mut self, place: usize) {
        let Some(node) = self.nodes[place].take() else { return };
        trace(self.step, &format!("{} is killed", node.serial));
        let truth = Truth::new(&self.log);
        self.count_node(&node);
        let told = node.follower.lock().told.clone();
        self.oracle.assert_told(node.serial, &told, &truth, false);
        self.oracle.records.assert_told(node.serial, &told, &RecordTruth::new(&self.log), false);
        let serial = node.serial;
        drop(node);
        self.take_answers();
        self.oracle.forget(serial);
    }

    /// Closes a node, and waits until it has done everything.
    pub fn drain(&mut self, place: usize) {
        self.with(place, Node::close);
        for _ in 0..SETTLING {
            self.run_all();
            self.take_answers();
            if self.nodes[place].as_ref().is_none_or(Node::is_over) {
                return self.kill(place);
            }
            self.advance(SETTLING_MICROS);
        }
        panic!("it does not end");
    }

    /// Removes all faults and runs until everything must have been answered and every node knows everything.
    pub fn settle(&mut self) {
        trace(self.step, "settle");
        self.heal();
        let mut calm = 0;
        for _ in 0..SETTLING {
            self.run_all();
            self.take_answers();
            calm = if self.is_calm() { calm + 1 } else { 0 };
            if calm == CALM {
                break;
            }
            self.advance(SETTLING_MICROS);
        }
        self.describe_log();
        let (truth, record_truth) = (Truth::new(&self.log), RecordTruth::new(&self.log));
        for node in self.nodes.iter().flatten() {
            let (status, last) = (node.engine.status(), self.log.last());
            assert!(
                node.is_ready() && status.applied == last,
                "{} has not caught up with {last}: {status:?}",
                node.serial
            );
            self.oracle.assert_told(node.serial, &node.follower.lock().told, &truth, true);
            let told = &node.follower.lock().told;
            self.oracle.assert_losses_told(node.serial, told, &truth);
            self.oracle.records.assert_told(node.serial, told, &record_truth, true);
            self.oracle.records.assert_losses_told(node.serial, told, &record_truth, truth.oldest);
            self.oracle.records.assert_erasures_told(node.serial, told, self.log.erased());
            let resets = told.iter().filter(|told| matches!(told, Told::Reset(_))).count();
            // A tail that is behind may not know the name that was erased, or whether a record that it knows was removed or lost.
            let is_doubt = |told: &&Told| matches!(told, Told::Doubt(_) | Told::LoseThrough(_));
            let doubts = told.iter().filter(is_doubt).count();
            assert!(
                resets <= 1 + doubts || self.scenario.has_faults,
                "{} has reset its records: {told:?}",
                node.serial
            );
        }
        self.assert_answers();
    }

    fn assert_answers(&self) {
        self.oracle.assert_answers(&Truth::new(&self.log));
        self.oracle.records.assert_answers(&RecordTruth::new(&self.log), self.scenario.has_losses);
    }

    /// Prints what the log has and what it has lost.
    fn describe_log(&self) {
        for (what, entries) in [("has", self.log.entries()), ("has lost", self.log.lost())] {
            let ids: Vec<_> = entries.iter().map(|entry| (entry.id, &entry.token)).collect();
            trace(self.step, &format!("the log {what} {ids:?}"));
        }
    }

    fn is_calm(&self) -> bool {
        let last = self.log.last();
        let is_calm = |node: &Node| node.is_ready() && node.engine.status().applied == last;
        self.oracle.is_answered() && self.nodes.iter().flatten().all(is_calm)
    }

    fn count_node(&mut self, node: &Node) {
        let status = node.engine.status();
        self.totals.events += status.events_followed as usize;
        self.totals.found += status.unknown_kept as usize;
        self.totals.fenced += status.fenced as usize;
        let told = &node.follower.lock().told;
        self.totals.records += told.iter().filter(|told| matches!(told, Told::Record(_))).count();
        self.totals.erased += told.iter().filter(|told| matches!(told, Told::Erased(..))).count();
        self.totals.resets += told.iter().filter(|told| matches!(told, Told::Reset(_))).count().saturating_sub(1);
    }

    fn count(&mut self) {
        let count = |is: fn(&Publish) -> bool| self.oracle.publishes.iter().filter(|publish| is(publish)).count();
        self.totals.repetitions = count(|publish| matches!(publish.state, State::Accepted(_, 0)));
        self.totals.refused = count(|publish| publish.state == State::Refused);
        self.totals.unknown = count(|publish| publish.state == State::Unknown);
        self.totals.removed = self.log.removed().len();
        let records = &self.oracle.records;
        self.totals.inserts_refused = records.refused();
        self.totals.inserts_repeated = records.count(|outcome| matches!(outcome, InsertOutcome::Repeated(_)));
        self.totals.conflicts = records.count(|outcome| matches!(outcome, InsertOutcome::Conflict(_)));
        self.totals.keys_reused = records.count(|outcome| outcome == InsertOutcome::KeyReused);
        (self.totals.lost, self.totals.trimmed) = (self.log.lost().len(), self.log.trimmed());
    }
}
