//! A client connection that sends bytes unchanged, and parses responses strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::TIMEOUT;

pub struct Connection {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

/// A response with its whole body, chunks joined.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// Makes a response to HEAD.
    pub fn without_body(head: String) -> Self {
        Self { status: status(&head), head, body: Vec::new() }
    }

    /// Returns a field's value; names are case-insensitive.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::from_socket(TcpStream::connect(address).expect("the broker accepts"))
    }

    pub fn from_socket(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        // Unix sockets have no such option.
        let _ = socket.set_nodelay(true);
        Self { socket, buffer: Vec::new() }
    }

    /// Sends bytes. Ignores a closed connection, because reading will show it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref());
    }

    pub fn shutdown_write(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads one response to a request that was not HEAD.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let mut response = Response::without_body(head);
        if response.field("Transfer-Encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.field("Content-Length") {
            response.body = self.take(length.parse().expect("a length is a number"));
        } else if response.status != 204 && response.status >= 200 {
            response.body = self.read_to_end();
        }
        response
    }

    /// Reads one response, or returns `None` if the connection ends before it is complete.
    pub fn response_or_end(&mut self) -> Option<Response> {
        while !self.has_whole_response() {
            if !self.fill() {
                return None;
            }
        }
        Some(self.response())
    }

    fn has_whole_response(&self) -> bool {
        let Some(end) = position(&self.buffer, b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&self.buffer[..end + 2]).into_owned();
        let length = Response::without_body(head).field("Content-Length").and_then(|length| length.parse().ok());
        self.buffer.len() >= end + 4 + length.unwrap_or(0)
    }

    /// Waits for a complete chunk. Returns false if the connection ends first, or nothing arrives within the limit.
    pub fn has_chunk_within(&mut self, patience: Duration) -> bool {
        loop {
            let size = position(&self.buffer, b"\r\n").map(|end| (end, String::from_utf8_lossy(&self.buffer[..end])));
            let whole = size.and_then(|(end, text)| Some(end + 4 + usize::from_str_radix(&text, 16).ok()?));
            if whole.is_some_and(|whole| self.buffer.len() >= whole) {
                return true;
            }
            if self.has_nothing_for(patience) || !self.fill() {
                return false;
            }
        }
    }

    /// Reads the next response that isn't 100 (Continue).
    pub fn final_response(&mut self) -> Response {
        loop {
            let response = self.response();
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// Reads only a response head, with its last CRLF but without the empty line.
    pub fn head(&mut self) -> String {
        let end = self.find(b"\r\n\r\n");
        let head = self.take(end + 4);
        String::from_utf8(head[..end + 2].to_vec()).expect("heads are ASCII")
    }

    /// Reads the next chunk's data; `None` for the last chunk.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.find(b"\r\n");
        let line = self.take(end + 2);
        let size = std::str::from_utf8(&line[..end]).expect("a chunk size is ASCII");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?} is not a chunk size"));
        let data = self.take(size);
        assert_eq!(self.take(2), b"\r\n", "a chunk ends with CRLF");
        (size > 0).then_some(data)
    }

    /// Reads until the peer closes the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Returns whether the peer has closed the connection without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    /// Returns whether nothing arrives for this long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.buffer.is_empty() && self.has_nothing_for(time)
    }

    fn has_nothing_for(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("a timeout can be set");
        let peeked = uninterrupted(|| self.socket.peek(&mut [0]));
        self.socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        peeked.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Reads until this many bytes are buffered, and leaves them in the buffer.
    pub fn buffer_bytes(&mut self, count: usize) {
        while self.buffer.len() < count {
            assert!(self.fill(), "the connection ended early, after {} bytes", self.buffer.len());
        }
    }

    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "the connection ended early, after {:?}", beginning(&self.buffer));
        }
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn find(&mut self, needle: &[u8]) -> usize {
        loop {
            if let Some(at) = position(&self.buffer, needle) {
                return at;
            }
            assert!(self.fill(), "the connection ended early, after {:?}", beginning(&self.buffer));
        }
    }

    /// Reads once; returns false at the end.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        match uninterrupted(|| self.socket.read(&mut bytes)) {
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}, after {:?}", beginning(&self.buffer)),
        }
    }
}

/// Retries a call that was interrupted, as happens to reads with a timeout when a suspended machine resumes.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn status(head: &str) -> u16 {
    let word = head.split(' ').nth(1).unwrap_or_else(|| panic!("{head:?} has no status"));
    word.parse().unwrap_or_else(|_| panic!("{head:?} has no status"))
}

/// Returns as much of the bytes as a failure message needs.
fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
