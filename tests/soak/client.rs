//! A keep-alive connection that sends a whole request and reads the whole answer, or tells that none came. Knows HTTP as far as the
//! broker's answers go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;

use crate::socket::connect_to;
use crate::world::World;

/// How long an answer may take. The longest that a broker is stopped or its disk hangs is well below; a machine on which others are at
/// work leaves a process without its turn for many seconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    Answer(Answer),
    /// No connection: it was never sent.
    Unsent,
    /// It was sent, at least in part, and not answered.
    Broken(String),
}

/// Status, and a body without its chunks.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// See the module's page.
pub struct Client<'w> {
    world: &'w World,
    /// The generation of the broker that the connection was made to.
    made_in: u32,
    /// The field with a token.
    pass: String,
    socket: Option<TcpStream>,
    unread: Vec<u8>,
}

impl<'w> Client<'w> {
    /// Nothing is connected before the first request.
    pub fn new(world: &'w World, token: &str) -> Self {
        Self { world, made_in: 0, pass: format!("Authorization: Bearer {token}\r\n"), socket: None, unread: Vec::new() }
    }

    pub fn get(&mut self, target: &str) -> Outcome {
        let request = format!("GET {target} HTTP/1.1\r\nHost: soak\r\n{}\r\n", self.pass);
        self.ask(request.as_bytes())
    }

    pub fn post(&mut self, target: &str, body: &str) -> Outcome {
        let request = self.request(target, body);
        self.ask(request.as_bytes())
    }

    /// Sends a POST and resets the connection before it can be answered.
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

    /// Sends many POSTs at once; how many were answered with 200.
    pub fn post_many(&mut self, posts: &[(String, String)]) -> usize {
        let requests: String = posts.iter().map(|(target, body)| self.request(target, body)).collect();
        if !self.connect() || !self.send(requests.as_bytes()) {
            self.close();
            return 0;
        }
        let answers = (0..posts.len()).map_while(|_| self.answer().inspect_err(|_| self.close()).ok());
        answers.filter(|answer| answer.status == 200).count()
    }

    /// The next request is sent on a connection of its own.
    pub fn close(&mut self) {
        self.socket = None;
        self.unread.clear();
    }

    /// Connects, unless it is, to a broker that still runs; false: nobody is there.
    pub fn connect(&mut self) -> bool {
        if self.made_in != self.world.generation() {
            self.close();
        }
        if self.socket.is_none() {
            self.made_in = self.world.generation();
            let Ok(socket) = connect_to(self.world.address) else { return false };
            if socket.set_read_timeout(Some(PATIENCE)).is_err() || socket.set_write_timeout(Some(PATIENCE)).is_err() {
                return false;
            }
            self.socket = Some(socket);
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
        let sent = self.send(request);
        match self.answer() {
            Ok(answer) => {
                if !sent || answer.head.contains("\nConnection: close") {
                    self.close();
                }
                Outcome::Answer(answer)
            }
            Err(why) => {
                self.close();
                Outcome::Broken(why)
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.as_mut().is_some_and(|socket| socket.write_all(bytes).is_ok())
    }

    fn answer(&mut self) -> Result<Answer, String> {
        let end = self.read_until(|bytes| memchr::memmem::find(bytes, b"\r\n\r\n"))?;
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or("no status")?;
        let body = if head.contains("\r\nTransfer-Encoding: chunked") { self.chunks()? } else { self.counted(&head)? };
        Ok(Answer { status, head, body })
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
            let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("{digits:?} is no chunk"))?;
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

/// Closing it from now on resets it.
pub fn reset(socket: &TcpStream) {
    // One that is gone already needs no reset.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
