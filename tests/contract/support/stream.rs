//! A subscriber: reads a stream chunk by chunk, and parses chunks into events.

use std::collections::VecDeque;
use std::time::Duration;

use super::http::Connection;

/// The end of a stream whose token has expired.
pub const EXPIRED: &str = "event: expired\ndata: {\"reason\":\"token expired\"}\n\n";
/// The event with which a stream ends when its token is revoked.
pub const REVOKED: &str = "event: expired\ndata: {\"reason\":\"token revoked\"}\n\n";

pub struct Stream {
    pub connection: Connection,
    pub head: String,
    is_chunked: bool,
    pending: VecDeque<Event>,
    unread: String,
}

/// A block of lines. Its fields are what a client would dispatch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub name: Option<String>,
    pub data: Option<String>,
    pub id: Option<String>,
    pub text: String,
}

impl Stream {
    pub fn open(mut connection: Connection, target: &str, fields: &str) -> Self {
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        Self::begin(connection)
    }

    /// Reads the response head of a stream.
    pub fn begin(mut connection: Connection) -> Self {
        let head = connection.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked\r\n");
        Self { connection, head, is_chunked, pending: VecDeque::new(), unread: String::new() }
    }

    /// Returns the next chunk as text, or the next byte of an unchunked stream; `None` at the end.
    pub fn chunk(&mut self) -> Option<String> {
        assert!(self.is_chunked, "this stream has no chunks");
        let chunk = self.connection.chunk()?;
        Some(String::from_utf8(chunk).expect("streams are UTF-8"))
    }

    /// Returns the lines of the opening chunk.
    pub fn opening(&mut self) -> String {
        self.chunk().expect("a stream opens with a chunk")
    }

    /// Returns the next block that has a field other than `retry`; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let chunk = self.chunk()?;
            self.take(&chunk);
        }
    }

    /// Returns the next event; `None` if the stream is cut off first, or nothing arrives within the limit.
    pub fn event_within(&mut self, patience: Duration) -> Option<Event> {
        // A chunk may hold less than an event; the opening does.
        while self.pending.is_empty() {
            if !self.connection.has_chunk_within(patience) {
                return None;
            }
            let chunk = self.chunk()?;
            self.take(&chunk);
        }
        self.pending.pop_front()
    }

    fn take(&mut self, chunk: &str) {
        self.unread.push_str(chunk);
        while let Some(end) = self.unread.find("\n\n") {
            let rest = self.unread.split_off(end + 2);
            let block = std::mem::replace(&mut self.unread, rest);
            self.pending.push_back(Event::parse(&block));
        }
    }

    /// Returns the next event, which must arrive.
    pub fn event(&mut self) -> Event {
        self.next().expect("an event comes before the stream ends")
    }

    /// Returns the data of this many events.
    pub fn data(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().data.expect("the event has data")).collect()
    }
}

impl Event {
    /// Parses a block of lines, including the empty line that ends it.
    pub fn parse(block: &str) -> Self {
        assert!(!block.contains('\r'), "line ends are LF only");
        let mut event = Self { text: block.to_owned(), ..Self::default() };
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "event" => event.name = Some(value.to_owned()),
                "id" => event.id = Some(value.to_owned()),
                "data" => {
                    let data = event.data.take().map_or(value.to_owned(), |data| data + "\n" + value);
                    event.data = Some(data);
                }
                _ => {}
            }
        }
        event
    }

    /// Returns the id as a number, which it is unless a publisher chose it.
    pub fn number(&self) -> u64 {
        self.id
            .as_deref()
            .and_then(|id| id.parse().ok())
            .unwrap_or_else(|| panic!("{self:?} has no id assigned by the broker"))
    }
}
