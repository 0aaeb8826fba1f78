//! A subscriber that resumes whenever its stream breaks and records everything it receives. In the end, every accepted event
//! must have been received once and in order, or reported as gone by a `gap` event. Independent of the fault.

use std::collections::HashSet;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::publisher::{Ledger, Publisher};
use super::support::crowd::split_chunk;
use super::support::{Event, TIMEOUT};

/// The data of the event after which the oracle judges.
const LAST: &str = "the last one";

/// After this long without a byte, the oracle reconnects, as clients that rely on heartbeats do: the brokers in these tests
/// send one every second or two.
const SILENCE: Duration = Duration::from_secs(15);

/// A stream must be available again within this time, whatever the fault. Longer than a cable stays unplugged.
const LONGEST: Duration = Duration::from_secs(400);

/// How the oracle reads.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Everything available, immediately.
    Eager,
    /// This many bytes, followed by a pause.
    Slow(usize, Duration),
    /// Reconnects after this many bytes.
    Fickle(usize),
}

/// A running oracle.
pub struct Oracle {
    address: Arc<Mutex<SocketAddr>>,
    topic: String,
    ledger: Arc<Ledger>,
    thread: JoinHandle<Journal>,
}

/// The oracle's result.
pub struct Verdict {
    pub accepted: usize,
    pub received: usize,
    pub gaps: usize,
    /// Accepted events that a gap reported as gone.
    pub announced: usize,
    pub connections: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, received, gaps, announced, connections } = self;
        write!(f, "{received} of {accepted} received, {announced} announced by {gaps} gaps, {connections} connections")
    }
}

/// The parts of a stream that matter to the oracle.
enum Note {
    Event { id: u64, data: String },
    Gap { after: u64, oldest: Option<u64> },
}

#[derive(Default)]
struct Journal {
    /// Notified when the stream is primed.
    primed: Option<Sender<()>>,
    /// Every event after this id must be received.
    begin: u64,
    last: u64,
    notes: Vec<Note>,
    connections: usize,
    has_ended: bool,
}

impl Oracle {
    /// Subscribes. Every event accepted after this returns must be received.
    pub fn start(address: SocketAddr, topic: &str, ledger: &Arc<Ledger>, pace: Pace) -> Self {
        let (primed, is_primed) = bounded(1);
        let shared = Arc::new(Mutex::new(address));
        let (current, name) = (Arc::clone(&shared), topic.to_owned());
        let thread = thread::spawn(move || {
            let mut journal = Journal { primed: Some(primed), ..Journal::default() };
            let mut progress = Instant::now();
            while !journal.has_ended {
                let address = *current.lock().expect("no thread panicked while holding the lock");
                if visit(&mut journal, address, &name, pace).is_some() {
                    progress = Instant::now();
                } else {
                    thread::sleep(Duration::from_millis(20));
                }
                assert!(progress.elapsed() < LONGEST, "no stream of {name} can be opened");
            }
            journal
        });
        assert!(is_primed.recv_timeout(TIMEOUT).is_ok(), "the oracle never subscribed");
        Self { address: shared, topic: topic.to_owned(), ledger: Arc::clone(ledger), thread }
    }

    /// Reconnects to a restarted broker at another address.
    pub fn reconnect_to(&self, address: SocketAddr) {
        *self.address.lock().expect("no thread panicked while holding the lock") = address;
    }

    /// Publishes a last event, waits for it, and judges.
    pub fn judge(self) -> Verdict {
        let address = *self.address.lock().expect("no thread panicked while holding the lock");
        let mut publisher = Publisher::new(address, &self.topic, &self.ledger);
        let begin = Instant::now();
        while !publisher.publish(LAST) {
            assert!(begin.elapsed() < TIMEOUT, "the last event is never accepted");
            thread::sleep(Duration::from_millis(20));
        }
        let journal = self.thread.join().expect("the oracle reads to the end");
        journal.judge(&self.ledger)
    }
}

/// Reads one connection until it ends; returns `None` if none could be opened.
fn visit(journal: &mut Journal, address: SocketAddr, topic: &str, pace: Pace) -> Option<()> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let position = if journal.begin > 0 { format!("Last-Event-ID: {}\r\n", journal.last) } else { String::new() };
    let request = format!("GET /subscribe/{topic}?prime HTTP/1.1\r\nHost: h\r\n{position}\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    journal.connections += 1;
    let (mut reader, mut buffer) = (Reader::default(), vec![0; 64 << 10]);
    let (mut total, mut news) = (0, Instant::now());
    while !journal.has_ended {
        let limit = match pace {
            Pace::Eager => buffer.len(),
            Pace::Slow(bytes, pause) => {
                thread::sleep(pause);
                bytes
            }
            Pace::Fickle(bytes) if total >= bytes && journal.begin > 0 => break,
            Pace::Fickle(_) => 512,
        };
        match socket.read(&mut buffer[..limit]) {
            Ok(0) => break,
            Ok(count) => {
                total += count;
                news = Instant::now();
                reader.take(&buffer[..count], |event| journal.note(event));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if news.elapsed() > SILENCE {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    reader.is_open.then_some(())
}

impl Journal {
    fn note(&mut self, event: &Event) {
        match event.name.as_deref() {
            None if event.data.is_none() => {
                self.begin = event.number();
                self.last = self.begin;
                self.primed.take().into_iter().for_each(|primed| primed.send(()).expect("the receiver waits"));
            }
            None => self.note_event(event),
            Some("gap") => self.note_gap(event.data.as_deref().unwrap_or_default()),
            Some(other) => panic!("an event is named {other}"),
        }
    }

    fn note_event(&mut self, event: &Event) {
        let (id, data) = (event.number(), event.data.clone().unwrap_or_default());
        assert!(id > self.last, "{id} after {}", self.last);
        self.last = id;
        self.has_ended = data == LAST;
        self.notes.push(Note::Event { id, data });
    }

    fn note_gap(&mut self, data: &str) {
        let gap: serde_json::Value = serde_json::from_str(data).expect("a gap is JSON");
        let number = |member: &str| gap[member].as_str().and_then(|id| id.parse().ok());
        let after = number("after").expect("a gap begins somewhere");
        assert!(after <= self.last, "a gap after {after} omits events that follow {}", self.last);
        self.notes.push(Note::Gap { after, oldest: number("oldest") });
    }

    /// Returns the ids that gaps reported as gone, as ranges that exclude both ends.
    fn gone(&self) -> Vec<(u64, u64)> {
        let mut next = u64::MAX;
        let mut gone = Vec::new();
        for note in self.notes.iter().rev() {
            match note {
                Note::Event { id, .. } => next = *id,
                Note::Gap { after, oldest } => gone.push((*after, oldest.unwrap_or(next))),
            }
        }
        gone
    }

    fn judge(&self, ledger: &Ledger) -> Verdict {
        let (entries, gone) = (ledger.entries(), self.gone());
        let mut received = HashSet::new();
        for note in &self.notes {
            let Note::Event { id, data } = note else { continue };
            received.insert(*id);
            assert!(!entries.refused.contains(data), "{data} was refused, and delivered");
        }
        // Events after the oracle's last one belong to other oracles of the topic.
        let owed = entries.accepted.iter().filter(|id| (self.begin + 1..=self.last).contains(id));
        let missing: Vec<u64> = owed.filter(|id| !received.contains(*id)).copied().collect();
        let lost = missing.iter().find(|id| !gone.iter().any(|(after, oldest)| after < *id && *id < oldest));
        assert_eq!(lost, None, "accepted, but neither delivered nor reported by a gap; {} are missing", missing.len());
        Verdict {
            accepted: entries.accepted.len(),
            received: received.len(),
            gaps: gone.len(),
            announced: missing.len(),
            connections: self.connections,
        }
    }
}

/// Parses a stream's bytes into events.
#[derive(Default)]
struct Reader {
    unread: Vec<u8>,
    is_open: bool,
    text: String,
}

impl Reader {
    fn take(&mut self, bytes: &[u8], mut report: impl FnMut(&Event)) {
        self.unread.extend_from_slice(bytes);
        if !self.is_open {
            let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            assert!(self.unread.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.unread));
            self.is_open = true;
            self.unread.drain(..end + 4);
        }
        let mut rest = self.unread.as_slice();
        while let Some((chunk, after)) = split_chunk(rest) {
            self.text.push_str(std::str::from_utf8(chunk).expect("streams are UTF-8"));
            rest = after;
        }
        self.unread = rest.to_vec();
        while let Some(end) = self.text.find("\n\n") {
            report(&Event::parse(&self.text[..end + 2]));
            self.text.drain(..end + 2);
        }
    }
}
