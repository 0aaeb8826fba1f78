//! Pages from the engine, compared with those of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use super::Rig;
use crate::engine::EngineError;
use crate::ids::Order;
use crate::quota::{Client, PageBudget};
use crate::records::{NewRecord, Page, PageQuery, Record};
use crate::store::{Location, Store, StoreError};

/// Assigns ids with gaps, and keeps what is published.
#[derive(Default)]
struct Ids {
    newest: AtomicU64,
    published: Mutex<Vec<Record>>,
}

impl Order<Record> for Arc<Ids> {
    fn reserve(&self, count: usize) -> Option<u64> {
        Some(self.newest.fetch_add(count as u64 + 7, Ordering::SeqCst) + 8)
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    fn publish(&self, records: Vec<Record>) {
        self.published.lock().unwrap().extend(records);
    }

    fn publish_erasure(&self, _: &str, _: u64) {}

    fn newest_version(&self, _: &str) -> Option<u64> {
        None
    }
}

/// Returns a store with records of several names, and the records.
fn filled_store() -> (Store, Vec<Record>) {
    let ids = Arc::new(Ids::default());
    let store = Store::open(&Location::Memory).unwrap().start(Box::new(Arc::clone(&ids))).unwrap();
    let (sender, stored) = channel();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let small = (0..1000).map(|number| (["user \"7\"", "größe", "other"][number % 3], number.to_string()));
    let medium = (0..100).map(|number| ("medium", text(1000 * number)));
    let large = [3 << 20, 3 << 20, 3 << 20, 9 << 20, 1].map(|bytes| ("large", text(bytes)));
    for (name, data) in small.chain(medium).chain(large) {
        let sender = sender.clone();
        let record = NewRecord { name: name.into(), data: data.into() };
        store.insert(record.into(), move |result| sender.send(result).unwrap());
    }
    drop(sender);
    assert!(stored.iter().all(|result| result.is_ok()));
    let records = ids.published.lock().unwrap().clone();
    (store, records)
}

/// Reads a page from the store.
fn read(store: &Store, query: PageQuery, budget: &PageBudget) -> Result<Page, StoreError> {
    let (sender, page) = channel();
    let reservation = budget.reserve(Client::Local).unwrap();
    store.read_history(query, Client::Local, reservation, move |read| sender.send(read.map(|(page, _)| page)).unwrap());
    page.recv().unwrap()
}

#[test]
fn a_page_is_the_same_as_the_stores() {
    let (store, records) = filled_store();
    let mut rig = Rig::new(records);
    let mut compared = 0;
    for (small, large) in [(64 << 20, 192 << 20), (1 << 20, 4 << 20)] {
        rig.budget = PageBudget::new(small, large);
        for name in ["user \"7\"", "größe", "medium", "large", "nobody"] {
            for limit in [1, 2, 128, 129, 200, 10_000] {
                let mut after = 0;
                loop {
                    let query = PageQuery { name: name.into(), after, limit };
                    let (of_engine, of_store) = (rig.read(name, after, limit), read(&store, query, &rig.budget));
                    compared += 1;
                    match (of_engine, of_store) {
                        (Ok(page), Ok(expected)) => {
                            assert!(page == expected, "{name} after {after}, at most {limit}");
                            let Some(next) = page.next else { break };
                            after = next;
                        }
                        (Err(EngineError::Busy), Err(StoreError::Busy)) => break,
                        (page, expected) => panic!("{:?} instead of {:?}", page.err(), expected.err()),
                    }
                }
            }
        }
    }
    assert!(compared > 1000, "{compared} pages");
}
