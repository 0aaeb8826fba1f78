//! Writers that insert records through a balancer, and note every answer.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::support::Connection;
use super::super::{PATIENCE, wait_until};

/// The names of the records.
pub const NAMES: [&str; 5] = ["user", "user2", "größe ☂", "a/b c", "order"];
/// After this many inserts a writer reconnects, so that each of them uses every broker.
const PER_CONNECTION: usize = 16;
/// The pause of a writer between its inserts.
const PAUSE: Duration = Duration::from_millis(20);

/// What the writers have been told. Each record's data is a number of its own.
#[derive(Default)]
pub struct Ledger {
    next: AtomicUsize,
    outcomes: Mutex<BTreeMap<usize, Outcome>>,
}

/// What is known of an insert: the name of its record, and the answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub answer: Answer,
}

/// The answer to an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Status 200, and the record's id.
    Stored(u64),
    /// Status 503, and its detail: nothing was stored.
    Refused(String),
    /// Status 504, or no whole answer.
    Unknown,
}

impl Ledger {
    pub fn outcomes(&self) -> MutexGuard<'_, BTreeMap<usize, Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many inserts got such an answer.
    pub fn count(&self, is_counted: impl Fn(&Answer) -> bool) -> usize {
        self.outcomes().values().filter(|outcome| is_counted(&outcome.answer)).count()
    }

    /// Waits until this many more records are stored.
    pub fn await_stored(&self, more: usize) {
        let stored = || self.count(|answer| matches!(answer, Answer::Stored(_)));
        let before = stored();
        wait_until("stored again", || stored() >= before + more);
    }

    /// Waits until this many more inserts are refused.
    pub fn await_refused(&self, more: usize) {
        let refused = || self.count(|answer| matches!(answer, Answer::Refused(_)));
        let before = refused();
        wait_until("refused", || refused() >= before + more);
    }
}

/// One writer.
pub struct Writer {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    connection: Option<Connection>,
    sent: usize,
}

impl Writer {
    pub fn new(address: SocketAddr, ledger: &Arc<Ledger>) -> Self {
        Self { address, ledger: Arc::clone(ledger), connection: None, sent: 0 }
    }

    /// Inserts one record, and notes and returns the answer.
    pub fn insert(&mut self, name: &'static str) -> Answer {
        let number = self.ledger.next.fetch_add(1, Ordering::Relaxed);
        self.sent += 1;
        if self.sent.is_multiple_of(PER_CONNECTION) {
            self.connection = None;
        }
        let answer = self.exchange(name, number).unwrap_or_else(|| {
            self.connection = None;
            Answer::Unknown
        });
        self.ledger.outcomes().insert(number, Outcome { name, answer: answer.clone() });
        answer
    }

    fn exchange(&mut self, name: &str, number: usize) -> Option<Answer> {
        if self.connection.is_none() {
            let socket = TcpStream::connect(self.address).ok()?;
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
            self.connection = Some(Connection::from_socket(socket));
        }
        let connection = self.connection.as_mut()?;
        let body = format!("{{\"event\":\"{name}\",\"data\":{number}}}");
        let head = format!("POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.socket.write_all((head + &body).as_bytes()).ok()?;
        let response = connection.response_or_end()?;
        let json = response.json();
        match response.status {
            200 => Some(Answer::Stored(json["id"].as_str()?.parse().ok()?)),
            503 => {
                assert!(response.field("Retry-After").is_some(), "{}", response.head);
                Some(Answer::Refused(json["detail"].as_str()?.to_owned()))
            }
            504 => Some(Answer::Unknown),
            status => panic!("status {status}: {json}"),
        }
    }
}

/// Writers in threads.
pub struct Writers {
    threads: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Writers {
    /// Starts this many writers, who insert each name in turn.
    pub fn start(count: usize, address: SocketAddr, ledger: &Arc<Ledger>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |first: usize| {
            let (mut writer, is_over) = (Writer::new(address, ledger), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut names = NAMES.into_iter().cycle().skip(first);
                while let (false, Some(name)) = (is_over.load(Ordering::Acquire), names.next()) {
                    writer.insert(name);
                    thread::sleep(PAUSE);
                }
            })
        };
        Self { threads: (0..count).map(start).collect(), is_over }
    }

    pub fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer does not panic"));
    }
}
