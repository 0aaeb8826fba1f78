//! Appends what waits in the queue, all publishes or all inserts as one entry, and finds out what became of an append that got
//! no answer.
//!
//! ```text
//!             ┌──────────── take the next batch ◄─────────────┐
//!             ▼                                               │
//!  append ─► answer ─────────────────────────────► wait for the tail, acknowledge
//!             │ none                                          ▲
//!             ▼                                               │ yes
//!  connect, hello ─► was it the last batch that the log has? ─┤
//!    │ no engine for 30 s                                     │ no
//!    ▼                                                        ▼
//!  outcome unknown                                       append again
//! ```
//! Revocations of tokens and removals of records take a shorter way: one may be carried out twice, so a caller that gets no answer can
//! safely repeat it.
//!
//! [`Log::hello`] ends the session of the broken connection, so whatever it has sent and has not arrived yet is refused.

mod removals;
mod revocations;

use std::time::Duration;

use super::backoff::Backoff;
use super::batch::{Batch, Outcome, Written};
use super::handle::{Engine, EngineError};
use super::log::{Connect, Greeting, Hello, KeyLimits, LastBatch, Log, LogError, Mark, Pulse, Refusal};
use super::queue::{Barrier, Requests};
use super::state::Side;
use crate::util::outage::Outages;
use removals::Erasing;

/// The time between two pulses, in milliseconds.
const PULSE_MILLIS: u64 = 1_000;

/// Appends publishes and inserts to the log.
pub struct Appender<C: Connect> {
    engine: Engine,
    connect: C,
    broker: u64,
    link: Option<Link<C::Log>>,
    backoff: Backoff,
    /// The number of batches so far.
    batches: u64,
    /// Whether this broker has ever appended an entry, so that the log should know its last batch.
    has_appended: bool,
    /// The batch that is being appended.
    batch: Option<Batch>,
    pulse_at: u64,
    /// When to announce this broker again, and to ask which tokens they have revoked.
    register_at: u64,
    /// The time of the newest revocation that was read over this connection. A new one reads all of them again: its server may
    /// have lost some, and have others with times before those.
    revoked_through: u64,
    /// The erasure that is being carried out.
    erasing: Option<Erasing>,
    /// When to remove versions again that are not retained, in milliseconds.
    sweep_at: u64,
    /// When the engine refused that.
    sweep_refusals: Outages,
    /// Whether the engine has forgotten idempotency keys early.
    has_forgotten: bool,
    is_over: bool,
}

/// A connection and its session.
struct Link<L> {
    log: L,
    hello: Hello,
}

impl<C: Connect> Appender<C> {
    /// Creates an appender. `broker` is a random number that identifies this process.
    pub fn new(engine: Engine, connect: C, broker: u64) -> Self {
        Self {
            engine,
            connect,
            broker,
            link: None,
            backoff: Backoff::default(),
            batches: 0,
            has_appended: false,
            batch: None,
            pulse_at: 0,
            register_at: 0,
            revoked_through: 0,
            erasing: None,
            sweep_at: 0,
            sweep_refusals: Outages::default(),
            has_forgotten: false,
            is_over: false,
        }
    }

    /// Returns whether the queue is closed and everything in it is done.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Connects if necessary, or appends one batch. Waits for work for up to `wait`. Returns the milliseconds after which to
    /// call it again.
    pub fn step(&mut self, wait: Duration) -> u64 {
        if self.link.is_none() && !self.connect() {
            return self.wait_for_engine();
        }
        match self.batch.take() {
            Some(batch) => self.append(batch),
            None => self.take_work(wait),
        }
        0
    }

    /// Begins a session. Returns whether there is one.
    fn connect(&mut self) -> bool {
        if self.backoff.left(self.millis()) > 0 {
            return false;
        }
        let hello = Hello { broker: self.broker, session: fastrand::u64(..) };
        let begun = self.connect.connect().and_then(|mut log| log.hello(hello).map(|greeting| (log, greeting)));
        match begun {
            Ok((log, greeting)) => {
                self.engine.shared.appender.connects.add(1);
                self.engine.shared.note_about(log.about());
                self.engine.shared.link_up(Side::Appender, self.millis());
                self.link = Some(Link { log, hello });
                (self.register_at, self.revoked_through) = (0, 0);
                self.greet(greeting);
                self.link.is_some()
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Finds out what became of the batch that the session before has left.
    fn greet(&mut self, greeting: Greeting) {
        self.note_pulse(greeting.pulse);
        let Some(batch) = self.batch.take() else { return };
        match greeting.last_batch {
            Some((number, done)) if number == batch.number() => self.prove(batch, &done),
            last_batch => {
                let batch = self.not_found(batch, last_batch.is_some());
                match batch.outcome() {
                    Outcome::Unknown => batch.refuse("the engine has forgotten what this broker has appended".into()),
                    _ if batch.is_late(self.millis()) => self.give_up(batch),
                    _ => self.batch = Some(batch),
                }
            }
        }
    }

    /// Acknowledges a batch without an answer that the log has, once it is durable.
    fn prove(&mut self, batch: Batch, done: &LastBatch) {
        let proven = self.link.as_mut().map_or(Ok(()), |link| link.log.prove());
        match proven {
            Ok(()) => {
                self.engine.shared.appender.unknown_kept.add(1);
                self.finish(batch, done);
            }
            Err(error) => self.not_appended(batch, &error),
        }
    }

    /// Notes that the log does not have a batch. If it knows no batch of this broker at all, although there were some, then it
    /// has forgotten them, and whether it had this one.
    fn not_found(&self, batch: Batch, knows_another: bool) -> Batch {
        if batch.outcome() != Outcome::Unknown || (self.has_appended && !knows_another) {
            return batch;
        }
        self.engine.shared.appender.unknown_gone.add(1);
        batch.with_outcome(Outcome::Lost)
    }

    fn wait_for_engine(&mut self) -> u64 {
        let now = self.millis();
        if let Some(batch) = self.batch.take_if(|batch| batch.is_late(now)) {
            self.give_up(batch);
        }
        if let Some(erasing) = self.erasing.take() {
            self.end_erasing(erasing, None);
        }
        if self.engine.shared.is_closed() {
            self.end();
            return 0;
        }
        self.backoff.left(now)
    }

    /// Refuses everything, because the broker ends while the engine is away.
    fn end(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.give_up(batch);
        }
        while !self.is_over {
            let work = self.engine.queue.take(Duration::ZERO);
            work.requests.fail(&EngineError::Closed);
            work.barriers.into_iter().for_each(|barrier| (barrier.done)(false));
            work.revokes.into_iter().for_each(|revoke| (revoke.done)(Err(EngineError::Closed)));
            while let Some(erase) = self.engine.queue.take_erase() {
                (erase.done)(Err(EngineError::Closed));
            }
            self.is_over = work.is_last;
        }
    }

    fn give_up(&self, batch: Batch) {
        let why = self.engine.shared.reason();
        batch.refuse(why);
    }

    fn take_work(&mut self, wait: Duration) {
        // A broker that starts waits for what others have revoked.
        let until_next = self.pulse_at.min(self.register_at).min(self.sweep_at).saturating_sub(self.millis());
        let until_next = if self.erasing.is_some() { 0 } else { until_next };
        let work = self.engine.queue.take(wait.min(Duration::from_millis(until_next)));
        if !work.barriers.is_empty() || self.millis() >= self.pulse_at {
            self.pulse(work.barriers);
        }
        self.revoke(work.revokes);
        self.register();
        self.erase();
        self.sweep();
        match work.requests {
            Requests::None => self.is_over = work.is_last && self.erasing.is_none(),
            Requests::Publishes(publishes) => self.begin(|number| Batch::of_publishes(number, publishes)),
            Requests::Inserts(inserts) => self.begin(|number| Batch::of_inserts(number, inserts)),
        }
    }

    /// Appends a new batch, or keeps it until there is a connection.
    fn begin(&mut self, batch: impl FnOnce(u64) -> Batch) {
        self.batches += 1;
        let batch = batch(self.batches);
        match self.link.is_some() {
            true => self.append(batch),
            false => self.batch = Some(batch),
        }
    }

    /// Tells the other brokers of this one, if it is time.
    fn register(&mut self) {
        let now = self.millis();
        let Some(link) = self.link.as_mut().filter(|_| self.register_at <= now) else { return };
        self.register_at = now + PULSE_MILLIS;
        match link.log.register(link.hello, self.engine.shared.subscribers()) {
            Ok(peers) => {
                self.engine.shared.note_peers(peers);
                self.read_revocations(now);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Asks for the newest id, and has the barriers wait for it.
    fn pulse(&mut self, barriers: Vec<Barrier>) {
        let Some(link) = &mut self.link else {
            return barriers.into_iter().for_each(|barrier| (barrier.done)(false));
        };
        match link.log.pulse(link.hello) {
            Ok(pulse) => {
                self.backoff.succeed();
                self.note_pulse(pulse);
                let now = self.millis();
                barriers.into_iter().for_each(|barrier| self.engine.waiting.wait(pulse.last, now, barrier.done));
            }
            Err(error) => {
                barriers.into_iter().for_each(|barrier| (barrier.done)(false));
                self.fail(&error);
            }
        }
    }

    fn note_pulse(&mut self, pulse: Pulse) {
        let now = self.engine.clock.now();
        self.engine.shared.note_pulse(pulse, self.engine.clock.elapsed_micros(), now.millis);
        self.pulse_at = now.millis + PULSE_MILLIS;
    }

    fn append(&mut self, mut batch: Batch) {
        let Some(link) = &mut self.link else {
            self.batch = Some(batch);
            return;
        };
        let begun = self.engine.clock.elapsed_micros();
        match batch.append(&mut link.log, link.hello, self.engine.shared.floor()) {
            Ok((done, forgotten)) => {
                let duration = self.engine.clock.elapsed_micros().saturating_sub(begun);
                self.engine.shared.appender.append_time.add(duration);
                self.backoff.succeed();
                self.engine.shared.accept(batch.has_records(), self.millis());
                self.note_forgotten(forgotten);
                self.finish(batch, &done);
            }
            Err(error) => self.not_appended(batch, &error),
        }
    }

    /// Decides what an append that failed means for the batch.
    fn not_appended(&mut self, batch: Batch, error: &LogError) {
        match error {
            LogError::Refused(Refusal::Memory, _) => {
                self.engine.shared.refuse(&error.to_string(), self.millis());
                batch.refuse("the engine is out of memory".into());
            }
            LogError::Refused(Refusal::Setup, _) => {
                self.engine.shared.refuse(&error.to_string(), self.millis());
                batch.refuse("the engine refuses it; the broker's log says why".into());
            }
            LogError::Refused(Refusal::Records, why) => {
                self.engine.shared.refuse_records(why, self.millis());
                batch.refuse_for_good(why.as_str().into());
            }
            LogError::Unproven(why) => {
                self.engine.shared.unproven(batch.has_records(), why, self.millis());
                batch.fail(&EngineError::Unknown("the engine could not prove that it is durable".into()));
            }
            LogError::Fenced => {
                self.engine.shared.appender.fenced.add(1);
                self.batch = Some(batch);
                self.fail(error);
            }
            LogError::Unreachable(_) | LogError::Refused(Refusal::NotWritable, _) => {
                self.batch = Some(batch);
                self.fail(error);
            }
            LogError::Broken(_) | LogError::Malformed(_) => {
                self.batch = Some(batch.with_outcome(Outcome::Unknown));
                self.fail(error);
            }
        }
    }

    /// Drops the connection.
    fn fail(&mut self, error: &LogError) {
        self.link = None;
        self.backoff.fail(self.millis());
        self.engine.shared.link_down(Side::Appender, &error.to_string(), self.millis());
    }

    /// Warns, once, that idempotency keys are forgotten early.
    fn note_forgotten(&mut self, forgotten: u64) {
        if forgotten > 0 && !std::mem::replace(&mut self.has_forgotten, true) {
            let count = KeyLimits::default().count;
            log::warn!(
                "the engine remembers the newest {count} idempotency keys; there are more within 24 h, so the oldest are \
                 forgotten early, and a retry with one of them stores its record again"
            );
        }
    }

    /// Has the requests of a batch acknowledged once the tail has passed what is written.
    fn finish(&mut self, batch: Batch, done: &LastBatch) {
        let now = self.millis();
        if let Some(Written { first, last, count }) = batch.written(done) {
            self.has_appended = true;
            let mark = Mark { entry: first, token: batch.token().into() };
            let session = self.link.as_ref().map_or(0, |link| link.hello.session);
            self.engine.shared.note_appended(session, mark, last, now);
            let counters = &self.engine.shared.appender;
            let counter = if batch.has_records() { &counters.records } else { &counters.events };
            counter.add(count);
        }
        batch.acknowledge(done, &self.engine.waiting, now);
    }

    fn millis(&self) -> u64 {
        self.engine.clock.now().millis
    }
}
