//! Accepts the connections of all listeners, in the first worker, and distributes them over all workers in turn. Survives a
//! shortage of descriptors, and resumes when some are available.

use std::io;
use std::net::IpAddr;

use crate::clock::Clock;
use crate::hub::WorkerId;
use crate::metrics::WorkerMetrics;
use crate::net::connection_limiter::ConnectionLimiter;
use crate::net::listener::{BoundListener, ListenerRole};
use crate::net::reactor::{Listen, Reactor};
use crate::net::token::SocketKey;
use crate::quota::{Limit, LimitLog};

/// The maximum number of connections that are accepted from one listener in one loop iteration.
const ACCEPTS_PER_ITERATION: usize = 128;
/// The number of connections that are accepted from one listener even if there is no time left.
const MIN_ACCEPTS: usize = 16;

/// Whether a listener may have connections to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptState {
    /// No connection waits; an edge will report the next.
    Drained,
    /// More may wait.
    HasMore,
    /// There is no slot or no descriptor; accepting resumes after a release, or after a while.
    Paused,
}

/// A connection that has just been accepted.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its socket.
    pub socket: S,
    /// What is served on it.
    pub role: ListenerRole,
    /// The peer's IP address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
}

/// Accepts connections and distributes them.
#[derive(Debug)]
pub struct Acceptor<L> {
    listeners: Vec<ListenerState<L>>,
    workers: RoundRobin,
}

/// A listener and the state of accepting from it.
#[derive(Debug)]
struct ListenerState<L> {
    /// Names it in the poller's token.
    index: usize,
    bound: BoundListener<L>,
    state: AcceptState,
    /// Whether closing an idle connection was requested for lack of descriptors, and nothing was accepted since.
    has_asked: bool,
}

/// What accepting needs of its worker.
pub struct AcceptContext<'a> {
    /// The limit on connections.
    pub limiter: &'a ConnectionLimiter,
    /// The worker's counters.
    pub metrics: &'a WorkerMetrics,
    /// Which limits are reached, for the log.
    pub limits: &'a LimitLog,
    /// The time, in the worker's milliseconds.
    pub now_millis: u64,
    /// The broker's clock.
    pub clock: &'a Clock,
    /// When to stop accepting in this iteration, in microseconds of the clock.
    pub until_micros: u64,
}

/// The worker that gets the next connection.
#[derive(Debug)]
struct RoundRobin {
    next: WorkerId,
    count: usize,
}

impl<L: Listen> Acceptor<L> {
    /// Creates an acceptor for `workers` workers, and registers its listeners.
    pub fn new(
        listeners: Vec<BoundListener<L>>,
        workers: usize,
        reactor: &impl Reactor<Listener = L>,
    ) -> io::Result<Self> {
        let drained = |(index, bound)| ListenerState { index, bound, state: AcceptState::Drained, has_asked: false };
        let mut listeners: Vec<_> = listeners.into_iter().enumerate().map(drained).collect();
        for listener in &mut listeners {
            reactor.listen(&mut listener.bound.listener, SocketKey::Listener(listener.index).token())?;
        }
        Ok(Self { listeners, workers: RoundRobin { next: 0, count: workers } })
    }

    /// Notes that connections may wait at the listener with this index.
    pub fn notify(&mut self, index: usize) {
        let notified = self.listeners.iter_mut().filter(|listener| listener.index == index);
        notified.for_each(|listener| listener.state = AcceptState::HasMore);
    }

    /// Looks for connections at all listeners, also at those at which none waited when they were looked at last.
    pub fn look_again(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.state = AcceptState::HasMore);
    }

    /// Returns what is left of the acceptor while the broker drains: the administration's listener, if there is one. This
    /// worker serves its connections, because the others may have ended.
    pub fn for_administration(self) -> Option<Self> {
        let is_admin = |listener: &ListenerState<L>| listener.bound.role == ListenerRole::Administration;
        let listeners: Vec<_> = self.listeners.into_iter().filter(is_admin).collect();
        let workers = RoundRobin { next: 0, count: 1 };
        (!listeners.is_empty()).then_some(Self { listeners, workers })
    }

    /// Resumes after a while: there may be descriptors again, and another idle connection may be closed to get one.
    pub fn retry(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.has_asked = false);
        self.resume();
    }

    /// Resumes accepting where it was paused.
    pub fn resume(&mut self) {
        let paused = self.listeners.iter_mut().filter(|listener| listener.state == AcceptState::Paused);
        paused.for_each(|listener| listener.state = AcceptState::HasMore);
    }

    /// Returns whether more connections may wait.
    pub fn has_more(&self) -> bool {
        self.listeners.iter().any(|listener| listener.state == AcceptState::HasMore)
    }

    /// Accepts waiting connections, up to a limit, passes each to `assign` with the worker it goes to, and counts those that
    /// are refused. Returns whether a client waits that could be accepted if an idle connection were closed.
    pub fn accept(&mut self, cx: &AcceptContext<'_>, mut assign: impl FnMut(WorkerId, Accepted<L::Stream>)) -> bool {
        let Self { listeners, workers } = self;
        let mut is_slot_needed = false;
        for listener in listeners {
            is_slot_needed |= listener.accept(cx, &mut |accepted| assign(workers.next(), accepted));
        }
        is_slot_needed
    }
}

impl RoundRobin {
    fn next(&mut self) -> WorkerId {
        let next = self.next;
        self.next = (next + 1) % self.count;
        next
    }
}

impl AcceptContext<'_> {
    fn is_late(&self) -> bool {
        self.clock.elapsed_micros() >= self.until_micros
    }

    /// Counts a connection that is closed because its address has too many.
    fn count_refused(&self, address: Option<IpAddr>) {
        self.metrics.refused_address.add(1);
        if let Some(address) = address {
            self.limits
                .refuse(Limit::ConnectionsPerAddress, self.now_millis, || Some(address.to_canonical().to_string()));
            log::debug!("closed a connection from {address}, which has reached --max-connections-per-ip");
        }
    }

    /// Counts that connections have to wait because too many are open. `role` is that of their listener.
    fn count_waiting(&self, role: ListenerRole) {
        self.metrics.refused_limit.add(1);
        let limit = match role {
            ListenerRole::All | ListenerRole::Public => Limit::Connections,
            ListenerRole::Administration => Limit::AdminConnections,
        };
        self.limits.refuse(limit, self.now_millis, || None);
    }
}

impl<L: Listen> ListenerState<L> {
    /// Returns whether a client waits that could be accepted if an idle connection were closed.
    fn accept(&mut self, cx: &AcceptContext<'_>, assign: &mut impl FnMut(Accepted<L::Stream>)) -> bool {
        let (role, limiter) = (self.bound.role, cx.limiter);
        let mut accepted = 0;
        for _ in 0..ACCEPTS_PER_ITERATION {
            if self.state != AcceptState::HasMore {
                return false;
            }
            if !limiter.has_slot(role) {
                self.state = AcceptState::Paused;
                let has_pending = self.bound.listener.has_pending();
                if has_pending {
                    cx.count_waiting(role);
                }
                return has_pending && role != ListenerRole::Administration;
            }
            match self.bound.listener.accept() {
                // A refused connection is closed without a response. Any status but 200 stops an EventSource for good,
                // whereas it reconnects by itself after its connection was closed.
                Ok((socket, address)) => {
                    self.has_asked = false;
                    match limiter.acquire(socket, address, role) {
                        Some(socket) => assign(Accepted { socket, role, address }),
                        None => cx.count_refused(address),
                    }
                }
                Err(error) => self.state = state_after(&error, cx),
            }
            if self.state == AcceptState::Paused {
                cx.metrics.refused_descriptors.add(1);
                limiter.pause();
                // If closing one did not help, something else used its descriptor, and closing another would not help either.
                return !std::mem::replace(&mut self.has_asked, true);
            }
            // Not at once: a listener must not wait while those before it use up the time.
            accepted += 1;
            if accepted >= MIN_ACCEPTS && cx.is_late() {
                return false;
            }
        }
        false
    }
}

/// Returns the state of a listener after an error.
fn state_after(error: &io::Error, cx: &AcceptContext<'_>) -> AcceptState {
    match error.kind() {
        io::ErrorKind::WouldBlock => AcceptState::Drained,
        // The peer gave up before it was accepted. Others may wait.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
            AcceptState::HasMore
        }
        _ => {
            cx.limits.refuse(Limit::Accepting, cx.now_millis, || Some(error.to_string()));
            AcceptState::Paused
        }
    }
}
