//! A subscriber that behaves like a browser's EventSource: it parses events, and when its stream ends, it waits and
//! subscribes again with the id of the last event. Unlike a browser, it also retries when the server responds with an
//! error. It blocks, so it needs a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connect_to;
use super::marker::Reader;

/// The reconnection time, unless the server says otherwise. It is that of Chromium.
const RETRY: Duration = Duration::from_secs(3);
/// How often it checks whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a subscriber has received.
#[derive(Default)]
pub struct Received {
    /// How many times each event has arrived, indexed by the event's number.
    pub times: Vec<u32>,
    /// The longest time between two events.
    pub silence: Duration,
    /// When the last event arrived.
    pub newest: Option<Instant>,
    /// Gaps that the server reported.
    pub gaps: u64,
    /// Responses that began a stream.
    pub opened: u64,
}

impl Received {
    fn add(&mut self, number: u32) {
        let (index, now) = (number as usize, Instant::now());
        if self.times.len() <= index {
            self.times.resize(index + 1, 0);
        }
        self.times[index] += 1;
        self.silence = self.silence.max(self.newest.map_or(Duration::ZERO, |newest| now - newest));
        self.newest = Some(now);
    }
}

/// A subscriber.
pub struct Browser<'a> {
    server: SocketAddr,
    /// The request for a stream without a position.
    request: String,
    position: Option<String>,
    retry: Duration,
    received: &'a Mutex<Received>,
    event: Event,
}

/// The fields of an event whose end has not arrived.
#[derive(Default)]
struct Event {
    id: Option<String>,
    name: String,
    data: String,
}

impl<'a> Browser<'a> {
    /// Creates a subscriber that adds what it receives to `received`.
    pub fn new(server: SocketAddr, request: String, received: &'a Mutex<Received>) -> Self {
        Self { server, request, position: None, retry: RETRY, received, event: Event::default() }
    }

    /// Subscribes, again and again, until told to stop.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            // Whatever the reason, a stream that ends is continued.
            let _ = self.read_stream(stop);
            self.event = Event::default();
            let end = Instant::now() + self.retry;
            while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                sleep(PATIENCE);
            }
        }
    }

    fn read_stream(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut socket = self.subscribe()?;
        let (mut body, mut text, mut bytes) = (Body::default(), Vec::new(), [0; 16 << 10]);
        while !stop.load(Ordering::Relaxed) {
            let count = match socket.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => return Err(error),
            };
            if body.take(&bytes[..count], &mut text)? {
                self.received().opened += 1;
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                self.take_line(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
            }
        }
        Ok(())
    }

    fn subscribe(&self) -> io::Result<TcpStream> {
        let mut socket = connect_to(self.server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let request = match &self.position {
            Some(id) => self.request.replacen("\r\n\r\n", &format!("\r\nLast-Event-ID: {id}\r\n\r\n"), 1),
            None => self.request.clone(),
        };
        socket.write_all(request.as_bytes())?;
        Ok(socket)
    }

    fn take_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => self.dispatch(),
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => self.event.data.push_str(value),
            "retry" => self.retry = value.parse().map_or(self.retry, Duration::from_millis),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let Event { id, name, data } = std::mem::take(&mut self.event);
        if id.is_some() {
            self.position = id;
        }
        let mut received = self.received();
        received.gaps += u64::from(name == "gap");
        Reader::default().read(data.as_bytes(), |number, _| received.add(number));
    }

    fn received(&self) -> MutexGuard<'a, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that arrives in pieces.
#[derive(Default)]
struct Body {
    raw: Vec<u8>,
    has_begun: bool,
    is_chunked: bool,
}

impl Body {
    /// Adds what these bytes contain of the body to `text`. Returns whether they complete the head.
    fn take(&mut self, bytes: &[u8], text: &mut Vec<u8>) -> io::Result<bool> {
        self.raw.extend_from_slice(bytes);
        let is_head = !self.has_begun;
        if is_head && !self.take_head()? {
            return Ok(false);
        }
        if !self.is_chunked {
            text.append(&mut self.raw);
        }
        while self.is_chunked && self.take_chunk(text)? {}
        Ok(is_head)
    }

    fn take_head(&mut self) -> io::Result<bool> {
        let Some(end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let head = String::from_utf8_lossy(&self.raw[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(io::Error::other(head));
        }
        self.is_chunked = head.contains("\r\ntransfer-encoding: chunked");
        self.has_begun = true;
        self.raw.drain(..end + 4);
        Ok(true)
    }

    /// Takes a chunk if it is complete. Fails at the last one.
    fn take_chunk(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let size = str::from_utf8(&self.raw[..line]).map_err(io::Error::other)?;
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let (begin, end) = (line + 2, line + 2 + size);
        if self.raw.len() < end + 2 {
            return Ok(false);
        }
        text.extend_from_slice(&self.raw[begin..end]);
        self.raw.drain(..end + 2);
        Ok(true)
    }
}
