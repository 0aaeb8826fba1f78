//! A client with one stream. When its stream ends, it resumes at any broker after the last id that it has received, as an
//! EventSource does.

use super::super::engine::follower::numbers;
use super::super::net::Net;
use super::super::parser::{Stream, StreamItem, field, split_head};

/// What a client has received, over all its connections since it first knew a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It has connected. Nothing is lost between two connections.
    Opened,
    /// The newest id when it connected.
    Prime(u64),
    Event {
        shown: String,
        number: usize,
        index: usize,
        /// The number of the broker that it came from.
        broker: u64,
    },
    Gap {
        oldest: Option<u64>,
        /// The newest id of the log at that time.
        newest: u64,
    },
}

/// A client and its stream.
#[derive(Debug)]
pub struct Subscriber {
    pub topics: Vec<usize>,
    pub uses_prime: bool,
    /// Each of its streams ends with the first events.
    pub polls: bool,
    pub is_fast: bool,
    pub link: Option<Link>,
    /// What it resumes after.
    pub position: Option<String>,
    /// It is to receive every event with a larger id. `None` before it is connected.
    pub start: Option<u64>,
    pub received: Vec<Received>,
}

/// A client's connection.
#[derive(Debug)]
pub struct Link {
    pub site: usize,
    pub broker: u64,
    pub pipe: usize,
    head: Vec<u8>,
    pub is_open: bool,
    stream: Stream,
    pub is_over: bool,
}

impl Subscriber {
    pub fn new(topics: Vec<usize>, uses_prime: bool, polls: bool, is_fast: bool) -> Self {
        let (link, position, start, received) = (None, None, None, Vec::new());
        Self { topics, uses_prime, polls, is_fast, link, position, start, received }
    }

    /// Connects. Returns the request.
    pub fn connect(&mut self, site: usize, broker: u64, pipe: usize, names: &[&str]) -> String {
        if self.position.is_none() {
            // Whatever was published before is not for it.
            self.start = None;
            self.received.clear();
        }
        self.link = Some(Link::new(site, broker, pipe));
        let topics: Vec<_> = self.topics.iter().map(|&topic| names[topic]).collect();
        let prime = if self.uses_prime { "prime" } else { "" };
        let poll = if self.polls { "poll" } else { "" };
        let position = self.position.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        format!("GET /subscribe/{}?{poll}&{prime} HTTP/1.1\r\nHost: h\r\n{position}\r\n", topics.join(","))
    }

    /// Returns whether it receives events.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_open)
    }

    /// Takes what has arrived. `newest` is the newest id of the log. Returns how many events and gaps it was.
    pub fn observe(&mut self, net: &mut Net, newest: u64) -> (usize, usize) {
        let Some(link) = &mut self.link else { return (0, 0) };
        let before = self.received.len();
        let (was_open, broker) = (link.is_open, link.broker);
        let items = link.feed(net.take_received(link.pipe));
        let is_over = link.is_over || net.is_over(link.pipe);
        if link.is_open && !was_open {
            self.received.push(Received::Opened);
            if !self.uses_prime {
                self.start.get_or_insert(newest);
            }
        }
        items.into_iter().for_each(|item| self.take(item, newest, broker));
        if is_over {
            self.disconnect(net);
        }
        let count = |is: fn(&Received) -> bool| self.received[before..].iter().filter(|item| is(item)).count();
        (count(|item| matches!(item, Received::Event { .. })), count(|item| matches!(item, Received::Gap { .. })))
    }

    pub fn disconnect(&mut self, net: &mut Net) {
        if let Some(link) = self.link.take() {
            net.reset(link.pipe);
        }
    }

    fn take(&mut self, item: StreamItem, newest: u64, broker: u64) {
        match item {
            StreamItem::Event { id, data, .. } => {
                let (number, index) = numbers(format!("data: {data}\n").as_bytes());
                self.position = Some(id.clone());
                self.received.push(Received::Event { shown: id, number, index, broker });
            }
            StreamItem::Gap { oldest } => self.received.push(Received::Gap { oldest, newest }),
            StreamItem::Prime { id } => {
                assert!(
                    self.polls || self.position.is_none(),
                    "the newest id is sent though there is a position: {self:?}"
                );
                self.position = Some(id.to_string());
                self.start.get_or_insert(id);
                self.received.push(Received::Prime(id));
            }
            StreamItem::Expired => panic!("there are no tokens"),
            StreamItem::Erased { .. } => panic!("nobody erases records"),
            StreamItem::End => {}
        }
    }
}

impl Link {
    pub fn new(site: usize, broker: u64, pipe: usize) -> Self {
        let (head, stream) = (Vec::new(), Stream::default());
        Self { site, broker, pipe, head, is_open: false, stream, is_over: false }
    }

    /// Takes bytes. Returns every item that is whole by now.
    pub fn feed(&mut self, bytes: Vec<u8>) -> Vec<StreamItem> {
        let bytes = if self.is_open { bytes } else { self.take_head(bytes) };
        let items = self.stream.feed(&bytes);
        self.is_over |= items.last() == Some(&StreamItem::End);
        items
    }

    fn take_head(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.head.extend(bytes);
        let Some((status, head, begin)) = split_head(&self.head) else { return Vec::new() };
        if status == 408 {
            self.is_over = true;
            return Vec::new();
        }
        assert_eq!(status, 200, "{head}");
        assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"));
        self.is_open = true;
        self.head.split_off(begin)
    }
}
