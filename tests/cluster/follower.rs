//! One subscriber: reads a stream, and notes what it receives. After its stream ends, it resumes at any broker.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::ledger::{Marker, TOPICS};
use super::support::Event;
use super::support::crowd::split_chunk;

/// A stream without a byte for this long is abandoned. The brokers of these tests send a heartbeat each second.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest pause before a subscriber reconnects, in milliseconds; chosen at random.
const RECONNECTING: std::ops::Range<u64> = 20..120;

/// A subscriber to one or more topics.
pub struct Follower {
    /// The indices of its topics.
    pub topics: Vec<usize>,
    /// The newest id when it first subscribed: every event after it must be received.
    pub begin: u64,
    /// What it has received.
    pub seen: Vec<Seen>,
    /// Streams opened.
    pub connections: usize,
    /// Streams abandoned because they were silent.
    pub silences: usize,
    position: Option<String>,
    socket: Option<mio::net::TcpStream>,
    is_open: bool,
    has_ended: bool,
    unread: Vec<u8>,
    text: String,
    last_byte: Instant,
    retry_at: Instant,
}

/// What a subscriber has received.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// An event, and its id unless the publisher chose one.
    Event(Marker, Option<u64>),
    /// A gap.
    Gap,
}

/// What one call of [`Follower::read`] has brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    /// Streams that were opened.
    pub openings: usize,
    pub is_primed: bool,
    pub events: usize,
    pub gaps: usize,
    pub heartbeats: usize,
}

impl Follower {
    pub fn new(topics: Vec<usize>) -> Self {
        let now = Instant::now();
        Self {
            topics,
            begin: 0,
            seen: Vec::new(),
            connections: 0,
            silences: 0,
            position: None,
            socket: None,
            is_open: false,
            has_ended: false,
            unread: Vec::new(),
            text: String::new(),
            last_byte: now,
            retry_at: now,
        }
    }

    /// Returns whether it has received one of these events for each of its topics.
    pub fn has_all(&self, finals: &[Marker]) -> bool {
        let mut owed = finals.iter().filter(|marker| self.topics.contains(&marker.topic()));
        // The final events are the newest.
        let newest = &self.seen[self.seen.len().saturating_sub(4 * TOPICS.len())..];
        owed.all(|marker| newest.iter().any(|seen| matches!(seen, Seen::Event(other, _) if other == marker)))
    }

    /// Returns the number of gaps.
    pub fn gaps(&self) -> usize {
        self.seen.iter().filter(|seen| matches!(seen, Seen::Gap)).count()
    }

    /// Connects if it is not connected and its pause is over.
    pub fn connect(&mut self, registry: &Registry, token: Token, address: impl Fn() -> Option<SocketAddr>) {
        let now = Instant::now();
        if self.socket.is_some() && now.duration_since(self.last_byte) > SILENCE {
            self.silences += 1;
            self.disconnect();
        }
        if self.socket.is_none() && self.retry_at <= now {
            self.disconnect();
            self.socket = address().and_then(|address| self.request(address));
            if let Some(socket) = &mut self.socket {
                registry.register(socket, token, Interest::READABLE).expect("a socket can be polled");
                self.connections += 1;
            }
        }
    }

    fn request(&self, address: SocketAddr) -> Option<mio::net::TcpStream> {
        let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        let names: Vec<_> = self.topics.iter().map(|topic| TOPICS[*topic]).collect();
        let position = self.position.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let target = format!("/subscribe/{}?prime", names.join(","));
        socket.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{position}\r\n").as_bytes()).ok()?;
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        Some(mio::net::TcpStream::from_std(socket))
    }

    fn disconnect(&mut self) {
        self.socket = None;
        (self.is_open, self.has_ended) = (false, false);
        self.unread.clear();
        self.text.clear();
        self.last_byte = Instant::now();
        self.retry_at = Instant::now() + Duration::from_millis(fastrand::u64(RECONNECTING));
    }

    /// Reads all that is there.
    pub fn read(&mut self, scratch: &mut [u8]) -> News {
        let mut news = News::default();
        while let Some(socket) = &mut self.socket {
            match socket.read(scratch) {
                Ok(count @ 1..) => {
                    self.last_byte = Instant::now();
                    self.take(&scratch[..count], &mut news);
                    // A proxy keeps the connection open after the last chunk.
                    if self.has_ended {
                        self.disconnect();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.disconnect(),
            }
        }
        news
    }

    fn take(&mut self, bytes: &[u8], news: &mut News) {
        self.unread.extend_from_slice(bytes);
        if !self.is_open {
            let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            assert!(self.unread.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.unread));
            self.is_open = true;
            news.openings += 1;
            self.unread.drain(..end + 4);
        }
        let mut used = 0;
        while let Some((chunk, rest)) = split_chunk(&self.unread[used..]) {
            news.heartbeats += usize::from(chunk == b":\n");
            self.has_ended |= chunk.is_empty();
            self.text.push_str(std::str::from_utf8(chunk).expect("streams are UTF-8"));
            used = self.unread.len() - rest.len();
        }
        self.unread.drain(..used);
        while let Some(end) = self.text.find("\n\n") {
            let event = Event::parse(&self.text[..end + 2]);
            self.text.drain(..end + 2);
            self.note(&event, news);
        }
    }

    fn note(&mut self, event: &Event, news: &mut News) {
        match (event.name.as_deref(), &event.data) {
            (None, None) => {
                self.begin = event.number();
                self.position.clone_from(&event.id);
                news.is_primed = true;
            }
            (None, Some(data)) => {
                let marker = Marker::parse(data);
                let id = event.id.as_deref().expect("an event has an id");
                let is_own = id == marker.own_id();
                self.seen.push(Seen::Event(marker, (!is_own).then(|| event.number())));
                self.position.clone_from(&event.id);
                news.events += 1;
            }
            (Some("gap"), _) => {
                self.seen.push(Seen::Gap);
                news.gaps += 1;
            }
            _ => panic!("unexpected event: {event:?}"),
        }
    }
}
