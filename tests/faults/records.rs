//! Inserts records and remembers what was acknowledged: every such record must exist later, in order.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::support::{Broker, Connection};

/// Acknowledged records: data by id, by name.
#[derive(Default)]
pub struct Stored {
    by_name: Mutex<BTreeMap<String, BTreeMap<u64, String>>>,
    /// Makes the data of every record unique.
    serial: AtomicU64,
}

impl Stored {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn len(&self) -> usize {
        self.by_name.lock().expect("no thread panicked while holding the lock").values().map(BTreeMap::len).sum()
    }

    /// Asserts that the broker has all acknowledged records.
    pub fn assert_all_stored(&self, broker: &Broker) {
        for (name, records) in self.by_name.lock().expect("no thread panicked while holding the lock").iter() {
            let found = versions(broker, name);
            for (id, data) in records {
                assert_eq!(found.get(id), Some(data), "{name}'s {id} was acknowledged");
            }
        }
    }
}

/// Returns all versions of a name from its history.
fn versions(broker: &Broker, name: &str) -> BTreeMap<u64, String> {
    let (mut all, mut after) = (BTreeMap::new(), 0);
    loop {
        let page = broker.get(&format!("/audit/{name}?after={after}&limit=10000"));
        assert_eq!(page.status, 200, "{page:?}");
        for (key, data) in page.json().as_object().expect("an object") {
            let id = key.rsplit_once("_v_").and_then(|(_, id)| id.parse().ok()).expect("a key has an id");
            all.insert(id, data.to_string());
        }
        match (page.field("Link"), all.last_key_value()) {
            (Some(_), Some((last, _))) => after = *last,
            _ => return all,
        }
    }
}

/// Inserts records of one name, one after the other.
pub struct Inserter {
    address: SocketAddr,
    name: String,
    stored: Arc<Stored>,
    connection: Option<Connection>,
    padding: String,
}

impl Inserter {
    pub fn new(address: SocketAddr, name: &str, stored: &Arc<Stored>) -> Self {
        Self::padded(address, name, stored, 0)
    }

    /// Makes an inserter whose records are padded by this many bytes.
    pub fn padded(address: SocketAddr, name: &str, stored: &Arc<Stored>, bytes: usize) -> Self {
        let (name, stored, padding) = (name.to_owned(), Arc::clone(stored), "x".repeat(bytes));
        Self { address, name, stored, connection: None, padding }
    }

    /// Inserts one more record and returns whether it was acknowledged. Otherwise it was refused or the connection ended.
    pub fn insert(&mut self) -> bool {
        let data = format!("\"{}{}\"", self.stored.serial.fetch_add(1, SeqCst), self.padding);
        let body = format!("{{\"event\":\"{}\",\"data\":{data}}}", self.name);
        let request = format!("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let Some(id) = self.request(&request) else { return false };
        let mut by_name = self.stored.by_name.lock().expect("no thread panicked while holding the lock");
        let records = by_name.entry(self.name.clone()).or_default();
        assert!(records.last_key_value().is_none_or(|(last, _)| *last < id), "{id} comes after larger ones");
        records.insert(id, data);
        true
    }

    /// Sends a request and returns the id in the response, if any.
    fn request(&mut self, request: &str) -> Option<u64> {
        if self.connection.is_none() {
            self.connection = TcpStream::connect(self.address).ok().map(Connection::from_socket);
        }
        let connection = self.connection.as_mut()?;
        let sent = connection.socket.write_all(request.as_bytes());
        let response = sent.ok().and_then(|()| connection.response_or_end());
        let Some(response) = response else {
            self.connection = None;
            return None;
        };
        assert!(matches!(response.status, 200 | 503), "{response:?}");
        response.json()["id"].as_str().and_then(|id| id.parse().ok())
    }
}

/// Asserts that the broker has every record that a subscriber received: name, id and data.
pub fn assert_delivered_are_stored(broker: &Broker, delivered: &[(String, u64, Option<String>)]) {
    assert!(!delivered.is_empty(), "the subscriber received something");
    let mut by_name = BTreeMap::new();
    for (name, id, data) in delivered {
        let found = by_name.entry(name).or_insert_with(|| versions(broker, name));
        assert_eq!(found.get(id), data.as_ref(), "{name}'s {id} was delivered but isn't stored");
    }
}
