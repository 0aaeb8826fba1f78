//! The sockets: opens connections with bounded concurrency, each from its own source address and port, reads streams, and
//! publishes. One thread, one poll, 20 bytes per subscriber. Independent of commands.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::reader::Reader;

const PUBLISHER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The source ports used on each address, above those of usual services.
const PORTS: std::ops::Range<u16> = 10_000..60_000;
/// How many source addresses and ports in a row may be in use by others.
const TRIES: usize = 1000;
/// The event's name and data.
const EVENT: &str = "event: million\ndata: one of them\n";

/// One connection.
struct Subscriber {
    /// `None` once the stream is over.
    socket: Option<TcpStream>,
    /// When the event arrived, in microseconds after it was published.
    at: u32,
    reader: Reader,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Streams that are open now.
    pub held: usize,
    /// Streams that ended with the last chunk.
    pub ended: usize,
    /// Connections that were refused, reset, or ended without the last chunk.
    pub lost: usize,
    /// Invalid responses or streams.
    pub bad: usize,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Subscribers that received an event since [`Shard::start_counting`].
    pub reached: usize,
}

/// What a subscriber received of one event.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The number of events.
    pub events: u8,
    /// The hash of all events.
    pub hash: u32,
    /// When the first event arrived, in microseconds after it was published.
    pub at: u32,
}

/// The subscribers of this process, and their poll.
pub struct Shard {
    poll: Poll,
    events: Events,
    broker: SocketAddrV4,
    topic: String,
    first_source: Ipv4Addr,
    sources_used: u32,
    subscribers: Vec<Subscriber>,
    in_flight: usize,
    counts: Counts,
    epoch: Instant,
    publisher: Option<(TcpStream, Vec<u8>)>,
    scratch: Box<[u8]>,
}

impl Shard {
    /// Creates a shard without connections. Source addresses count up from `first_source`.
    pub fn new(broker: SocketAddrV4, topic: &str, first_source: Ipv4Addr) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            broker,
            topic: topic.into(),
            first_source,
            sources_used: 0,
            subscribers: Vec::new(),
            in_flight: 0,
            counts: Counts::default(),
            epoch: Instant::now(),
            publisher: None,
            scratch: vec![0; 16 << 10].into(),
        })
    }

    /// Returns a waker that ends [`Shard::run`] from another thread.
    pub fn waker(&self) -> io::Result<Arc<Waker>> {
        Ok(Arc::new(Waker::new(self.poll.registry(), WAKER)?))
    }

    /// Returns the counters.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Opens `count` streams, at most `in_flight` of them at once. Returns when each is open or has failed.
    pub fn connect(&mut self, count: usize, in_flight: usize) -> io::Result<()> {
        self.subscribers.reserve_exact(count);
        let end = self.subscribers.len() + count;
        while self.subscribers.len() < end || self.in_flight > 0 {
            while self.subscribers.len() < end && self.in_flight < in_flight {
                self.open()?;
            }
            self.run(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Runs one iteration: waits for readiness and reads what has arrived.
    pub fn run(&mut self, patience: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                WAKER => {}
                PUBLISHER => self.read_response()?,
                Token(key) => self.handle(key, event.is_writable(), event.is_read_closed() || event.is_error()),
            }
        }
        self.events = events;
        Ok(())
    }

    /// Forgets events received so far, and counts from now on.
    pub fn start_counting(&mut self) {
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.reader.forget_events());
        self.counts.reached = 0;
        self.epoch = Instant::now();
    }

    /// Publishes one event on a new connection.
    pub fn publish(&mut self) -> io::Result<()> {
        let mut socket = TcpStream::from_std(std::net::TcpStream::connect(self.broker).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?);
        self.poll.registry().register(&mut socket, PUBLISHER, Interest::READABLE)?;
        let (topic, broker, length) = (&self.topic, self.broker, EVENT.len());
        let request =
            format!("POST /publish/{topic} HTTP/1.1\r\nHost: {broker}\r\nContent-Length: {length}\r\n\r\n{EVENT}");
        self.start_counting();
        socket.write_all(request.as_bytes())?;
        self.publisher = Some((socket, Vec::new()));
        Ok(())
    }

    /// Returns the published event as subscribers should receive it, once the broker has responded.
    pub fn published(&self) -> Option<String> {
        let (_, response) = self.publisher.as_ref()?;
        let (_, id) = std::str::from_utf8(response).ok()?.split_once("\"id\":\"")?;
        let (id, _) = id.split_once('"')?;
        Some(format!("{EVENT}id: {id}\n\n"))
    }

    /// Returns what each open subscriber has received since [`Shard::start_counting`].
    pub fn received(&self) -> impl Iterator<Item = Received> {
        self.subscribers.iter().filter(|subscriber| subscriber.socket.is_some()).map(|subscriber| {
            let (events, hash) = subscriber.reader.events();
            Received { events, hash, at: subscriber.at }
        })
    }

    /// Starts a connection from the first source that is free.
    fn open(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            let source = source(self.first_source, self.sources_used);
            self.sources_used += 1;
            match begin(source, self.broker) {
                Ok(socket) => return self.register(socket),
                Err(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    fn register(&mut self, mut socket: TcpStream) -> io::Result<()> {
        let key = Token(self.subscribers.len());
        self.poll.registry().register(&mut socket, key, Interest::READABLE | Interest::WRITABLE)?;
        self.subscribers.push(Subscriber { socket: Some(socket), at: u32::MAX, reader: Reader::new() });
        self.in_flight += 1;
        Ok(())
    }

    fn handle(&mut self, key: usize, is_writable: bool, has_ended: bool) {
        let Subscriber { socket: Some(socket), at, .. } = &mut self.subscribers[key] else { return };
        // Writable for the first time means connected; after that, the socket is no longer polled for writing.
        if is_writable && *at == u32::MAX {
            let request = format!("GET /subscribe/{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.topic, self.broker);
            match socket.write(request.as_bytes()) {
                Ok(count) if count == request.len() => *at = 0,
                _ => return self.close(key),
            }
        }
        self.read(key, has_ended);
    }

    fn read(&mut self, key: usize, has_ended: bool) {
        let Self { subscribers, scratch, counts, .. } = self;
        let subscriber = &mut subscribers[key];
        let Some(socket) = &mut subscriber.socket else { return };
        loop {
            let count = match socket.read(scratch) {
                Ok(0) => return self.close(key),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(key),
            };
            let is_first = subscriber.reader.events().0 == 0;
            let parsed = subscriber.reader.take(&scratch[..count]);
            counts.heartbeats += parsed.heartbeats;
            if parsed.opened {
                counts.held += 1;
                self.in_flight -= 1;
            }
            if parsed.events > 0 && is_first {
                counts.reached += 1;
                subscriber.at = u32::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u32::MAX - 1);
            }
            if subscriber.reader.is_bad() {
                return self.close(key);
            }
            if count < scratch.len() && !has_ended {
                return;
            }
        }
    }

    fn close(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let reader = subscriber.reader;
        subscriber.socket = None;
        match () {
            () if reader.has_ended() => self.counts.ended += 1,
            () if reader.is_bad() => self.counts.bad += 1,
            () => self.counts.lost += 1,
        }
        if reader.was_opened() {
            self.counts.held -= 1;
        } else {
            self.in_flight -= 1;
        }
    }

    fn read_response(&mut self) -> io::Result<()> {
        let Some((socket, response)) = &mut self.publisher else { return Ok(()) };
        match socket.read(&mut self.scratch) {
            Ok(count) => response.extend_from_slice(&self.scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Returns the source address and port with this index, counted from `first`.
fn source(first: Ipv4Addr, index: u32) -> SocketAddrV4 {
    let ports = u32::from(PORTS.end - PORTS.start);
    let port = PORTS.start + u16::try_from(index % ports).unwrap_or(0);
    SocketAddrV4::new(Ipv4Addr::from(u32::from(first) + index / ports), port)
}

fn begin(source: SocketAddrV4, broker: SocketAddrV4) -> Result<TcpStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // Allows a source that an earlier run left in TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &source)?;
    match rustix::net::connect(&socket, &broker) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from_std(socket.into())),
        Err(error) => Err(error),
    }
}
