//! Publishers that reconnect through a balancer and note every answer. An event with an id of its own is repeated until its
//! outcome is known.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::ledger::{Ledger, Marker, TOPICS};
use super::support::Connection;

/// After this many publishes a publisher reconnects, so that each of them uses every broker.
const PER_CONNECTION: usize = 16;
/// The pause before an event whose outcome is unknown is repeated.
const BEFORE_REPEATING: Duration = Duration::from_millis(50);

/// The answer to a publish.
#[derive(Debug)]
pub enum Answer {
    /// The id of the last event.
    Accepted(u64),
    /// Status 503, and its detail: nothing was published.
    Refused(String),
    /// Status 504.
    TimedOut,
    /// No whole answer.
    Broken,
}

/// Publishes one body after the other.
pub struct Publisher {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    connection: Option<Connection>,
    sent: usize,
}

impl Publisher {
    pub fn new(address: SocketAddr, ledger: &Arc<Ledger>) -> Self {
        Self { address, ledger: Arc::clone(ledger), connection: None, sent: 0 }
    }

    /// Publishes one event; returns its marker if it was accepted.
    pub fn publish(&mut self, topic: usize) -> Option<Marker> {
        self.publish_many(topic, 1).first().copied()
    }

    /// Publishes one event with a comment of this many bytes; returns its marker if it was accepted.
    pub fn publish_large(&mut self, topic: usize, bytes: usize) -> Option<Marker> {
        let marker = self.ledger.marker(topic);
        let body = format!(": {}\ndata: {}\n\n", "x".repeat(bytes), marker.data());
        let answer = self.send(topic, &body);
        self.note(&[marker], &answer);
        matches!(answer, Answer::Accepted(_)).then_some(marker)
    }

    /// Publishes events in one body; returns their markers if they were accepted.
    pub fn publish_many(&mut self, topic: usize, count: usize) -> Vec<Marker> {
        let markers: Vec<Marker> = (0..count).map(|_| self.ledger.marker(topic)).collect();
        let body: String = markers.iter().map(|marker| format!("data: {}\n\n", marker.data())).collect();
        let answer = self.send(topic, &body);
        self.note(&markers, &answer);
        if matches!(answer, Answer::Accepted(_)) { markers } else { Vec::new() }
    }

    fn note(&self, markers: &[Marker], answer: &Answer) {
        let mut entries = self.ledger.entries();
        match answer {
            // The events of a body have consecutive ids.
            Answer::Accepted(last) => entries.accepted.extend(markers.iter().rev().copied().zip((0..=*last).rev())),
            Answer::Refused(detail) => {
                entries.refused.extend(markers);
                entries.refusal.clone_from(detail);
            }
            Answer::TimedOut | Answer::Broken => entries.unknown.extend(markers),
        }
    }

    /// Publishes an event with an id of its own, and repeats it while its outcome is unknown.
    pub fn publish_with_id(&mut self, topic: usize) {
        let marker = self.ledger.marker(topic);
        let body = format!("data: {}\nid: {}\n\n", marker.data(), marker.own_id());
        let (begin, mut is_first) = (Instant::now(), true);
        loop {
            let answer = self.send(topic, &body);
            match answer {
                // After an attempt whose outcome is unknown, a refusal says nothing about that one.
                Answer::Refused(_) if !is_first => {}
                Answer::TimedOut | Answer::Broken => {}
                Answer::Accepted(_) | Answer::Refused(_) => {
                    self.note(&[marker], &answer);
                    return;
                }
            }
            is_first = false;
            assert!(begin.elapsed() < PATIENCE, "the outcome of {marker:?} is never known: {answer:?}");
            thread::sleep(BEFORE_REPEATING);
        }
    }

    fn send(&mut self, topic: usize, body: &str) -> Answer {
        self.sent += 1;
        if self.sent.is_multiple_of(PER_CONNECTION) {
            self.connection = None;
        }
        let answer = self.exchange(topic, body);
        if answer.is_none() {
            self.connection = None;
        }
        answer.unwrap_or(Answer::Broken)
    }

    fn exchange(&mut self, topic: usize, body: &str) -> Option<Answer> {
        let connection = self.connect()?;
        let head = format!("POST /publish/{} HTTP/1.1\r\nHost: localhost\r\n", TOPICS[topic]);
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        connection.socket.write_all(request.as_bytes()).ok()?;
        let response = connection.response_or_end()?;
        match response.status {
            200 => {
                let json = response.json();
                self.ledger.entries().duplicates += usize::from(json["duplicate"] == true);
                let id = json["id"].as_str().and_then(|id| id.parse().ok());
                Some(Answer::Accepted(id.unwrap_or_else(|| panic!("{json} has no id"))))
            }
            503 => {
                assert!(response.field("Retry-After").is_some(), "{}", response.head);
                Some(Answer::Refused(response.json()["detail"].as_str().expect("an error has a detail").to_owned()))
            }
            504 => {
                self.ledger.entries().timeouts += 1;
                Some(Answer::TimedOut)
            }
            // From a proxy: the connection to the broker failed.
            502 => Some(Answer::Broken),
            _ => panic!("unexpected answer to a publish: {response:?}"),
        }
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            let connection = Connection::from_socket(TcpStream::connect(self.address).ok()?);
            connection.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            self.connection = Some(connection);
        }
        self.connection.as_mut()
    }
}

/// Publishers that publish until they are stopped.
pub struct Publishers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    /// Starts this many, each with a pause between its publishes.
    pub fn start(count: usize, pause: Duration, address: SocketAddr, ledger: &Arc<Ledger>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let spawn = |index: usize| {
            let (mut publisher, is_over) = (Publisher::new(address, ledger), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut turn = index;
                while !is_over.load(Ordering::SeqCst) {
                    publish_in_turn(&mut publisher, index % TOPICS.len(), turn);
                    turn += 1;
                    thread::sleep(pause);
                }
            })
        };
        let threads = (0..count).map(spawn).collect();
        Self { is_over, threads }
    }

    /// Stops them. The outcome of each event that has an id of its own is known when this returns.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

fn publish_in_turn(publisher: &mut Publisher, topic: usize, turn: usize) {
    match turn % 4 {
        0 => drop(publisher.publish_many(topic, 3)),
        1 | 3 => publisher.publish_with_id(topic),
        _ => drop(publisher.publish(topic)),
    }
}
