//! Thousands of subscribers on one poll. Each checks that the numbers it receives ascend with nothing lost or duplicated,
//! unless a `gap` event came before.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Interest, Poll, Token};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::TIMEOUT;
use super::stream::{EXPIRED, REVOKED};

/// Connections opened before the responses are read. The listen backlog holds more than this.
const BATCH: usize = 500;

/// A set of subscribers, driven by the thread that calls it.
pub struct Crowd {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    members: Vec<Member>,
}

/// The numbers of one publisher.
#[derive(Clone, Copy, Default)]
struct Sequence {
    last: Option<u64>,
    /// Whether the next number may skip some.
    may_jump: bool,
}

/// A subscriber to events whose data is `<number>` or `<number>@<publisher>`, optionally followed by a space and padding.
#[derive(Default)]
pub struct Member {
    socket: Option<mio::net::TcpStream>,
    unread: Vec<u8>,
    /// Whether the response head has been read.
    pub is_open: bool,
    sequences: Vec<Sequence>,
    /// Numbered events received.
    pub received: usize,
    /// Gap events received.
    pub gaps: usize,
    /// Heartbeats received.
    pub heartbeats: usize,
    /// Whether an `expired` event has been received.
    pub is_expired: bool,
    /// Whether the last chunk has been received.
    pub has_ended: bool,
    /// When the last chunk was read.
    pub ended_at: Option<SystemTime>,
    /// Whether the connection has been closed.
    pub is_closed: bool,
}

impl Crowd {
    pub fn new() -> Self {
        let poll = Poll::new().expect("a poll can be made");
        Self { poll, events: Events::with_capacity(4096), scratch: vec![0; 256 << 10], members: Vec::new() }
    }

    pub fn members(&self, range: Range<usize>) -> &[Member] {
        &self.members[range]
    }

    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// Adds this many subscribers and returns their indices. Each has received its opening when this returns.
    pub fn join(&mut self, address: SocketAddr, count: usize, target: impl Fn(usize) -> String) -> Range<usize> {
        let begin = self.members.len();
        while self.members.len() < begin + count {
            let first = self.members.len();
            let batch = BATCH.min(begin + count - first);
            for index in first..first + batch {
                let socket = TcpStream::connect(address).expect("the broker accepts");
                self.add(socket, &target(index - begin));
            }
            for index in first..first + batch {
                self.start_reading(index);
            }
            self.read_until("opened", |crowd| crowd.members[first..].iter().all(|member| member.is_open));
        }
        begin..self.members.len()
    }

    /// Adds this many subscribers that read nothing before [`Crowd::start_reading`].
    pub fn join_paused(&mut self, count: usize, target: &str, connect: impl Fn() -> TcpStream) -> Range<usize> {
        let begin = self.members.len();
        for _ in 0..count {
            self.add(connect(), target);
        }
        begin..self.members.len()
    }

    fn add(&mut self, mut socket: TcpStream, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("a request fits in the buffer");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let socket = mio::net::TcpStream::from_std(socket);
        self.members.push(Member { socket: Some(socket), ..Member::default() });
    }

    /// Makes this subscriber read from now on.
    pub fn start_reading(&mut self, index: usize) {
        let socket = self.members[index].socket.as_mut().expect("the member is connected");
        self.poll.registry().register(socket, Token(index), Interest::READABLE).expect("a socket can be polled");
    }

    /// Disconnects these subscribers.
    pub fn disconnect(&mut self, range: Range<usize>) {
        self.members[range].iter_mut().for_each(|member| member.socket = None);
    }

    /// Reads until the condition holds.
    pub fn read_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut progress = Instant::now();
        while !is_so(self) {
            if self.read_once(Duration::from_millis(50)) {
                progress = Instant::now();
            }
            assert!(progress.elapsed() < TIMEOUT, "never {what}: {}", self.summary());
        }
    }

    /// Reads for this long.
    pub fn read_for(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.read_once(Duration::from_millis(20));
        }
    }

    /// Reads once from each readable socket, so that no subscriber falls behind because of another.
    fn read_once(&mut self, timeout: Duration) -> bool {
        let Self { poll, events, scratch, members } = self;
        poll.poll(events, Some(timeout)).expect("the poll works");
        let mut ready: Vec<usize> = events.iter().map(|event| event.token().0).collect();
        let has_progress = !ready.is_empty();
        while !ready.is_empty() {
            ready.retain(|&index| members[index].read(scratch));
        }
        has_progress
    }

    fn summary(&self) -> String {
        let sum = |part: fn(&Member) -> usize| self.members.iter().map(part).sum::<usize>();
        let fewest = self.members.iter().map(|member| member.received).min();
        format!(
            "{} members, {} open, {} closed, {} gaps, {} received, {fewest:?} at least",
            self.members.len(),
            sum(|member| usize::from(member.is_open)),
            sum(|member| usize::from(member.is_closed)),
            sum(|member| member.gaps),
            sum(|member| member.received),
        )
    }
}

impl Member {
    /// The last number of the first publisher.
    pub fn last(&self) -> Option<u64> {
        self.sequences.first().and_then(|sequence| sequence.last)
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self, scratch: &mut [u8]) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        match socket.read(scratch) {
            Ok(0) => self.is_closed = true,
            Ok(count) => {
                self.parse(&scratch[..count]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_closed = true,
            Err(error) => panic!("{error}"),
        }
        false
    }

    fn parse(&mut self, fresh: &[u8]) {
        let mut joined = std::mem::take(&mut self.unread);
        let mut bytes = fresh;
        if !joined.is_empty() {
            joined.extend_from_slice(fresh);
            bytes = &joined;
        }
        if !self.is_open {
            let Some(end) = find(bytes, b"\r\n\r\n") else { return self.unread = bytes.to_vec() };
            assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(bytes));
            self.is_open = true;
            bytes = &bytes[end + 4..];
        }
        while let Some((chunk, rest)) = split_chunk(bytes) {
            self.take_chunk(chunk);
            bytes = rest;
        }
        self.unread = bytes.to_vec();
    }

    fn take_chunk(&mut self, chunk: &[u8]) {
        if let Some(data) = chunk.strip_prefix(b"data: ") {
            let (number, rest) = number(data);
            let sequence = rest.strip_prefix(b"@").map_or(0, |rest| self::number(rest).0);
            self.take_number(number, sequence as usize);
        } else if chunk.starts_with(b"event: gap\n") {
            self.gaps += 1;
            self.sequences.iter_mut().for_each(|sequence| sequence.may_jump = true);
        } else if chunk == EXPIRED.as_bytes() || chunk == REVOKED.as_bytes() {
            self.is_expired = true;
        } else if chunk.is_empty() {
            self.has_ended = true;
            self.ended_at = Some(SystemTime::now());
        } else if chunk == b":\n" {
            self.heartbeats += 1;
        } else {
            assert!(chunk.starts_with(b":\nretry: "), "{}", String::from_utf8_lossy(chunk));
        }
    }

    fn take_number(&mut self, number: u64, sequence: usize) {
        if self.sequences.len() <= sequence {
            self.sequences.resize(sequence + 1, Sequence::default());
        }
        let sequence = &mut self.sequences[sequence];
        if let (Some(last), false) = (sequence.last, sequence.may_jump) {
            assert_eq!(number, last + 1, "after {} events and {} gaps", self.received, self.gaps);
        }
        assert!(sequence.last < Some(number), "{number} after {:?}", sequence.last);
        *sequence = Sequence { last: Some(number), may_jump: false };
        self.received += 1;
    }
}

/// Returns the data of the first chunk, if it is complete, and the bytes after it.
pub fn split_chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = bytes.iter().take(10).position(|&byte| byte == b'\n')?;
    let digits = std::str::from_utf8(&bytes[..line - 1]).expect("a chunk size is ASCII");
    let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is not a chunk size"));
    let rest = &bytes[line + 1..];
    if rest.len() < size + 2 {
        return None;
    }
    assert_eq!(&rest[size..size + 2], b"\r\n", "a chunk ends with CRLF");
    Some((&rest[..size], &rest[size + 2..]))
}

/// Returns the number at the beginning, and the bytes after it.
fn number(data: &[u8]) -> (u64, &[u8]) {
    let digits = data.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(data.len());
    let value = data[..digits].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (value, &data[digits..])
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Opens a connection that buffers only a few kilobytes of unread data.
pub fn connect_small(address: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket can be made");
    sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a buffer can be small");
    rustix::net::connect(&socket, &address).expect("the broker accepts");
    socket.into()
}
