//! One simulated log, the brokers that share it, their clients, and everything that happens to them.

use std::time::Duration;

use esker::Config;
use esker::internals::engine::settings::Retention;
use esker::internals::engine::sim::SimLog;
use esker::internals::records::VersionRetention;
use fastrand::Rng;

use super::super::log_check;
use super::super::net::Transcript;
use super::super::world::{TOPICS, trace};
use super::oracle::Oracle;
use super::publisher::{Attempt, Message, Outcome, Request};
use super::records::Records;
use super::site::{Site, WORKERS};
use super::subscriber::Subscriber;

pub const SITES: usize = 3;
const STEPS: usize = 500;
/// The maximum number of subscribers at a time.
const SUBSCRIBERS: usize = 12;
/// How much longer than events the log knows a publisher's id.
const OWN_ID_MARGIN: Duration = Duration::from_secs(60);
/// The simulated time begins in 2026.
const BEGIN_MICROS: u64 = 1_770_000_000_000_000;

/// What one seed's world is like.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub retention: Retention,
    /// Every event is retained by brokers, forever.
    pub is_roomy: bool,
    /// Servers lose what they have.
    pub has_losses: bool,
    /// Clocks are set.
    pub has_clock_steps: bool,
    /// Requests fail.
    pub has_faults: bool,
    /// Brokers are killed, drained and started.
    pub has_restarts: bool,
}

/// What happened, so that a simulation that tests nothing is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub events: usize,
    pub gaps: usize,
    pub accepted: usize,
    pub repeated: usize,
    pub refused: usize,
    pub unknown: usize,
    pub lost: usize,
    pub trimmed: usize,
    pub records: usize,
    pub inserted: usize,
    pub audited: usize,
    /// A hash of all bytes and calls.
    pub transcript: Transcript,
}

impl Totals {
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            gaps: self.gaps + other.gaps,
            accepted: self.accepted + other.accepted,
            repeated: self.repeated + other.repeated,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
            lost: self.lost + other.lost,
            trimmed: self.trimmed + other.trimmed,
            records: self.records + other.records,
            inserted: self.inserted + other.inserted,
            audited: self.audited + other.audited,
            transcript: other.transcript,
        }
    }

    pub fn counts(&self) -> [usize; 11] {
        let Self { events, gaps, accepted, repeated, refused, unknown, lost, trimmed, .. } = *self;
        let Self { records, inserted, audited, .. } = *self;
        [events, gaps, accepted, repeated, refused, unknown, lost, trimmed, records, inserted, audited]
    }
}

pub struct World {
    pub rng: Rng,
    pub scenario: Scenario,
    config: Config,
    pub log: SimLog,
    pub sites: [Site; SITES],
    pub oracle: Oracle,
    pub requests: Vec<Request>,
    pub subscribers: Vec<Subscriber>,
    pub records: Records,
    pub serials: u64,
    pub step: usize,
    pub totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let (short, long) = (Duration::from_secs(20), Duration::from_secs(86_400));
        let is_roomy = rng.u8(0..4) != 0;
        let is_trimming = !is_roomy || rng.u8(0..4) == 0;
        let retention = Retention {
            age: if is_trimming && rng.bool() { short } else { long },
            bytes: if is_trimming && rng.bool() { rng.u64(200..3_000) } else { 1 << 30 },
            record_bytes: if rng.u8(0..6) == 0 { rng.u64(300..8_000) } else { 1 << 30 },
            versions: VersionRetention::ALL,
        };
        let scenario = Scenario {
            retention,
            is_roomy,
            has_losses: rng.u8(0..3) == 0,
            has_clock_steps: rng.u8(0..5) == 0,
            has_faults: rng.u8(0..8) != 0,
            has_restarts: rng.bool(),
        };
        trace(0, &format!("{scenario:?}"));
        let config = configure(&mut rng, &scenario);
        let site = |_| Site::new(BEGIN_MICROS + rng.u64(0..200_000) - 100_000);
        let sites = [(); SITES].map(site);
        let own_id_micros = (retention.age + OWN_ID_MARGIN).as_micros() as u64;
        let mut world = Self {
            log: SimLog::new(rng.u64(..), BEGIN_MICROS, retention),
            rng,
            oracle: Oracle { is_roomy, own_id_micros, ..Oracle::default() },
            scenario,
            config,
            sites,
            requests: Vec::new(),
            subscribers: Vec::new(),
            records: Records::new(retention.record_bytes),
            serials: 0,
            step: 0,
            totals: Totals::default(),
        };
        (0..SITES).for_each(|site| world.start(site));
        world
    }

    pub fn run(mut self) -> Totals {
        for _ in 0..STEPS {
            self.step += 1;
            self.draw_faults();
            self.act();
            self.observe();
        }
        self.settle();
        self.shut_down();
        self.count();
        self.totals
    }

    fn act(&mut self) {
        let site = self.rng.usize(0..SITES);
        match self.rng.u8(0..100) {
            0..20 => {
                let worker = self.rng.usize(0..WORKERS);
                self.sites[site].iterate_if_awake(worker);
            }
            20..30 => self.sites[site].step_appender(),
            30..44 => self.sites[site].step_tail(),
            44..46 => self.sites[site].expire(),
            46..48 => self.sites[site].step_reader(),
            48..56 => self.deliver(site),
            56..60 => self.read_some(site),
            60..67 => self.publish(),
            67..71 => self.repeat(),
            71..76 => self.connect_subscriber(),
            76..83 => self.use_records(),
            83..90 => self.pass_time(),
            90..94 => self.hurt(site),
            94 => self.disconnect_one(),
            95 if self.scenario.has_restarts => self.restart(site),
            96 if self.rng.u8(0..4) == 0 => self.settle(),
            97 => drop(self.log.deliver_late()),
            _ => drop(self.run_all()),
        }
    }

    /// Runs everything that runs by itself. Returns whether a worker had anything to do.
    pub fn run_all(&mut self) -> bool {
        let mut has_run = false;
        for site in &mut self.sites {
            has_run |= site.iterate_all();
            site.run_engine();
        }
        has_run
    }

    pub fn start(&mut self, site: usize) {
        self.serials += 1;
        let (serial, config) = (self.serials, self.config.clone());
        self.sites[site].start(serial, &self.log, &config);
        trace(self.step, &format!("broker {serial} starts at {site}: {}", self.sites[site].is_running()));
    }

    pub fn advance(&mut self, micros: u64) {
        self.sites.iter().for_each(|site| site.clock.advance(micros));
        self.log.advance(micros);
    }

    fn pass_time(&mut self) {
        let most = [1_000, 50_000, 500_000, 3_000_000][self.rng.usize(0..4)];
        let micros = self.rng.u64(1..most);
        self.advance(micros);
    }

    fn pipes(&self, site: usize) -> Vec<usize> {
        let links = self.subscribers.iter().filter_map(|subscriber| subscriber.link.as_ref());
        let streams = links.filter(|link| link.site == site).map(|link| link.pipe);
        let requests = self.requests.iter().filter(|request| request.site == site).map(|request| request.pipe);
        requests.chain(streams).chain(self.records.pipes(site)).collect()
    }

    fn deliver(&mut self, site: usize) {
        for pipe in self.pipes(site) {
            let bytes = match self.rng.u8(0..4) {
                0 => self.rng.usize(0..60),
                1 => 0,
                _ => usize::MAX,
            };
            self.sites[site].net.get().deliver(pipe, bytes);
        }
    }

    fn read_some(&mut self, site: usize) {
        for pipe in self.pipes(site) {
            let bytes = self.rng.usize(0..2_000);
            self.sites[site].net.get().give_room(pipe, Some(bytes));
        }
    }

    /// Every client sends and reads everything.
    pub fn flush_network(&mut self) {
        for site in 0..SITES {
            for pipe in self.pipes(site) {
                let mut net = self.sites[site].net.get();
                net.deliver(pipe, usize::MAX);
                net.give_room(pipe, Some(1 << 20));
            }
        }
    }

    /// Returns where a load balancer sends a client.
    pub fn some_open_site(&mut self) -> Option<usize> {
        let open: Vec<_> = (0..SITES).filter(|&site| self.sites[site].is_open()).collect();
        (!open.is_empty()).then(|| open[self.rng.usize(0..open.len())])
    }

    fn publish(&mut self) {
        let (number, rng) = (self.oracle.messages.len(), &mut self.rng);
        let (topic, kind) = (rng.usize(0..TOPICS.len()).min(rng.usize(0..TOPICS.len())), rng.u8(0..4));
        let own_ids = (0..rng.usize(1..4)).map(|index| match kind {
            0 => None,
            1 | 2 => Some(format!("own{number}.{index}")),
            _ => Some(format!("again{topic}.{}", rng.u8(0..4))),
        });
        let message = Message { topic, own_ids: own_ids.collect(), attempts: Vec::new() };
        self.oracle.messages.push(message);
        self.send(number);
    }

    /// A client repeats a request.
    fn repeat(&mut self) {
        let messages = self.oracle.messages.iter().enumerate();
        let numbers: Vec<_> =
            messages.filter(|(_, message)| message.may_be_repeated()).map(|(number, _)| number).collect();
        let is_open = |number: &&usize| {
            let outcomes = self.oracle.messages[**number].attempts.iter().map(|attempt| attempt.outcome);
            !outcomes.into_iter().any(|outcome| matches!(outcome, Outcome::Accepted { .. }))
        };
        let open: Vec<_> = numbers.iter().filter(is_open).copied().collect();
        let numbers = if open.is_empty() || self.rng.u8(0..4) == 0 { numbers } else { open };
        if !numbers.is_empty() {
            let number = numbers[self.rng.usize(0..numbers.len())];
            self.send(number);
        }
    }

    fn send(&mut self, number: usize) {
        let Some(site) = self.some_open_site() else { return };
        let message = &mut self.oracle.messages[number];
        let attempt = message.attempts.len();
        message.attempts.push(Attempt { broker: self.sites[site].serial, outcome: Outcome::Sent });
        let request = message.request(number, TOPICS[message.topic]);
        let mut net = self.sites[site].net.get();
        let pipe = net.connect(None);
        net.send(pipe, request.as_bytes());
        drop(net);
        trace(self.step, &format!("message {number} to {site}: {:?}", self.oracle.messages[number].own_ids));
        self.requests.push(Request::new(number, attempt, site, pipe));
    }

    fn connect_subscriber(&mut self) {
        let away: Vec<_> = (0..self.subscribers.len()).filter(|&at| self.subscribers[at].link.is_none()).collect();
        let is_new = away.is_empty() || (self.subscribers.len() < SUBSCRIBERS && self.rng.u8(0..3) == 0);
        let index = if is_new { self.subscribers.len() } else { away[self.rng.usize(0..away.len())] };
        if is_new {
            if self.subscribers.len() >= SUBSCRIBERS {
                return;
            }
            let mut topics: Vec<_> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
            topics.sort_unstable();
            topics.dedup();
            // A poller without `prime` that stops at an ambiguous id of a publisher would get a gap with every poll.
            let polls = self.rng.u8(0..4) == 0;
            self.subscribers.push(Subscriber::new(topics, polls || self.rng.bool(), polls, self.rng.bool()));
        }
        self.connect(index);
    }

    /// Connects a subscriber to some broker.
    pub fn connect(&mut self, index: usize) {
        let Some(site) = self.some_open_site() else { return };
        let subscriber = &mut self.subscribers[index];
        let mut net = self.sites[site].net.get();
        let pipe = net.connect(if subscriber.is_fast { None } else { Some(self.rng.usize(0..600)) });
        let request = subscriber.connect(site, self.sites[site].serial, pipe, &TOPICS);
        trace(self.step, &format!("subscriber {index} at {site}: {}", request.trim().replace("\r\n", ", ")));
        net.send(pipe, request.as_bytes());
    }

    fn disconnect_one(&mut self) {
        if self.subscribers.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.subscribers.len());
        let subscriber = &mut self.subscribers[index];
        let Some(site) = subscriber.link.as_ref().map(|link| link.site) else { return };
        let mut net = self.sites[site].net.get();
        subscriber.observe(&mut net, self.log.newest());
        subscriber.disconnect(&mut net);
    }

    /// Takes what every client has received.
    pub fn observe(&mut self) {
        let newest = self.log.newest();
        let mut open = Vec::new();
        for mut request in std::mem::take(&mut self.requests) {
            let mut net = self.sites[request.site].net.get();
            let Some(outcome) = request.outcome(&mut net) else {
                open.push(request);
                continue;
            };
            net.reset(request.pipe);
            drop(net);
            trace(self.step, &format!("message {} at {}: {outcome:?}", request.message, request.site));
            self.oracle.messages[request.message].attempts[request.attempt].outcome = outcome;
        }
        self.requests = open;
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            let Some(site) = subscriber.link.as_ref().map(|link| link.site) else { continue };
            let before = subscriber.received.len();
            let (events, gaps) = subscriber.observe(&mut self.sites[site].net.get(), newest);
            for received in &subscriber.received[before..] {
                trace(self.step, &format!("subscriber {index}: {received:?}"));
            }
            self.totals.events += events;
            self.totals.gaps += gaps;
        }
        self.observe_records();
        log_check::assert_clean();
    }

    fn count(&mut self) {
        let attempts = self.oracle.messages.iter().flat_map(|message| &message.attempts);
        let outcomes: Vec<_> = attempts.map(|attempt| attempt.outcome).collect();
        let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
        self.totals.accepted = count(|outcome| matches!(outcome, Outcome::Accepted { .. }));
        self.totals.repeated = count(|outcome| matches!(outcome, Outcome::Accepted { events: 0, .. }));
        self.totals.refused = count(|outcome| *outcome == Outcome::Refused);
        self.totals.unknown = count(|outcome| *outcome == Outcome::Unknown);
        self.totals.inserted = self.records.accepted();
        (self.totals.lost, self.totals.trimmed) = (self.log.lost().len(), self.log.trimmed());
        for site in &self.sites {
            let sum = site.net.get().transcript;
            self.totals.transcript.note(0, format!("{sum:?}").as_bytes());
        }
    }
}

fn configure(rng: &mut Rng, scenario: &Scenario) -> Config {
    let events = if scenario.is_roomy { 1_000_000 } else { rng.usize(1..12) };
    let bytes = if scenario.is_roomy || rng.bool() { 1 << 40 } else { rng.usize(500..20_000) };
    let age = if scenario.is_roomy { Duration::MAX } else { scenario.retention.age };
    let config = Config::new().engine("redis://127.0.0.1").threads(WORKERS).port(0).no_auth(true);
    let config = config.heartbeat(Duration::from_secs(15)).stall(Duration::from_secs(600));
    let drain = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(0..3_000) });
    config.history(events).history_age(age).history_bytes(bytes).drain(drain)
}
