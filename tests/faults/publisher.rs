//! A publisher that keeps book: what the broker accepted, what it refused, and what it left without an answer.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use super::support::Connection;

/// What the broker said to the publishers of one topic. Each event's data is said once only.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Default)]
pub struct Entries {
    /// The ids of accepted events.
    pub accepted: HashSet<u64>,
    /// The data of refused ones.
    pub refused: HashSet<String>,
    /// Events whose answer never came: they may have been accepted.
    pub unknown: usize,
}

impl Ledger {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nobody panics with the book in hand")
    }

    pub fn accepted(&self) -> usize {
        self.entries().accepted.len()
    }
}

/// See the module's page.
pub struct Publisher {
    address: SocketAddr,
    topic: String,
    ledger: Arc<Ledger>,
    connection: Option<Connection>,
}

impl Publisher {
    pub fn new(address: SocketAddr, topic: &str, ledger: &Arc<Ledger>) -> Self {
        Self { address, topic: topic.to_owned(), ledger: Arc::clone(ledger), connection: None }
    }

    /// Publishes one event; true if it was accepted.
    pub fn publish(&mut self, data: &str) -> bool {
        let request = request(&self.topic, data);
        let answer = self.connect().and_then(|connection| ask(connection, &request));
        let mut entries = self.ledger.entries();
        match answer {
            Some((200, Some(id))) => {
                assert!(entries.accepted.insert(id), "two events have the id {id}");
                return true;
            }
            Some((503, _)) => {
                entries.refused.insert(data.to_owned());
            }
            Some(answer) => panic!("a publish is answered {answer:?}"),
            None => {
                entries.unknown += 1;
                self.connection = None;
            }
        }
        false
    }

    /// Whether the last event was answered.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            self.connection = TcpStream::connect(self.address).ok().map(Connection::over);
        }
        self.connection.as_mut()
    }
}

fn request(topic: &str, data: &str) -> String {
    let head = format!("POST /publish/{topic} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{data}", data.len())
}

/// The answer's status, and the id in it.
fn ask(connection: &mut Connection, request: &str) -> Option<(u16, Option<u64>)> {
    connection.socket.write_all(request.as_bytes()).ok()?;
    let answer = connection.response_or_end()?;
    let id = (answer.status == 200).then(|| answer.json()["id"].as_str().and_then(|id| id.parse().ok())).flatten();
    Some((answer.status, id))
}
