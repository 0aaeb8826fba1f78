//! Readers of `/events`, who reconnect to any broker, and resume there.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::balancer::Targets;
use super::super::support::Event;
use super::super::support::crowd::split_chunk;
use super::super::wait_until;

/// The longest pause before a reader reconnects, in milliseconds; chosen at random.
const RECONNECTING: std::ops::Range<u64> = 20..120;
/// A stream without a byte for this long is abandoned. The brokers of these tests send a heartbeat each second.
const SILENCE: Duration = Duration::from_secs(30);

/// What one reader has received.
#[derive(Default)]
pub struct Notes {
    /// The newest version of each name: its id and its data.
    pub newest: BTreeMap<String, (u64, usize)>,
    /// Every version, in the order in which it came: its name, id and data.
    pub seen: Vec<(String, u64, usize)>,
    /// How many events had been seen at each gap.
    pub gaps: Vec<usize>,
    pub connections: usize,
}

/// Readers in threads.
pub struct Readers {
    threads: Vec<JoinHandle<()>>,
    notes: Vec<Arc<Mutex<Notes>>>,
    is_over: Arc<AtomicBool>,
}

impl Readers {
    pub fn start(count: usize, targets: &Arc<Targets>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let notes: Vec<Arc<Mutex<Notes>>> = (0..count).map(|_| Arc::default()).collect();
        let start = |notes: &Arc<Mutex<Notes>>| {
            let reader = Reader {
                targets: Arc::clone(targets),
                notes: Arc::clone(notes),
                is_over: Arc::clone(&is_over),
                position: None,
            };
            thread::spawn(move || reader.run())
        };
        let threads = notes.iter().map(start).collect();
        Self { threads, notes, is_over }
    }

    /// Waits until the notes of each reader are so.
    pub fn await_all(&self, what: &str, is_so: impl Fn(&Notes) -> bool) {
        wait_until(what, || self.notes.iter().all(|notes| is_so(&lock(notes))));
    }

    /// Ends the readers, and returns what they have received.
    pub fn stop(self) -> Vec<Notes> {
        self.is_over.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a reader does not panic"));
        self.notes.iter().map(|notes| std::mem::take(&mut *lock(notes))).collect()
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Reader {
    targets: Arc<Targets>,
    notes: Arc<Mutex<Notes>>,
    is_over: Arc<AtomicBool>,
    position: Option<String>,
}

impl Reader {
    fn run(mut self) {
        while !self.is_over.load(Ordering::Acquire) {
            // A broker that was killed ends its streams anywhere.
            let _ = self.read_stream();
            thread::sleep(Duration::from_millis(fastrand::u64(RECONNECTING)));
        }
    }

    /// Reads one stream to its end.
    fn read_stream(&mut self) -> std::io::Result<()> {
        let Some(address) = self.targets.next() else { return Ok(()) };
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let position = self.position.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        socket.write_all(format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{position}\r\n").as_bytes())?;
        lock(&self.notes).connections += 1;
        let (mut unread, mut text, mut is_open, mut silence) = (Vec::new(), String::new(), false, Duration::ZERO);
        let mut piece = [0; 16 << 10];
        while !self.is_over.load(Ordering::Acquire) && silence < SILENCE {
            match socket.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => unread.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    silence += Duration::from_millis(200);
                    continue;
                }
                Err(error) => return Err(error),
            }
            silence = Duration::ZERO;
            is_open = is_open || drop_head(&mut unread);
            if is_open {
                take_chunks(&mut unread, &mut text);
                self.take_events(&mut text);
            }
        }
        Ok(())
    }

    fn take_events(&mut self, text: &mut String) {
        while let Some(end) = text.find("\n\n") {
            let event = Event::parse(&text[..end + 2]);
            text.drain(..end + 2);
            let mut notes = lock(&self.notes);
            let name = event.name.as_deref().expect("a record has a name");
            if name == "gap" {
                let seen = notes.seen.len();
                notes.gaps.push(seen);
                notes.newest.clear();
                continue;
            }
            let (id, number) = (event.number(), event.data.as_deref().and_then(|data| data.parse().ok()));
            let number = number.expect("data is a number");
            notes.newest.insert(name.to_owned(), (id, number));
            notes.seen.push((name.to_owned(), id, number));
            self.position.clone_from(&event.id);
        }
    }
}

/// Removes the response's head, if it is complete.
fn drop_head(unread: &mut Vec<u8>) -> bool {
    let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    assert!(unread.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(unread));
    unread.drain(..end + 4);
    true
}

fn take_chunks(unread: &mut Vec<u8>, text: &mut String) {
    let mut used = 0;
    while let Some((chunk, rest)) = split_chunk(&unread[used..]) {
        text.push_str(std::str::from_utf8(chunk).expect("streams are UTF-8"));
        used = unread.len() - rest.len();
    }
    unread.drain(..used);
}
