//! The load generator: one thread, one poll, subscribers of 32 bytes each that check every event, and keep-alive connections
//! that publish. Independent of servers except for their dialect.

mod browser;
mod histogram;
mod marker;
mod requester;
mod requesters;
mod socket;
mod subscriber;
mod topic;

use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::slice;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

pub use browser::{Browser, Received};
pub use histogram::Histogram;
pub use requester::{Requester, is_whole};
pub use requesters::Requesters;
use socket::connect_from_afar;
use socket::connect_to;
use subscriber::Subscriber;
pub use subscriber::{Counters, open_stream, send_request, send_requests};
use topic::Topic;
pub use topic::{make_topic, topic_name};

use crate::servers::{Failure, Running};

/// Returns an event's data with a marker that has this number and no time.
pub fn data(sequence: u32, size: usize) -> String {
    marker::data(sequence, 0, size)
}

/// The limit for everything that should happen by itself.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Tokens from here on belong to publishers.
const FIRST_PUBLISHER: usize = usize::MAX / 2;

/// Something took longer than [`TIMEOUT`].
#[derive(Debug)]
pub struct TooSlow(String);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TooSlow {}

/// A load on one server, or on several that have the same topics.
pub struct Load<'a> {
    servers: &'a [Running],
    topics: Vec<Topic>,
    /// The size of an event's data, in bytes.
    size: usize,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    epoch: Instant,
    subscribers: Vec<Subscriber>,
    stalled: Vec<TcpStream>,
    pub counters: Counters,
}

impl<'a> Load<'a> {
    /// Creates a load without subscribers, on this many topics.
    pub fn new(server: &'a Running, topics: usize, size: usize) -> Result<Self, Failure> {
        Self::across(slice::from_ref(server), topics, size)
    }

    /// Creates a load without subscribers. Each topic's subscribers are spread over the servers, and its events are published
    /// at one server after the other.
    pub fn across(servers: &'a [Running], topics: usize, size: usize) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let topics = (0..topics).map(|index| Topic::new(servers, index)).collect::<Result<_, _>>()?;
        Ok(Self {
            servers,
            topics,
            size,
            poll,
            events: Events::with_capacity(4096),
            scratch: vec![0; 256 << 10],
            epoch: Instant::now(),
            subscribers: Vec::new(),
            stalled: Vec::new(),
            counters: Counters::default(),
        })
    }

    /// Adds subscribers, spread over the topics, and waits until every stream has begun.
    pub fn subscribe(&mut self, count: usize) -> Result<(), Failure> {
        let goal = self.subscribers.len() + count;
        while self.subscribers.len() < goal {
            let batch = self.servers[0].dialect.connecting.min(goal - self.subscribers.len());
            for _ in 0..batch {
                self.connect()?;
            }
            let opened = self.subscribers.len() as u64;
            self.run_until("streams to begin", |load| load.counters.opened >= opened)?;
        }
        Ok(())
    }

    /// Adds subscribers that request everything their topics retain, all at once. Waits for nothing.
    pub fn resume(&mut self, count: usize) -> Result<(), Failure> {
        let resume = self.servers[0].dialect.resume.ok_or("this server resumes nothing")?;
        for _ in 0..count {
            let request = resume(&self.topics[self.subscribers.len() % self.topics.len()].name);
            self.join(&request, NonZeroU32::MIN)?;
            // Responses are read in the meantime, or the listen backlog would overflow.
            self.run(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Adds a subscriber that sends this request for its topic, and whose first event must be `next`. Waits for nothing.
    pub fn join(&mut self, request: &str, next: NonZeroU32) -> Result<(), Failure> {
        let subscriber = self.open(self.subscribers.len(), request, Some(next))?;
        self.subscribers.push(subscriber);
        Ok(())
    }

    /// Disconnects a subscriber and connects another one in its place.
    pub fn replace(&mut self, index: usize) -> Result<(), Failure> {
        self.subscribers[index] = self.open(index, &self.subscription(index), None)?;
        Ok(())
    }

    /// Disconnects all subscribers.
    pub fn disconnect(&mut self) {
        self.subscribers.clear();
        self.topics.iter_mut().for_each(|topic| topic.subscribers = 0);
    }

    /// Adds subscribers that never read.
    pub fn stall(&mut self, count: usize) -> Result<(), Failure> {
        for number in 0..count {
            let request = self.subscription(number);
            self.stalled.push(subscriber::open(connect_from_afar(self.servers[0].subscribe_at)?, &request)?);
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let index = self.subscribers.len();
        let topics = self.topics.len();
        let topic = &mut self.topics[index % topics];
        topic.subscribers += 1;
        let next = NonZeroU32::new(topic.published);
        let subscriber = self.open(index, &self.subscription(index), next)?;
        self.subscribers.push(subscriber);
        Ok(())
    }

    /// Returns the request of a subscriber without a position.
    fn subscription(&self, index: usize) -> String {
        (self.servers[0].dialect.subscribe)(&self.topics[index % self.topics.len()].name)
    }

    fn open(&self, index: usize, request: &str, next: Option<NonZeroU32>) -> Result<Subscriber, Failure> {
        let server = &self.servers[index / self.topics.len() % self.servers.len()];
        let begin = self.epoch.elapsed();
        let mut socket = subscriber::open(connect_to(server.subscribe_at)?, request)?;
        self.poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
        Ok(Subscriber::new(socket, begin, next))
    }

    /// Publishes events that are due now, all at once. Returns how many deliveries are expected.
    pub fn publish(&mut self, topic: usize, count: u32, due: Instant) -> Result<u64, Failure> {
        let request = self.request(topic, count, due)?;
        self.publisher(topic)?.send(request)?;
        Ok(self.topics[topic].subscribers * u64::from(count))
    }

    /// Publishes events on a connection of its own, all at once, and returns the response.
    pub fn publish_and_wait(&mut self, topic: usize, count: u32) -> Result<String, Failure> {
        let request = self.request(topic, count, Instant::now())?;
        send_request(self.servers[0].publish_at, &request)
    }

    /// Returns the request that publishes a topic's next events.
    fn request(&mut self, topic: usize, count: u32, due: Instant) -> Result<String, Failure> {
        let nanos = u64::try_from(due.saturating_duration_since(self.epoch).as_nanos())?;
        let events: Vec<String> =
            (0..count).map(|nth| marker::data(self.topics[topic].published + nth, nanos, self.size)).collect();
        let request = match self.servers[0].dialect.publish_many {
            Some(publish_many) if count > 1 => publish_many(&self.topics[topic].name, &events),
            _ => events.iter().map(|data| (self.servers[0].dialect.publish)(&self.topics[topic].name, data)).collect(),
        };
        self.topics[topic].published += count;
        Ok(request)
    }

    fn publisher(&mut self, index: usize) -> Result<&mut Requester, Failure> {
        let topic = &mut self.topics[index];
        let server = topic.next_server;
        topic.next_server = (server + 1) % self.servers.len();
        let publisher = &mut topic.publishers[server];
        if publisher.is_none() {
            let token = Token(FIRST_PUBLISHER + index * self.servers.len() + server);
            *publisher = Some(Requester::connect(self.servers[server].publish_at, self.poll.registry(), token)?);
        }
        publisher.as_mut().ok_or_else(|| "no publisher".into())
    }

    /// Returns the number of publishes without a response.
    pub fn outstanding(&self) -> usize {
        self.topics.iter().flat_map(|topic| &topic.publishers).flatten().map(Requester::outstanding).sum()
    }

    /// Returns the number of topics.
    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Returns the number of subscribers.
    pub fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Limits the events that [`Self::run`] handles, so that the caller can do something else in between.
    pub fn handle_at_most(&mut self, events: usize) {
        self.events = Events::with_capacity(events);
    }

    /// Handles events of the poll within this time.
    pub fn run(&mut self, patience: Duration) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(patience))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &self.events {
            match event.token().0.checked_sub(FIRST_PUBLISHER) {
                Some(number) => {
                    let (topic, server) = (number / self.servers.len(), number % self.servers.len());
                    self.topics[topic].publishers[server].iter_mut().try_for_each(Requester::handle_readable)?;
                }
                None => {
                    let subscriber = &mut self.subscribers[event.token().0];
                    subscriber.handle_readable(&mut self.scratch, self.epoch, &mut self.counters)?;
                }
            }
        }
        Ok(())
    }

    /// Handles events of the poll until the condition holds. Fails if that takes longer than [`TIMEOUT`].
    pub fn run_until(&mut self, what: &str, mut is_true: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        let end = Instant::now() + TIMEOUT;
        while !is_true(self) {
            self.run(Duration::from_millis(100))?;
            if Instant::now() > end {
                return Err(TooSlow(format!("waited {TIMEOUT:?} for {what}; {}", self.counters)).into());
            }
        }
        Ok(())
    }

    /// Handles events of the poll for this long.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            self.run(rest)?;
        }
        Ok(())
    }
}
