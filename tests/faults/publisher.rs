//! A publisher that records which events the broker accepted, which it refused, and which got no response.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use super::support::Connection;

/// The broker's responses to the publishers of one topic. Each event's data is unique.
#[derive(Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Default)]
pub struct Entries {
    /// Ids of accepted events.
    pub accepted: HashSet<u64>,
    /// Data of refused events.
    pub refused: HashSet<String>,
    /// Events without a response: they may have been accepted.
    pub unknown: usize,
}

impl Ledger {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no thread panicked while holding the lock")
    }

    pub fn accepted(&self) -> usize {
        self.entries().accepted.len()
    }
}

/// A publisher to one topic that reconnects when needed.
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

    /// Publishes one event; returns whether it was accepted.
    pub fn publish(&mut self, data: &str) -> bool {
        let request = request(&self.topic, data);
        let response = self.connect().and_then(|connection| send_request(connection, &request));
        let mut entries = self.ledger.entries();
        match response {
            Some((200, Some(id))) => {
                assert!(entries.accepted.insert(id), "two events have the id {id}");
                return true;
            }
            Some((503, _)) => {
                entries.refused.insert(data.to_owned());
            }
            Some(response) => panic!("unexpected response to a publish: {response:?}"),
            None => {
                entries.unknown += 1;
                self.connection = None;
            }
        }
        false
    }

    /// Returns whether the last event got a response.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            self.connection = TcpStream::connect(self.address).ok().map(Connection::from_socket);
        }
        self.connection.as_mut()
    }
}

fn request(topic: &str, data: &str) -> String {
    let head = format!("POST /publish/{topic} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{data}", data.len())
}

/// Returns the response's status and the id in its body.
fn send_request(connection: &mut Connection, request: &str) -> Option<(u16, Option<u64>)> {
    connection.socket.write_all(request.as_bytes()).ok()?;
    let response = connection.response_or_end()?;
    let id = (response.status == 200).then(|| response.json()["id"].as_str().and_then(|id| id.parse().ok())).flatten();
    Some((response.status, id))
}
