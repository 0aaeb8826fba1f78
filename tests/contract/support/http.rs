//! A client connection: sends bytes as they are, and reads answers by the book.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

pub struct Connection {
    pub socket: TcpStream,
    buffer: Vec<u8>,
}

/// An answer with its whole body, chunks joined.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// An answer to HEAD.
    pub fn without_body(head: String) -> Self {
        Self { status: status(&head), head, body: Vec::new() }
    }

    /// A field's value; names are compared without regard to case.
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
        Self::over(TcpStream::connect(address).expect("the broker accepts"))
    }

    pub fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        // A Unix socket has no such thing.
        let _ = socket.set_nodelay(true);
        Self { socket, buffer: Vec::new() }
    }

    /// Sends bytes; a peer that has closed is no failure here, for reading will show it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref());
    }

    pub fn finish_sending(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// One answer to a request that was not HEAD.
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
            response.body = self.rest();
        }
        response
    }

    /// One answer, or none if the connection ends before it is whole.
    pub fn response_or_end(&mut self) -> Option<Response> {
        while !self.has_whole_answer() {
            if !self.fill() {
                return None;
            }
        }
        Some(self.response())
    }

    fn has_whole_answer(&self) -> bool {
        let Some(end) = position(&self.buffer, b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&self.buffer[..end + 2]).into_owned();
        let length = Response::without_body(head).field("Content-Length").and_then(|length| length.parse().ok());
        self.buffer.len() >= end + 4 + length.unwrap_or(0)
    }

    /// Waits for a whole chunk; false if the connection ends before, or nothing comes for so long.
    pub fn awaits_chunk(&mut self, patience: Duration) -> bool {
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

    /// The next answer that is more than the word to go on.
    pub fn final_response(&mut self) -> Response {
        loop {
            let response = self.response();
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// A head alone, with its last CRLF but without the empty line.
    pub fn head(&mut self) -> String {
        let end = self.find(b"\r\n\r\n");
        let head = self.take(end + 4);
        String::from_utf8(head[..end + 2].to_vec()).expect("heads are ASCII")
    }

    /// The next chunk's data; none for the last chunk.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.find(b"\r\n");
        let line = self.take(end + 2);
        let size = std::str::from_utf8(&line[..end]).expect("a chunk size is ASCII");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("{size:?} is no chunk size"));
        let data = self.take(size);
        assert_eq!(self.take(2), b"\r\n", "a chunk ends with CRLF");
        (size > 0).then_some(data)
    }

    /// Everything until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the peer has closed, with nothing more to read.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    /// Whether nothing comes for so long.
    pub fn is_silent(&mut self, time: Duration) -> bool {
        self.buffer.is_empty() && self.has_nothing_for(time)
    }

    fn has_nothing_for(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("a timeout can be set");
        let peeked = uninterrupted(|| self.socket.peek(&mut [0]));
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        peeked.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Reads until so many bytes are kept, and leaves them there.
    pub fn take_ahead(&mut self, count: usize) {
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

    /// Reads once; false at the end.
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

/// A machine that is put to sleep for a moment interrupts whoever waits with a time-out.
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

/// As much of some bytes as a failure needs to show.
fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}
