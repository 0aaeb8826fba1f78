//! A keep-alive connection that sends whole requests, one after the answer to the one before, and checks that each answer
//! is a success. Knows the ends of answers and nothing else of HTTP.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::connect_to;

/// More than any answer to a request of the load has.
const LONGEST_ANSWER: usize = 64 << 10;

/// See the module's page.
pub struct Requester {
    socket: TcpStream,
    waiting: VecDeque<String>,
    is_busy: bool,
    answer: Vec<u8>,
}

impl Requester {
    /// Connects, and registers for what comes.
    pub fn connect(server: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = connect_to(server)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, waiting: VecDeque::new(), is_busy: false, answer: Vec::new() })
    }

    /// Sends a request, or keeps it until the ones before are answered.
    pub fn send(&mut self, request: String) -> io::Result<()> {
        if self.is_busy {
            self.waiting.push_back(request);
            return Ok(());
        }
        self.is_busy = true;
        let written = self.socket.write(request.as_bytes())?;
        // A request of the load is smaller than an empty socket's room.
        if written == request.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// Requests that are not answered.
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + usize::from(self.is_busy)
    }

    /// Reads what is there; after a whole answer the next request is sent.
    pub fn handle_readable(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.answer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if is_whole(&self.answer)? {
                self.answer.clear();
                self.is_busy = false;
                self.waiting.pop_front().map_or(Ok(()), |request| self.send(request))?;
            }
        }
    }
}

/// Whether these are all bytes of an answer; one that is no success is an error.
pub fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let body = &answer[head + 4..];
    let head = std::str::from_utf8(&answer[..head]).map_err(io::Error::other)?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 2") || answer.len() > LONGEST_ANSWER {
        return Err(io::Error::other(String::from_utf8_lossy(answer).into_owned()));
    }
    if let Some((_, length)) = head.split_once("\r\ncontent-length:") {
        let length = length.lines().next().and_then(|line| line.trim().parse().ok());
        return Ok(body.len() >= length.unwrap_or(usize::MAX));
    }
    Ok(!head.contains("\r\ntransfer-encoding: chunked") || body.ends_with(b"0\r\n\r\n"))
}
