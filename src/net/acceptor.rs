//! The acceptor: all listeners, served by the first worker, that deals connections out to all
//! workers in turn. It survives the want of descriptors, and goes on by itself when there are some.

use std::io;
use std::net::IpAddr;

use mio::Token;

use crate::api::ListenerRole;
use crate::config::MAX_LISTENERS;
use crate::hub::WorkerId;
use crate::metrics::WorkerMetrics;
use crate::net::connection_limiter::ConnectionLimiter;
use crate::net::listener::BoundListener;
use crate::net::poller::WAKER;
use crate::net::reactor::{Listen, Reactor};

/// At most so many connections are accepted through one door in one turn.
const ACCEPTS_PER_ITERATION: usize = 128;

/// How a turn's accepting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// No connection waits; an edge will tell of the next.
    Drained,
    /// More may wait.
    More,
    /// There is no room; somebody who leaves, or time, will tell.
    Shut,
}

/// A connection that has just come in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its socket.
    pub socket: S,
    /// What it may ask for.
    pub role: ListenerRole,
    /// The IP address it comes from; `None` through a Unix socket.
    pub address: Option<IpAddr>,
}

/// See the module's page.
#[derive(Debug)]
pub struct Acceptor<L> {
    entrances: Vec<ListenerState<L>>,
    dealer: RoundRobin,
}

/// A door, and how accepting through it stands.
#[derive(Debug)]
struct ListenerState<L> {
    /// What the poll calls it by.
    index: usize,
    door: BoundListener<L>,
    state: Accepting,
    is_warned: bool,
    /// An idle connection was to be closed for want of descriptors, and nothing could be accepted since.
    has_asked: bool,
}

/// Whose turn it is.
#[derive(Debug)]
struct RoundRobin {
    next: WorkerId,
    workers: usize,
}

/// The door that the poll speaks of.
pub(crate) fn door(token: Token) -> Option<usize> {
    let index = WAKER.0.checked_sub(token.0)?.checked_sub(1)?;
    (index < MAX_DOORS).then_some(index)
}

impl<L: Listen> Acceptor<L> {
    /// Deals out what comes through these doors, and asks to be told of it.
    pub fn new(doors: Vec<BoundListener<L>>, workers: usize, kernel: &impl Reactor<Listener = L>) -> io::Result<Self> {
        let drained = |(index, door)| ListenerState {
            index,
            door,
            state: Accepting::Drained,
            is_warned: false,
            has_asked: false,
        };
        let mut entrances: Vec<_> = doors.into_iter().enumerate().map(drained).collect();
        for entrance in &mut entrances {
            kernel.listen(&mut entrance.door.listener, token(entrance.index))?;
        }
        Ok(Self { entrances, dealer: RoundRobin { next: 0, workers } })
    }

    /// Connections may wait at this door.
    pub fn wake(&mut self, door: usize) {
        let known = self.entrances.iter_mut().filter(|entrance| entrance.index == door);
        known.for_each(|entrance| entrance.state = Accepting::More);
    }

    /// What is left of it while the broker drains: the administration still asks how it is, and the worker that accepts
    /// answers itself, for the others may have ended.
    pub fn for_administration(self) -> Option<Self> {
        let is_admins = |entrance: &ListenerState<L>| entrance.door.role == ListenerRole::Administration;
        let entrances: Vec<_> = self.entrances.into_iter().filter(is_admins).collect();
        let dealer = RoundRobin { next: 0, workers: 1 };
        (!entrances.is_empty()).then_some(Self { entrances, dealer })
    }

    /// Time has passed: there may be room again, and another idle connection may be closed for it.
    pub fn retry(&mut self) {
        self.entrances.iter_mut().for_each(|entrance| entrance.has_asked = false);
        self.reopen();
    }

    /// There may be room again.
    pub fn reopen(&mut self) {
        let shut = self.entrances.iter_mut().filter(|entrance| entrance.state == Accepting::Shut);
        shut.for_each(|entrance| entrance.state = Accepting::More);
    }

    /// Whether more may wait.
    pub fn has_more(&self) -> bool {
        self.entrances.iter().any(|entrance| entrance.state == Accepting::More)
    }

    /// Accepts what waits, up to a bound, hands each connection to the worker whose turn it is, and counts whom it keeps out.
    /// Returns whether a client waits for whom there would be room if an idle connection was closed.
    pub fn accept(
        &mut self,
        gate: &ConnectionLimiter,
        metrics: &WorkerMetrics,
        mut deal: impl FnMut(WorkerId, Accepted<L::Stream>),
    ) -> bool {
        let mut has_left_out = false;
        for entrance in &mut self.entrances {
            has_left_out |= entrance.accept(gate, metrics, &mut |newcomer| deal(self.dealer.next(), newcomer));
        }
        has_left_out
    }
}

/// The clients' and the administration's.
const MAX_DOORS: usize = MAX_LISTENERS + 1;

fn token(door: usize) -> Token {
    Token(WAKER.0 - 1 - door)
}

impl RoundRobin {
    fn next(&mut self) -> WorkerId {
        let next = self.next;
        self.next = (next + 1) % self.workers;
        next
    }
}

/// Counts a connection that is closed because its address has too many.
fn refuse(address: Option<IpAddr>, metrics: &WorkerMetrics) {
    metrics.refused_address.add(1);
    if let Some(address) = address {
        log::debug!("closed a connection from {address}, which has reached --max-connections-per-ip");
    }
}

impl<L: Listen> ListenerState<L> {
    fn accept(
        &mut self,
        gate: &ConnectionLimiter,
        metrics: &WorkerMetrics,
        deal: &mut impl FnMut(Accepted<L::Stream>),
    ) -> bool {
        for _ in 0..ACCEPTS_PER_ITERATION {
            if self.state != Accepting::More {
                return false;
            }
            if !gate.has_place(self.door.role) {
                self.state = Accepting::Shut;
                let has_pending = self.door.listener.has_pending();
                metrics.refused_limit.add(has_pending.into());
                return has_pending && self.door.role != ListenerRole::Administration;
            }
            match self.door.listener.accept() {
                // Without a word: any status would be for a request that nobody has read, and any but 200 stops an EventSource for
                // good, which comes back by itself to a connection that was closed.
                Ok((socket, address)) => {
                    self.has_asked = false;
                    match gate.enter(socket, address, self.door.role) {
                        Some(socket) => deal(Accepted { socket, role: self.door.role, address }),
                        None => refuse(address, metrics),
                    }
                }
                Err(error) => self.state = self.after(&error),
            }
            if self.state == Accepting::Shut {
                metrics.refused_descriptors.add(1);
                gate.shut();
                // If that was of no use, others took the descriptors, and the next idle connection would be closed in vain.
                return !std::mem::replace(&mut self.has_asked, true);
            }
        }
        false
    }

    fn after(&mut self, error: &io::Error) -> Accepting {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.is_warned = false;
                Accepting::Drained
            }
            // The peer gave up before it was accepted: that says nothing about the next.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
                Accepting::More
            }
            _ => {
                if !std::mem::replace(&mut self.is_warned, true) {
                    log::warn!("can't accept connections for now (they wait in the backlog): {error}");
                }
                Accepting::Shut
            }
        }
    }
}
