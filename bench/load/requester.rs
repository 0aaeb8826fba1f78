//! A keep-alive connection that sends one request after another, each after the previous response, and checks that every
//! response is a success. Finds the end of a response and parses nothing else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::connect_to;

/// No response in this load is longer.
const LONGEST_RESPONSE: usize = 64 << 10;

/// The connection, and the requests that wait for it.
pub struct Requester {
    socket: TcpStream,
    waiting: VecDeque<String>,
    is_busy: bool,
    response: Vec<u8>,
}

impl Requester {
    /// Connects, and registers the socket for reading.
    pub fn connect(server: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let socket = connect_to(server)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, waiting: VecDeque::new(), is_busy: false, response: Vec::new() })
    }

    /// Sends a request, or queues it until the previous ones have responses.
    pub fn send(&mut self, request: String) -> io::Result<()> {
        if self.is_busy {
            self.waiting.push_back(request);
            return Ok(());
        }
        self.is_busy = true;
        let written = self.socket.write(request.as_bytes())?;
        // A request is smaller than an empty socket's buffer.
        if written == request.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// Returns the number of requests without a response.
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + usize::from(self.is_busy)
    }

    /// Reads what has arrived, and sends the next request after a complete response.
    pub fn handle_readable(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.response.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if is_whole(&self.response)? {
                self.response.clear();
                self.is_busy = false;
                self.waiting.pop_front().map_or(Ok(()), |request| self.send(request))?;
            }
        }
    }
}

/// Returns whether these bytes are a complete response. Fails if it isn't a success.
pub fn is_whole(response: &[u8]) -> io::Result<bool> {
    let Some(head) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let body = &response[head + 4..];
    let head = std::str::from_utf8(&response[..head]).map_err(io::Error::other)?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 2") || response.len() > LONGEST_RESPONSE {
        return Err(io::Error::other(String::from_utf8_lossy(response).into_owned()));
    }
    if let Some((_, length)) = head.split_once("\r\ncontent-length:") {
        let length = length.lines().next().and_then(|line| line.trim().parse().ok());
        return Ok(body.len() >= length.unwrap_or(usize::MAX));
    }
    Ok(!head.contains("\r\ntransfer-encoding: chunked") || body.ends_with(b"0\r\n\r\n"))
}
