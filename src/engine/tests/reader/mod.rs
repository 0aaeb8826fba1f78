//! The reader on a log that answers, breaks and refuses as a test wants.

mod outages;
mod random;
mod results;
#[cfg(feature = "records")]
mod same_pages;
mod turns;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::{Clock, ManualClock};
use crate::engine::log::{
    Append, Appended, Attach, Attached, Connect, Entry, Erase, Erased, Greeting, Hello, Insert, Inserted, Log,
    LogError, Peer, Pulse, ReadRecords, Refusal, RemoveRecords, Revocations, Revoke, Revoked, Swept, Version,
};
use crate::engine::waiting::MAX_WAIT_MILLIS;
use crate::engine::{Engine, EngineError, Reader};
use crate::quota::{Client, PageBudget};
use crate::records::{Page, PageQuery, Record};

/// Longer than any back-off, in microseconds.
const BACKOFF_MICROS: u64 = 5_000_000;

/// A log that has records.
#[derive(Clone)]
struct Scripted(Arc<Mutex<State>>);

struct State {
    records: Vec<Record>,
    /// The maximum number of versions in an answer.
    part: usize,
    is_away: bool,
    /// Attempts to connect.
    attempts: usize,
    /// What the next requests meet.
    errors: VecDeque<LogError>,
    /// The requests that were answered, in order.
    answered: Vec<Answered>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answered {
    Lookup(u64),
    Versions(String, usize),
}

impl Scripted {
    fn new(records: Vec<Record>) -> Self {
        Self(Arc::new(Mutex::new(State {
            records,
            part: 1000,
            is_away: false,
            attempts: 0,
            errors: VecDeque::new(),
            answered: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn answer<T>(&mut self, request: Answered, answer: impl FnOnce(&Self) -> T) -> Result<T, LogError> {
        match self.errors.pop_front() {
            Some(error) => Err(error),
            None if self.is_away => Err(broken()),
            None => {
                self.answered.push(request);
                Ok(answer(self))
            }
        }
    }
}

impl Connect for Scripted {
    type Log = Self;

    fn connect(&mut self) -> Result<Self, LogError> {
        let mut state = self.lock();
        state.attempts += 1;
        let is_away = state.is_away;
        drop(state);
        if is_away { Err(LogError::Unreachable("away".into())) } else { Ok(self.clone()) }
    }
}

/// The reader asks for nothing else.
impl ReadRecords for Scripted {
    fn newest_records(&mut self, _: u64) -> Result<Vec<Record>, LogError> {
        unreachable!()
    }

    fn records(&mut self, _: u64, _: u64) -> Result<Vec<Record>, LogError> {
        unreachable!()
    }

    fn has_record(&mut self, id: u64) -> Result<bool, LogError> {
        self.lock().answer(Answered::Lookup(id), |state| state.records.iter().any(|record| record.id == id))
    }

    fn versions(&mut self, name: &str, after: u64, limit: usize) -> Result<Vec<Version>, LogError> {
        self.lock().answer(Answered::Versions(name.into(), limit), |state| {
            let versions = state.records.iter().filter(|record| &*record.name == name && record.id > after);
            let versions = versions.map(|record| Version { id: record.id, data: record.data.clone() });
            versions.take(limit.min(state.part)).collect()
        })
    }
}

impl RemoveRecords for Scripted {
    fn erase(&mut self, _: &Erase<'_>) -> Result<Erased, LogError> {
        unreachable!()
    }

    fn sweep(&mut self, _: Hello) -> Result<Swept, LogError> {
        unreachable!()
    }
}

impl Revocations for Scripted {
    fn revoke(&mut self, _: &Revoke<'_>) -> Result<u64, LogError> {
        unreachable!()
    }

    fn revoked(&mut self, _: u64) -> Result<Vec<Revoked>, LogError> {
        unreachable!()
    }
}

impl Log for Scripted {
    fn hello(&mut self, _: Hello) -> Result<Greeting, LogError> {
        unreachable!()
    }

    fn append(&mut self, _: &Append<'_>) -> Result<Appended, LogError> {
        unreachable!()
    }

    fn insert(&mut self, _: &Insert<'_>) -> Result<Inserted, LogError> {
        unreachable!()
    }

    fn pulse(&mut self, _: Hello) -> Result<Pulse, LogError> {
        unreachable!()
    }

    fn register(&mut self, _: Hello, _: u64) -> Result<Vec<Peer>, LogError> {
        unreachable!()
    }

    fn attach(&mut self, _: &Attach) -> Result<Attached, LogError> {
        unreachable!()
    }

    fn read(&mut self, _: u64) -> Result<Vec<Entry>, LogError> {
        unreachable!()
    }
}

/// A reader with its log.
struct Rig {
    engine: Engine,
    reader: Reader<Scripted>,
    log: Scripted,
    clock: Arc<ManualClock>,
    budget: PageBudget,
}

impl Rig {
    fn new(records: Vec<Record>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let (engine, log) = (Engine::new(Clock::manual(Arc::clone(&clock))), Scripted::new(records));
        let reader = Reader::new(engine.clone(), log.clone());
        Self { engine, reader, log, clock, budget: PageBudget::default() }
    }

    fn step(&mut self) {
        self.reader.step(Duration::ZERO);
    }

    fn request(&self, of: u8, name: &str, after: u64, limit: usize) -> Receiver<Result<Page, EngineError>> {
        let (sender, page) = channel();
        let query = PageQuery { name: name.into(), after, limit };
        let reservation = self.budget.reserve(client(of)).unwrap();
        self.engine.read_history(query, client(of), reservation, move |read| {
            let page = read.map(|(page, reservation)| {
                assert_eq!(reservation.bytes(), page.body.len());
                page
            });
            sender.send(page).unwrap();
        });
        page
    }

    fn look_up(&self, id: u64) -> Receiver<Result<bool, EngineError>> {
        let (sender, found) = channel();
        self.engine.find_record(id, move |result| sender.send(result).unwrap());
        found
    }

    /// Runs one lookup of an id that no record has.
    fn find_nothing(&mut self) -> Result<bool, EngineError> {
        let found = self.look_up(u64::MAX);
        self.step();
        found.try_recv().unwrap()
    }

    /// Reads a whole page.
    fn read(&mut self, name: &str, after: u64, limit: usize) -> Result<Page, EngineError> {
        let page = self.request(1, name, after, limit);
        loop {
            self.step();
            match page.try_recv() {
                Ok(page) => return page,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => panic!("the request got no answer"),
            }
        }
    }
}

fn client(number: u8) -> Client {
    Client::from(Some(std::net::IpAddr::from([10, 0, 0, number])))
}

fn record(id: u64, name: &str, data: &str) -> Record {
    Record { id, name: name.into(), data: data.into() }
}

/// Returns versions of one name, with the ids 1, 2 and so on.
fn versions(name: &str, count: u64) -> Vec<Record> {
    (1..=count).map(|id| record(id, name, &id.to_string())).collect()
}

/// Returns the expected page.
fn naive(records: &[Record], name: &str, after: u64, limit: usize) -> Page {
    let mut mine = records.iter().filter(|record| &*record.name == name && record.id > after);
    let page: Vec<_> = mine.by_ref().take(limit).collect();
    let entries: Vec<_> = page.iter().map(|record| format!("\"{name}_v_{}\":{}", record.id, record.data)).collect();
    let next = mine.next().and(page.last()).map(|record| record.id);
    Page { body: format!("{{{}}}", entries.join(",")), next }
}

fn broken() -> LogError {
    LogError::Broken("no answer".into())
}

fn refused(refusal: Refusal) -> LogError {
    LogError::Refused(refusal, "no".into())
}

fn is_unavailable<T>(result: &Result<T, EngineError>) -> bool {
    matches!(result, Err(EngineError::Unavailable(_)))
}
