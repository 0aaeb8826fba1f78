//! The workers: a fixed pool of threads, each with one poll, owning its sockets alone. One pass of
//! a worker's loop is a turn; every step of it is bounded, so that no socket can keep the others
//! waiting.
//!
//! ```text
//! poll ─► events ─► new sockets, accepts ─► connections to go on with
//!      ─► take the inbox ─► serve ─► sweep ─► give closed sockets back
//! ```
//! The inbox is taken after the joins of the turn and before anybody is served: only then is the
//! replica complete up to its newest id, on which every cursor relies.

mod accept;
mod audience;
mod connection;
mod exchange;
mod gate;
pub mod gather;
mod serve;
mod station;
pub mod streams;
pub mod subscriber;
mod sweep;
mod talk;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};
use slab::Slab;

use accept::{Accepting, Acceptor};
use connection::{Connection, Got, Patience, read};
pub use gate::Gate;
pub use serve::BUDGET_PER_TURN;
pub use station::Station;
use streams::Streams;
pub use sweep::Silence;

use crate::api::{Context, Service};
use crate::clock::{Clock, Now, millis};
use crate::http::response::House;
use crate::hub::{Inbox, WorkerId};

const WAKER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

/// Bytes read at once; also the most that a connection keeps of what it has not yet understood,
/// beside one head.
const SCRATCH: usize = 64 << 10;
/// Events taken from the poll at once.
const EVENTS: usize = 1024;
/// Reads from one socket in one turn.
const READS_PER_TURN: usize = 4;
/// How long a drain may take: the contract's ten seconds, less what joining the threads may take.
const DRAIN_MILLIS: u64 = 9_000;
/// The poll's patience while publishes wait for room, and while draining.
const IMPATIENT_MILLIS: u64 = 2;

/// Sockets on their way from the acceptor to a worker.
pub type Mail = TcpStream;

/// What a worker is made of beside its station.
pub struct Duty {
    /// Its index.
    pub id: WorkerId,
    /// What all share.
    pub service: Arc<Service>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// The broker's clock.
    pub clock: Clock,
    /// Frames from the hub.
    pub inbox: Inbox,
    /// Sockets from the acceptor.
    pub mail: Receiver<Mail>,
    /// The ways to all workers' mail.
    pub letters: Vec<Sender<Mail>>,
    /// The first worker's: where connections come from.
    pub listener: Option<TcpListener>,
}

/// What a turn's steps read and none of them changes.
struct Parts {
    id: WorkerId,
    service: Arc<Service>,
    now: Now,
    date: String,
    date_seconds: u64,
}

impl Parts {
    fn context(&self) -> Context<'_> {
        let house = House { date: &self.date, origins: &self.service.settings.origins };
        Context { service: &self.service, house, now: self.now, worker: self.id }
    }

    fn stamp(&self) -> u32 {
        self.now.millis as u32
    }

    fn advance(&mut self, now: Now) {
        self.now = now;
        if self.date_seconds != now.wall_seconds() {
            self.date_seconds = now.wall_seconds();
            self.date = imf_fixdate(self.date_seconds);
        }
    }
}

/// The `Date` field's format (RFC 9110 section 5.6.7); a clock beyond the year 9999 says it is the last second before.
fn imf_fixdate(seconds: u64) -> String {
    const LAST: u64 = 253_402_300_799;
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    httpdate::fmt_http_date(time)
}

/// See the module's page.
pub struct Worker {
    parts: Parts,
    station: Station,
    events: Events,
    seen: Vec<Seen>,
    gate: Arc<Gate>,
    clock: Clock,
    mail: Receiver<Mail>,
    letters: Vec<Sender<Mail>>,
    acceptor: Option<Acceptor>,
    connections: Slab<Connection>,
    streams: Streams<TcpStream>,
    /// Connections that have more to read than one turn allows.
    ready: VecDeque<usize>,
    /// Connections whose publish waits for room.
    parked: VecDeque<usize>,
    scratch: Box<[u8]>,
    out: Vec<u8>,
    silence: Silence,
    sweep_every: u64,
    next_sweep: u64,
    is_sweeping: bool,
    drain_until: Option<u64>,
}

/// One event of the poll, copied out.
#[derive(Clone, Copy)]
struct Seen {
    token: Token,
    is_readable: bool,
    is_writable: bool,
    has_ended: bool,
}

/// A connection's or a subscriber's token.
#[derive(Clone, Copy)]
enum Key {
    Connection(usize),
    Subscriber(u32),
}

impl Key {
    fn token(self) -> Token {
        match self {
            Self::Connection(key) => Token(key << 1),
            Self::Subscriber(key) => Token((key as usize) << 1 | 1),
        }
    }

    fn of(token: Token) -> Self {
        match token.0 & 1 {
            0 => Self::Connection(token.0 >> 1),
            _ => Self::Subscriber((token.0 >> 1) as u32),
        }
    }
}

impl Worker {
    /// A worker at its station.
    pub fn new(station: Station, duty: Duty) -> io::Result<Self> {
        let Duty { id, service, gate, clock, inbox, mail, letters, listener } = duty;
        let mut acceptor = listener.map(|listener| Acceptor::new(listener, letters.len()));
        if let Some(acceptor) = &mut acceptor {
            station.poll.registry().register(acceptor.listener_mut(), LISTENER, Interest::READABLE)?;
        }
        let settings = &service.settings;
        let clamp = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX / 2);
        let silence = Silence { heartbeat: clamp(settings.heartbeat), stall: clamp(settings.stall) };
        let shortest = settings.heartbeat.min(settings.stall).min(settings.request_timeout).min(settings.history_age);
        let streams = Streams::new(Arc::clone(&service.hub), id, inbox);
        let now = clock.now();
        Ok(Self {
            sweep_every: (millis(shortest) / 8).clamp(5, 1000),
            parts: Parts { id, service, now, date: String::new(), date_seconds: u64::MAX },
            station,
            events: Events::with_capacity(EVENTS),
            seen: Vec::with_capacity(EVENTS),
            gate,
            clock,
            mail,
            letters,
            acceptor,
            connections: Slab::new(),
            streams,
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            scratch: vec![0; SCRATCH].into(),
            out: Vec::new(),
            silence,
            next_sweep: 0,
            is_sweeping: false,
            drain_until: None,
        })
    }

    /// Turns until the broker has drained.
    pub fn run(mut self) {
        while !self.is_over() {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.wait();
        self.parts.advance(self.clock.now());
        self.streams.hush();
        self.handle_events();
        self.take_mail();
        self.accept();
        self.go_on();
        self.streams.take_inbox();
        self.streams.serve(BUDGET_PER_TURN, self.parts.stamp());
        self.sweep();
        self.drain();
        self.release();
        self.report();
    }

    fn wait(&mut self) {
        let timeout = self.timeout().map(Duration::from_millis);
        match self.station.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Without readiness there is no broker; a supervisor starts a new one.
            Err(error) => panic!("the poll failed: {error}"),
        }
        self.seen.clear();
        self.seen.extend(self.events.iter().map(|event| Seen {
            token: event.token(),
            is_readable: event.is_readable(),
            is_writable: event.is_writable(),
            has_ended: event.is_read_closed() || event.is_error(),
        }));
    }

    /// Milliseconds until something is to be done even if nothing happens.
    fn timeout(&self) -> Option<u64> {
        let can_accept = self.acceptor.as_ref().is_some_and(|acceptor| acceptor.state() == Accepting::More);
        if self.streams.has_work() || !self.ready.is_empty() || self.is_sweeping || can_accept {
            return Some(0);
        }
        if !self.parked.is_empty() || self.drain_until.is_some() {
            return Some(IMPATIENT_MILLIS);
        }
        let has_sockets = !self.connections.is_empty() || !self.streams.is_empty();
        let keeps_house = self.acceptor.is_some();
        (has_sockets || keeps_house).then(|| self.next_sweep.saturating_sub(self.clock.now().millis))
    }

    fn handle_events(&mut self) {
        for index in 0..self.seen.len() {
            let seen = self.seen[index];
            match (seen.token, Key::of(seen.token)) {
                (WAKER, _) => {}
                (LISTENER, _) => self.acceptor.iter_mut().for_each(Acceptor::wake),
                (_, Key::Connection(key)) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.is_readable |= seen.is_readable || seen.has_ended;
                        self.drive(key, seen.has_ended);
                    }
                }
                (_, Key::Subscriber(key)) => self.handle_subscriber(key, seen),
            }
        }
    }

    /// A subscriber has nothing more to say: its bytes are dropped, its end is noticed, and one that
    /// keeps talking is closed.
    fn handle_subscriber(&mut self, key: u32, seen: Seen) {
        if seen.is_writable {
            self.streams.writable(key);
        }
        if !seen.is_readable && !seen.has_ended {
            return;
        }
        let Some(socket) = self.streams.socket_mut(key) else { return };
        for _ in 0..READS_PER_TURN {
            match read(socket, &mut self.scratch) {
                Got::Nothing => return,
                Got::End => return self.streams.remove(key),
                Got::Bytes(count) if count < self.scratch.len() && !seen.has_ended => return,
                Got::Bytes(_) => {}
            }
        }
        self.streams.remove(key);
    }

    fn take_mail(&mut self) {
        while let Ok(socket) = self.mail.try_recv() {
            self.take_in(socket);
        }
    }

    fn accept(&mut self) {
        let Self { acceptor: Some(acceptor), parts, letters, gate, .. } = self else { return };
        let mut own = Vec::new();
        acceptor.accept(gate, |worker, socket| {
            if worker == parts.id {
                own.push(socket);
            } else if letters[worker].send(socket).is_ok() {
                parts.service.hub.ring(worker);
            }
        });
        own.into_iter().for_each(|socket| self.take_in(socket));
    }

    /// A new connection: registered, and listened to at once, for its request may be here already.
    fn take_in(&mut self, mut socket: TcpStream) {
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        if self.drain_until.is_some() || self.station.register(&mut socket, Key::Connection(key)).is_err() {
            self.gate.leave(socket);
            return;
        }
        metrics.accepted.add(1);
        metrics.connections.add(1);
        let deadline = self.parts.now.millis + self.patience_millis(Patience::First);
        self.connections.insert(Connection::new(socket, deadline));
        self.drive(key, false);
    }

    /// Connections that had to stop for the turn's bounds, or whose publish waits for room.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_queued = false;
                self.drive(key, true);
            }
        }
        for _ in 0..self.parked.len() {
            let Some(key) = self.parked.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_parked = false;
                self.drive(key, false);
            }
        }
    }

    fn sweep(&mut self) {
        let now = self.parts.now;
        if now.millis >= self.next_sweep {
            self.next_sweep = now.millis + self.sweep_every;
            self.streams.begin_sweep();
            self.streams.forget_aged();
            self.time_out_connections();
            self.keep_house();
            let stalled = self.streams.stalled() as u64;
            self.parts.service.metrics.worker(self.parts.id).stalled.set(stalled);
        }
        self.is_sweeping = self.streams.go_on_sweeping(self.silence, self.parts.stamp());
    }

    /// The first worker looks after what belongs to all: the age of history, and accepting again.
    fn keep_house(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        if acceptor.state() == Accepting::Shut {
            acceptor.wake();
        }
        if self.parts.service.hub.expire(self.parts.now.wall_micros) {
            // More has aged than one slice of the lock's time lets go.
            self.next_sweep = self.parts.now.millis;
        }
    }

    fn drain(&mut self) {
        if !self.parts.service.is_draining() {
            return;
        }
        if self.drain_until.is_none() {
            self.drain_until = Some(self.parts.now.millis + DRAIN_MILLIS);
            self.acceptor = None;
        }
        self.close_idle();
        // Whatever was accepted before the drain is delivered before the end.
        if !self.streams.has_work() {
            self.streams.end(BUDGET_PER_TURN, self.parts.stamp());
        }
    }

    fn is_over(&self) -> bool {
        let Some(until) = self.drain_until else { return false };
        (self.connections.is_empty() && self.streams.is_empty()) || self.parts.now.millis >= until
    }

    /// Gives the sockets of subscribers that have left back to the gate.
    fn release(&mut self) {
        let Self { streams, gate, parts, .. } = self;
        let metrics = parts.service.metrics.worker(parts.id);
        for socket in streams.take_closed() {
            metrics.connections.subtract(1);
            if gate.leave(socket) {
                parts.service.hub.ring(0);
            }
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        if let Some(acceptor) = &mut self.acceptor
            && acceptor.state() == Accepting::Shut
            && self.gate.is_open()
        {
            acceptor.wake();
        }
    }

    fn report(&mut self) {
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        let tally = self.streams.take_tally();
        metrics.delivered.add(tally.delivered);
        metrics.bytes_sent.add(tally.bytes);
        metrics.gaps.add(tally.gaps);
    }
}
