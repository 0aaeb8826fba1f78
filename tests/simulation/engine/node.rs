//! One broker's part of the engine: an appender, a tail, and what its publishes were told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker::internals::engine::blob::Part;
use esker::internals::engine::sim::{SimConnect, SimLog};
use esker::internals::engine::{Appender, Engine, EngineError, Health, Reader, Sequenced, Tail};
use esker::internals::records::NewRecord;
use esker::internals::records::insert::{IdempotencyKey, InsertOutcome, InsertRequest};
use esker::internals::sim::{Clock, ManualClock, appender_link, reader_link, tail_link};

use super::follower::{self, Follower, lines};
use super::records::Insert;

/// What a request was told.
#[derive(Clone, Debug)]
pub enum Told {
    Publish(usize, Result<Sequenced, EngineError>),
    Barrier(usize, bool),
    Insert(usize, Result<InsertOutcome, EngineError>),
    Lookup(usize, Result<bool, EngineError>),
    Erasure(usize, Result<u64, EngineError>),
}

/// The result of a request, and when it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub told: Told,
    /// The newest id that the follower had then.
    pub newest: u64,
    pub millis: u64,
}

#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    fn push(&self, answer: Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }

    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A broker without hub and workers.
pub struct Node {
    /// Not the number of another node, ever.
    pub serial: u64,
    clock: Arc<ManualClock>,
    pub engine: Engine,
    appender: Appender<SimConnect>,
    tail: Tail<SimConnect, Follower>,
    reader: Reader<SimConnect>,
    pub follower: Follower,
    answers: Answers,
    pub is_closing: bool,
    /// How much of what the follower was told was printed.
    printed: usize,
}

impl Node {
    pub fn start(serial: u64, log: &SimLog, clock: &Arc<ManualClock>, answers: &Answers) -> Self {
        let engine = Engine::new(Clock::manual(Arc::clone(clock)));
        let follower = Follower::default();
        Self {
            serial,
            clock: Arc::clone(clock),
            appender: Appender::new(engine.clone(), log.connector(appender_link(serial)), serial),
            tail: Tail::new(engine.clone(), log.connector(tail_link(serial)), follower.clone()),
            reader: Reader::new(engine.clone(), log.connector(reader_link(serial))),
            engine,
            follower,
            answers: answers.clone(),
            is_closing: false,
            printed: 0,
        }
    }

    pub fn publish(&self, number: usize, topic: &str, own_ids: &[Option<String>]) {
        let lines: Vec<_> = (0..own_ids.len()).map(|index| lines(number, index)).collect();
        let events = own_ids.iter().zip(&lines).map(|(own_id, lines)| (own_id.as_deref(), lines.as_bytes()));
        let note = self.note();
        self.engine.publish(Part::new(topic, events), move |result| note(Told::Publish(number, result)));
    }

    pub fn barrier(&self, number: usize) {
        let note = self.note();
        self.engine.barrier(move |has_passed| note(Told::Barrier(number, has_passed)));
    }

    /// Inserts a record, whose data is the number.
    pub fn insert(&self, number: usize, insert: &Insert) {
        let record = NewRecord { name: insert.name.into(), data: number.to_string().into() };
        let key = insert.key.and_then(|key| IdempotencyKey::new(&key.to_string()));
        let request = InsertRequest { record, condition: insert.condition.clone(), key };
        let note = self.note();
        self.engine.insert(request, move |result| note(Told::Insert(number, result)));
    }

    /// Inserts a record without a condition and a key, whose data is the number.
    pub fn insert_plain(&self, number: usize, name: &str) {
        let record = NewRecord { name: name.into(), data: number.to_string().into() };
        let note = self.note();
        self.engine.insert(record.into(), move |result| note(Told::Insert(number, result)));
    }

    /// Erases versions of a name.
    pub fn erase(&self, number: usize, name: &str, before: Option<u64>) {
        let note = self.note();
        self.engine.erase(&name.into(), before, move |result| note(Told::Erasure(number, result)));
    }

    /// Asks whether there is a record.
    pub fn look_up(&self, number: usize, id: u64) {
        let note = self.note();
        self.engine.find_record(id, move |result| note(Told::Lookup(number, result)));
    }

    fn note(&self) -> impl FnOnce(Told) + Send + 'static {
        let (answers, follower, clock) = (self.answers.clone(), self.follower.clone(), Arc::clone(&self.clock));
        move |told| {
            let millis = clock.elapsed_micros.load(Ordering::Relaxed) / 1000;
            answers.push(Answer { told, newest: follower.lock().newest(), millis });
        }
    }

    pub fn step_appender(&mut self) {
        if !self.appender.is_over() {
            self.appender.step(Duration::ZERO);
        }
    }

    pub fn step_reader(&mut self) {
        if !self.reader.is_over() {
            self.reader.step(Duration::ZERO);
        }
    }

    /// Steps the tail. The follower takes this many events.
    pub fn step_tail(&mut self, room: usize) {
        self.follower.lock().room = room;
        self.tail.step();
    }

    /// Steps the tail until nothing more comes.
    pub fn run_tail(&mut self) {
        let mut idle = 0;
        while idle < 2 {
            let before = self.follower.lock().told.len();
            self.step_tail(usize::MAX);
            idle = if self.follower.lock().told.len() > before { 0 } else { idle + 1 };
        }
    }

    /// Returns what the follower was told since the last call.
    pub fn untold(&mut self) -> impl Iterator<Item = follower::Told> + use<> {
        let notes = self.follower.lock();
        let new = notes.told[self.printed..].to_vec();
        self.printed = notes.told.len();
        new.into_iter()
    }

    pub fn expire(&self) {
        self.engine.expire();
    }

    pub fn close(&mut self) {
        self.is_closing = true;
        self.engine.close();
    }

    pub fn is_over(&self) -> bool {
        self.appender.is_over() && !self.engine.is_waiting()
    }

    pub fn is_ready(&self) -> bool {
        self.engine.status().health == Health::Ready
    }
}
