//! Notes what the tail hands over, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esker::internals::engine::{Follow, LogEvent};
use esker::internals::records::Record;

/// What a follower was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Begin(u64),
    Event(Seen),
    Pass(u64),
    LoseThrough(u64),
    Record(SeenRecord),
    Reset(Vec<SeenRecord>),
    /// The newest record of the erased name, and the erasure's id.
    Erased(u64, u64),
    Doubt(u64),
}

/// An event that a follower got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: u64,
    /// The number of the publish, and the index of the event in it.
    pub number: usize,
    pub index: usize,
}

/// A record that a follower got.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenRecord {
    pub id: u64,
    pub name: Arc<str>,
    /// The number of the insert.
    pub number: usize,
}

#[derive(Debug, Default)]
pub struct Notes {
    pub told: Vec<Told>,
    /// The number of events and records that it takes now.
    pub room: usize,
    /// The newest record of each name.
    pub newest: BTreeMap<Arc<str>, SeenRecord>,
}

impl Notes {
    /// Returns the newest id that it was told.
    pub fn newest(&self) -> u64 {
        self.told.iter().rev().find_map(Told::newest).unwrap_or(0)
    }
}

impl Told {
    pub fn newest(&self) -> Option<u64> {
        match self {
            Self::Begin(_) | Self::Record(_) | Self::Reset(_) | Self::Erased(..) | Self::Doubt(_) => None,
            Self::Event(seen) => Some(seen.id),
            Self::Pass(id) | Self::LoseThrough(id) => Some(*id),
        }
    }
}

/// A shared handle to what a follower notes.
#[derive(Clone, Debug, Default)]
pub struct Follower(Arc<Mutex<Notes>>);

impl Follower {
    pub fn lock(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follow for Follower {
    fn apply(&mut self, events: &mut VecDeque<LogEvent>) -> Result<(), String> {
        let mut notes = self.lock();
        let count = notes.room.min(events.len());
        notes.room -= count;
        let seen = events.drain(..count).map(|event| read(&event));
        let seen: Vec<_> = seen.map(Told::Event).collect();
        notes.told.extend(seen);
        Ok(())
    }

    fn lose_through(&mut self, id: u64) {
        self.lock().told.push(Told::LoseThrough(id));
    }

    fn begin(&mut self, oldest: u64) {
        self.lock().told.push(Told::Begin(oldest));
    }

    fn pass(&mut self, id: u64) {
        self.lock().told.push(Told::Pass(id));
    }

    fn apply_records(&mut self, records: &mut VecDeque<Record>) {
        let mut notes = self.lock();
        let count = notes.room.min(records.len());
        notes.room -= count;
        for record in records.drain(..count).map(|record| read_record(&record)) {
            notes.newest.insert(Arc::clone(&record.name), record.clone());
            notes.told.push(Told::Record(record));
        }
    }

    fn reset_records(&mut self, newest: Vec<Record>) {
        let newest: Vec<_> = newest.iter().map(read_record).collect();
        let mut notes = self.lock();
        notes.newest = newest.iter().map(|record| (Arc::clone(&record.name), record.clone())).collect();
        notes.told.push(Told::Reset(newest));
    }

    fn erase(&mut self, record: u64, id: u64) -> bool {
        let mut notes = self.lock();
        let name = notes.newest.values().find(|newest| newest.id == record).map(|newest| Arc::clone(&newest.name));
        let Some(name) = name else { return false };
        notes.newest.remove(&name);
        notes.told.push(Told::Erased(record, id));
        true
    }

    fn doubt_before(&mut self, id: u64) {
        self.lock().told.push(Told::Doubt(id));
    }

    fn subscribers(&self) -> u64 {
        0
    }
}

/// Returns the lines of an event.
pub fn lines(number: usize, index: usize) -> String {
    format!("data: {number} {index}\n")
}

fn read(event: &LogEvent) -> Seen {
    let (number, index) = numbers(&event.lines);
    Seen { id: event.id, number, index }
}

/// Returns what a record is of.
pub fn read_record(record: &Record) -> SeenRecord {
    let number = record.data.parse().expect("a number");
    SeenRecord { id: record.id, name: Arc::clone(&record.name), number }
}

/// Returns the number of the publish that the lines are of, and the index of the event in it.
pub fn numbers(lines: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(lines).expect("UTF-8");
    let mut words = text.strip_prefix("data: ").expect("data").split_whitespace();
    let mut number = || words.next().expect("a number").parse().expect("a number");
    (number(), number())
}
