//! A keep-alive connection that sends a whole request and reads the whole response, or reports that none arrived. Parses as
//! much HTTP as the broker's responses need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::socket::connect_to;

/// The time limit for a response. It is well above the longest time that the broker is stopped or its disk hangs, because a
/// busy machine may not schedule a process for many seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a client connects to.
pub trait Peer: Sync {
    /// Returns the address for the next connection.
    fn address(&self) -> SocketAddr;

    /// Returns a number that changes when a broker ends and when it is started again: older connections may be broken.
    fn generation(&self) -> u32;
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Outcome {
    Response(Response),
    /// No connection: it was never sent.
    Unsent,
    /// It was sent, at least in part, and has no response.
    Broken(String),
}

/// A response; its body is without chunk framing.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A connection, which is opened when it is needed.
pub struct Client<'w> {
    peer: &'w dyn Peer,
    /// The generation of the peer that it is connected to.
    made_in: u32,
    /// The `Authorization` field.
    pass: String,
    socket: Option<TcpStream>,
    /// When the last response arrived, or the connection was opened.
    used: Instant,
    unread: Vec<u8>,
}

impl<'w> Client<'w> {
    /// Creates a client, which connects with its first request.
    pub fn new(peer: &'w dyn Peer, token: &str) -> Self {
        let pass = format!("Authorization: Bearer {token}\r\n");
        Self { peer, made_in: 0, pass, socket: None, used: Instant::now(), unread: Vec::new() }
    }

    pub fn get(&mut self, target: &str) -> Outcome {
        let request = format!("GET {target} HTTP/1.1\r\nHost: soak\r\n{}\r\n", self.pass);
        self.ask(request.as_bytes())
    }

    pub fn post(&mut self, target: &str, body: &str) -> Outcome {
        let request = self.request(target, body);
        self.ask(request.as_bytes())
    }

    /// Sends a POST and resets the connection before a response can arrive.
    pub fn post_and_reset(&mut self, target: &str, body: &str, wait: Duration) {
        let request = self.request(target, body);
        if self.connect() && self.send(request.as_bytes()) {
            std::thread::sleep(wait);
        }
        if let Some(socket) = self.socket.take() {
            reset(&socket);
        }
        self.unread.clear();
    }

    /// Pipelines POSTs. Returns the number of responses with status 200.
    pub fn post_many(&mut self, posts: &[(String, String)]) -> usize {
        let requests: String = posts.iter().map(|(target, body)| self.request(target, body)).collect();
        if !self.connect() || !self.send(requests.as_bytes()) {
            self.close();
            return 0;
        }
        let responses = (0..posts.len()).map_while(|_| self.response().inspect_err(|_| self.close()).ok());
        responses.filter(|response| response.status == 200).count()
    }

    /// Closes the connection. The next request opens another one.
    pub fn close(&mut self) {
        self.socket = None;
        self.unread.clear();
    }

    /// Connects to the running broker, unless it is connected. Returns false if that fails. As HTTP clients do, does not use a
    /// connection again that the broker has closed while it was idle.
    pub fn connect(&mut self) -> bool {
        if self.made_in != self.peer.generation() || self.socket.as_ref().is_some_and(|socket| !is_open(socket)) {
            self.close();
        }
        if self.socket.is_none() {
            self.made_in = self.peer.generation();
            let Ok(socket) = connect_to(self.peer.address()) else { return false };
            if socket.set_read_timeout(Some(PATIENCE)).is_err() || socket.set_write_timeout(Some(PATIENCE)).is_err() {
                return false;
            }
            self.socket = Some(socket);
            self.used = Instant::now();
        }
        true
    }

    fn request(&self, target: &str, body: &str) -> String {
        let (pass, length) = (&self.pass, body.len());
        format!("POST {target} HTTP/1.1\r\nHost: soak\r\n{pass}Content-Length: {length}\r\n\r\n{body}")
    }

    fn ask(&mut self, request: &[u8]) -> Outcome {
        if !self.connect() {
            return Outcome::Unsent;
        }
        let idle = self.used.elapsed();
        let sent = self.send(request);
        match self.response() {
            Ok(response) => {
                self.used = Instant::now();
                if !sent || response.head.contains("\nConnection: close") {
                    self.close();
                }
                Outcome::Response(response)
            }
            Err(why) => {
                self.close();
                Outcome::Broken(format!("{why}; it was sent after {idle:?}"))
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.as_mut().is_some_and(|socket| socket.write_all(bytes).is_ok())
    }

    fn response(&mut self) -> Result<Response, String> {
        let end = self.read_until(|bytes| memchr::memmem::find(bytes, b"\r\n\r\n"))?;
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or("no status")?;
        let body = if head.contains("\r\nTransfer-Encoding: chunked") { self.chunks()? } else { self.counted(&head)? };
        Ok(Response { status, head, body })
    }

    fn counted(&mut self, head: &str) -> Result<Vec<u8>, String> {
        let field = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = field.map_or(Ok(0), str::parse).map_err(|_| "no length")?;
        self.read_until(|bytes| (bytes.len() >= length).then_some(length))?;
        Ok(self.unread.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until(|bytes| memchr::memmem::find(bytes, b"\r\n"))?;
            let digits = String::from_utf8_lossy(&self.unread[..line]).into_owned();
            let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("{digits:?} is not a chunk size"))?;
            self.read_until(|bytes| (bytes.len() >= line + size + 4).then_some(0))?;
            body.extend_from_slice(&self.unread[line + 2..line + 2 + size]);
            self.unread.drain(..line + size + 4);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read_until(&mut self, is_there: impl Fn(&[u8]) -> Option<usize>) -> Result<usize, String> {
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(found) = is_there(&self.unread) {
                return Ok(found);
            }
            let socket = self.socket.as_mut().ok_or("no connection")?;
            match socket.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => return Err("the connection ended".to_owned()),
                count => self.unread.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

/// Returns whether the peer has neither closed the connection nor sent anything: no response is due.
fn is_open(socket: &TcpStream) -> bool {
    let mut pending = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut pending, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

/// Makes closing the socket reset the connection.
pub fn reset(socket: &TcpStream) {
    // A closed connection needs no reset.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
