//! Appends what waits in the queue, all of it as one entry, and finds out what became of an append that got no answer.
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
//! [`Log::hello`] ends the session of the broken connection, so whatever it has sent and has not arrived yet is refused.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::blob::Blob;
use super::handle::{Engine, EngineError, Sequenced};
use super::log::{Append, Appended, Connect, Greeting, Hello, Log, LogError, Mark, Pulse, Refusal};
use super::queue::{self, Barrier, Done, Publish};
use super::state::Side;

/// After this time, in milliseconds, an append without an answer is reported as unknown.
const UNKNOWN_MILLIS: u64 = 30_000;
/// The time between two pulses, in milliseconds.
const PULSE_MILLIS: u64 = 1_000;

/// Appends publishes to the log.
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
    is_over: bool,
}

/// A connection and its session.
struct Link<L> {
    log: L,
    hello: Hello,
}

/// Publishes that become one entry.
struct Batch {
    number: u64,
    blob: Blob,
    publishes: Vec<Waiter>,
    /// When its oldest publish was queued, in milliseconds.
    queued: u64,
    outcome: Outcome,
    /// The token of its entry, once it was sent.
    token: String,
}

/// A publish in a batch: the range of its events.
struct Waiter {
    first: usize,
    end: usize,
    done: Done,
}

/// What is known of a batch that is not appended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is not in the log.
    NotAppended,
    /// It may be in the log.
    Unknown,
    /// It is not in the log, but was in one that has lost it since, or may have been: somebody may have received its events.
    Lost,
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
            Some((number, appended)) if number == batch.number => self.prove(batch, &appended),
            last_batch => {
                let batch = self.not_found(batch, last_batch.is_some());
                match batch.outcome {
                    Outcome::Unknown => batch.refuse("the engine has forgotten what this broker has appended".into()),
                    _ if batch.is_late(self.millis()) => self.give_up(batch),
                    _ => self.batch = Some(batch),
                }
            }
        }
    }

    /// Acknowledges a batch without an answer that the log has, once it is durable.
    fn prove(&mut self, batch: Batch, appended: &Appended) {
        let proven = self.link.as_mut().map_or(Ok(()), |link| link.log.prove());
        match proven {
            Ok(()) => {
                self.engine.shared.appender.unknown_kept.add(1);
                self.finish(batch, appended);
            }
            Err(error) => self.not_appended(batch, &error),
        }
    }

    /// Notes that the log does not have a batch. If it knows no batch of this broker at all, although there were some, then it
    /// has forgotten them, and whether it had this one.
    fn not_found(&self, batch: Batch, knows_another: bool) -> Batch {
        if batch.outcome != Outcome::Unknown || (self.has_appended && !knows_another) {
            return batch;
        }
        self.engine.shared.appender.unknown_gone.add(1);
        Batch { outcome: Outcome::Lost, ..batch }
    }

    fn wait_for_engine(&mut self) -> u64 {
        let now = self.millis();
        if let Some(batch) = self.batch.take_if(|batch| batch.is_late(now)) {
            self.give_up(batch);
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
            work.publishes.into_iter().for_each(|publish| (publish.done)(Err(EngineError::Closed)));
            work.barriers.into_iter().for_each(|barrier| (barrier.done)(false));
            self.is_over = work.is_last;
        }
    }

    fn give_up(&self, batch: Batch) {
        let why = self.engine.shared.reason();
        batch.refuse(why);
    }

    fn take_work(&mut self, wait: Duration) {
        let until_pulse = Duration::from_millis(self.pulse_at.saturating_sub(self.millis()));
        let work = self.engine.queue.take(wait.min(until_pulse));
        if !work.barriers.is_empty() || self.millis() >= self.pulse_at {
            self.pulse(work.barriers);
        }
        match work.publishes.is_empty() {
            true => self.is_over = work.is_last,
            false => {
                self.batches += 1;
                let batch = Batch::new(self.batches, work.publishes);
                match self.link.is_some() {
                    true => self.append(batch),
                    false => self.batch = Some(batch),
                }
            }
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
        let floor = self.engine.shared.floor();
        let request = Append {
            hello: link.hello,
            batch: batch.number,
            floor,
            events: batch.blob.events,
            blob: &batch.blob.bytes,
            own_ids: &batch.blob.own_ids,
        };
        let token = request.token();
        let begun = self.engine.clock.elapsed_micros();
        let result = link.log.append(&request);
        batch.token = token;
        match result {
            Ok(appended) => {
                let duration = self.engine.clock.elapsed_micros().saturating_sub(begun);
                self.engine.shared.appender.append_time.add(duration);
                self.backoff.succeed();
                self.engine.shared.accept(self.engine.clock.now().millis);
                self.finish(batch, &appended);
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
                batch.refuse("the engine refuses events; the broker's log says why".into());
            }
            LogError::Unproven(why) => {
                self.engine.shared.unproven(why);
                batch.fail(&EngineError::Unknown("the engine could not prove that the events are durable".into()));
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
                self.batch = Some(Batch { outcome: Outcome::Unknown, ..batch });
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

    /// Has the publishes of an entry acknowledged once the tail has passed it.
    fn finish(&mut self, batch: Batch, appended: &Appended) {
        let now = self.millis();
        let events = batch.blob.events;
        self.has_appended = true;
        if appended.repetitions.len() < events {
            let mark = Mark { entry: appended.first, token: batch.token.into() };
            let session = self.link.as_ref().map_or(0, |link| link.hello.session);
            self.engine.shared.note_appended(session, mark, appended.first + events as u64 - 1, now);
            self.engine.shared.appender.events.add((events - appended.repetitions.len()) as u64);
        }
        for publish in batch.publishes {
            let sequenced = publish.sequence(appended);
            let done = publish.done;
            self.engine.waiting.wait(sequenced.id, now, move |_| done(Ok(sequenced)));
        }
    }

    fn millis(&self) -> u64 {
        self.engine.clock.now().millis
    }
}

impl Batch {
    fn new(number: u64, publishes: Vec<Publish>) -> Self {
        let queued = publishes.iter().map(|publish| publish.queued).min().unwrap_or(0);
        let mut blob = Blob::default();
        let mut waiters = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let first = blob.push(publish.part);
            waiters.push(Waiter { first, end: blob.events, done: publish.done });
        }
        Self { number, blob, publishes: waiters, queued, outcome: Outcome::NotAppended, token: String::new() }
    }

    fn is_late(&self, now: u64) -> bool {
        let limit = match self.outcome {
            Outcome::NotAppended => queue::MAX_WAIT_MILLIS,
            Outcome::Unknown | Outcome::Lost => UNKNOWN_MILLIS,
        };
        self.queued + limit <= now
    }

    /// Refuses the publishes, as far as it is known that nobody has received their events.
    fn refuse(self, why: Arc<str>) {
        let error = match self.outcome {
            Outcome::NotAppended => EngineError::Unavailable(why),
            Outcome::Unknown | Outcome::Lost => EngineError::Unknown(why),
        };
        self.fail(&error);
    }

    fn fail(self, error: &EngineError) {
        self.publishes.into_iter().for_each(|publish| (publish.done)(Err(error.clone())));
    }
}

impl Waiter {
    /// Returns the result of the publish.
    fn sequence(&self, appended: &Appended) -> Sequenced {
        let range = self.first..self.end;
        let repeated: Vec<_> =
            appended.repetitions.iter().filter(|repetition| range.contains(&repetition.index)).collect();
        let is_new = |index: &usize| repeated.binary_search_by_key(index, |repetition| repetition.index).is_err();
        let last_new = range.clone().rev().find(is_new);
        let id = match (last_new, repeated.last()) {
            (Some(index), _) => appended.first.saturating_add(index as u64),
            (None, Some(repetition)) => repetition.original,
            (None, None) => appended.first,
        };
        Sequenced { id, events: range.len().saturating_sub(repeated.len()) }
    }
}
