//! The store as a whole, compared with naive models of what it should contain.

mod checkpoints;
mod commits;
mod conditions;
mod copies;
mod crash;
mod erasures;
mod files;
mod full_disk;
mod histories;
mod index;
mod lookups;
mod many_erasures;
mod open_errors;
mod other_programs;
mod power_loss;
mod pruning;
mod reopen;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::ids::Order;
use crate::quota::{Client, PageBudget};
use crate::records::NewRecord;
use crate::records::progress::Silent;

/// A directory that is deleted when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static SCRATCHES: AtomicU64 = AtomicU64::new(0);
        let number = SCRATCHES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("esker-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn location(&self) -> Location {
        Location::Directory(self.0.clone())
    }

    fn database(&self) -> PathBuf {
        self.0.join("records.db")
    }

    /// Copies what a crash would leave of a running store that never checkpoints.
    fn copy_of(other: &Path) -> Self {
        let copy = Self::new();
        for file in ["records.db", "records.db-wal"] {
            std::fs::copy(other.join(file), copy.0.join(file)).unwrap();
        }
        copy
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Assigns ids and collects what is published.
#[derive(Default)]
struct Ids {
    newest: AtomicU64,
    published: Mutex<Vec<Record>>,
    /// The erasures that were published: names and ids.
    erased: Mutex<Vec<(String, u64)>>,
    /// Assigns no ids while this is set.
    is_paused: AtomicBool,
}

impl Order<Record> for Arc<Ids> {
    fn reserve(&self, count: usize) -> Option<u64> {
        let may_give = !self.is_paused.load(Ordering::SeqCst);
        may_give.then(|| self.newest.fetch_add(count as u64, Ordering::SeqCst) + 1)
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    fn publish(&self, records: Vec<Record>) {
        self.published.lock().unwrap().extend(records);
    }

    fn publish_erasure(&self, name: &str, id: u64) {
        self.erased.lock().unwrap().push((name.to_owned(), id));
    }

    fn newest_version(&self, name: &str) -> Option<u64> {
        let published = self.published.lock().unwrap();
        published.iter().rev().find(|record| &*record.name == name).map(|record| record.id)
    }
}

/// Returns a request without a condition and without a key.
fn plain(name: &str, data: impl Into<Box<str>>) -> InsertRequest {
    NewRecord { name: name.into(), data: data.into() }.into()
}

/// Returns the id of a record that was stored without a condition and without a key.
fn stored_id(outcome: InsertOutcome) -> u64 {
    let InsertOutcome::Stored(id) = outcome else { panic!("{outcome:?}") };
    id
}

/// A running store, with what was read when it was opened and what it published.
struct Rig {
    store: Store,
    ids: Arc<Ids>,
    latest: Vec<Record>,
    ids_through: u64,
}

impl Rig {
    fn new(location: &Location) -> Self {
        Self::with(location, Tuning::default())
    }

    fn with(location: &Location, tuning: Tuning) -> Self {
        let mut opening = Store::open_tuned(location, tuning).unwrap();
        let (latest, ids_through) = (std::mem::take(&mut opening.latest), opening.ids_through);
        let ids = Arc::new(Ids { newest: ids_through.into(), ..Ids::default() });
        let store = opening.start(Box::new(Arc::clone(&ids))).unwrap();
        Self { store, ids, latest, ids_through }
    }

    fn insert(&self, name: &str, data: &str) -> Result<u64, StoreError> {
        let (sender, reply) = mpsc::channel();
        self.store.insert(plain(name, data), move |result| sender.send(result.map(stored_id)).unwrap());
        reply.recv().unwrap()
    }

    /// Queues all inserts, so that they share commits, and waits for the last reply.
    fn insert_all<'a>(&self, inserts: impl IntoIterator<Item = (&'a str, String)>) -> Vec<Result<u64, StoreError>> {
        let (sender, reply) = mpsc::channel();
        for (name, data) in inserts {
            let sender = sender.clone();
            self.store.insert(plain(name, data), move |result| sender.send(result.map(stored_id)).unwrap());
        }
        drop(sender);
        reply.iter().collect()
    }

    fn read_history(&self, name: &str, after: u64, limit: usize) -> Result<Page, StoreError> {
        let (sender, reply) = mpsc::channel();
        let query = PageQuery { name: name.into(), after, limit };
        let reservation = PageBudget::default().reserve(Client::Local).unwrap();
        self.store.read_history(query, Client::Local, reservation, move |result| sender.send(result).unwrap());
        reply.recv().unwrap().map(|(page, _)| page)
    }

    fn erase(&self, name: &str, before: Option<u64>) -> Result<u64, Unerased> {
        let (sender, reply) = mpsc::channel();
        self.store.erase(name.into(), before, move |result| sender.send(result).unwrap());
        reply.recv().unwrap()
    }

    fn published(&self) -> Vec<Record> {
        self.ids.published.lock().unwrap().clone()
    }
}

/// Limits that are reached all the time.
fn small_limits() -> Tuning {
    Tuning { max_unindexed: 100, index_slice: 7, wal_growth: 64 << 10, wal_limit: 256 << 10, ..Tuning::default() }
}

/// Returns the newest record of each name, by ascending id.
fn latest_of(records: &[Record]) -> Vec<Record> {
    let newest: BTreeMap<_, _> = records.iter().map(|record| (Arc::clone(&record.name), record.clone())).collect();
    let mut latest: Vec<_> = newest.into_values().collect();
    latest.sort_by_key(|record| record.id);
    latest
}

/// Returns all records of a directory, after checking their consistency.
fn contents(directory: &Path) -> Vec<Record> {
    let report = check(directory, &Silent).unwrap();
    assert!(report.is_good(), "{report}");
    let mut lines = Vec::new();
    dump(directory, None, &mut lines, &Silent).unwrap();
    String::from_utf8(lines).unwrap().lines().map(parse).collect()
}

/// Parses a line of a dump.
fn parse(line: &str) -> Record {
    let value: BTreeMap<&str, &serde_json::value::RawValue> = serde_json::from_str(line).unwrap();
    let text = |key: &str| serde_json::from_str::<String>(value[key].get()).unwrap();
    Record { id: text("id").parse().unwrap(), name: text("event").into(), data: value["data"].get().into() }
}
