//! Sets the deadlines of connections, and ends what is late: requests time out, and idle connections are closed.

use super::connection::Connection;
use super::timeout::{DRAIN_FIRST_MILLIS, DRAIN_LINGER_MILLIS, TimeoutKind};
use super::{ConnectionId, Connections, IterationContext};
use crate::clock::millis;
use crate::metrics::Unread;
use crate::net::{Reactor, Stream};

/// The maximum number of connections that time out in one loop iteration: those accepted together are late together.
const TIMEOUTS_PER_ITERATION: usize = 256;
/// Connections that have waited for less than this for their next request are not closed in favor of others: their clients
/// are busy, and may be sending it.
const MIN_IDLE_MILLIS: u64 = 1_000;

/// The connections that are late, as many as one iteration handles.
#[derive(Debug)]
pub(crate) struct Late {
    keys: std::vec::IntoIter<usize>,
    /// Whether there may be more.
    has_more: bool,
}

impl Late {
    /// Returns whether there may be more in the next iteration.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more || self.keys.len() > 0
    }
}

impl<S: Stream> Connections<S> {
    /// Restarts the timer when something else is awaited, and moves the deadline when the peer has done its part.
    pub(super) fn update_deadline(&mut self, key: usize, cx: &IterationContext) {
        let is_draining = self.is_draining;
        let connection = &mut self.slab[key];
        let awaited = connection.awaited();
        let limit = awaited.limit(&cx.service.settings, connection.role, is_draining);
        let is_next = connection.exchange.take_responded();
        connection.timer.update(awaited, is_next, limit, cx.now.millis);
    }

    /// Returns the connections whose time is over.
    pub(crate) fn late(&self, now: u64) -> Late {
        let late = self.slab.iter().filter(|(_, connection)| connection.timer.deadline() <= now).map(|(key, _)| key);
        let keys: Vec<_> = late.take(TIMEOUTS_PER_ITERATION).collect();
        Late { has_more: keys.len() == TIMEOUTS_PER_ITERATION, keys: keys.into_iter() }
    }

    /// Times the next late connection out. Returns whether there was one, and budget for it.
    pub(crate) fn time_out_next<K: Reactor<Stream = S>>(
        &mut self,
        late: &mut Late,
        cx: &IterationContext,
        reactor: &K,
    ) -> bool {
        if late.keys.len() == 0 || self.is_budget_spent(cx) {
            return false;
        }
        let Some(key) = late.keys.next() else { return false };
        // It may have been closed in favor of others since.
        if self.slab.contains(key) && !self.has_done_its_part(key, cx, reactor) {
            self.time_out(key, cx, reactor);
        }
        true
    }

    fn time_out<K: Reactor<Stream = S>>(&mut self, key: usize, cx: &IterationContext, reactor: &K) {
        let connection = &mut self.slab[key];
        match connection.timer.kind() {
            TimeoutKind::Output => {
                cx.metrics().unread_closed.count(Unread::Slow as usize);
                self.close(key, cx);
            }
            TimeoutKind::Linger | TimeoutKind::First | TimeoutKind::Next => self.close(key, cx),
            TimeoutKind::Head
            | TimeoutKind::Body
            | TimeoutKind::Drop
            | TimeoutKind::Work
            | TimeoutKind::Room
            | TimeoutKind::Store
            | TimeoutKind::Engine
            | TimeoutKind::Lookup
            | TimeoutKind::Verification => {
                self.time_out_request(key, cx);
                self.drive(key, cx, reactor);
            }
        }
    }

    /// Responds to a request that took too long.
    pub(super) fn time_out_request(&mut self, key: usize, cx: &IterationContext) {
        let connection = &mut self.slab[key];
        connection.queues.is_delayed = false;
        let context = cx.request_context(connection.role, connection.address);
        let step = connection.exchange.time_out(context, &mut connection.output);
        self.take_step(key, step, cx);
    }

    /// Returns whether a peer that seems late is not. What it sent or accepted in time may not have been handled yet, because
    /// an iteration handles only a part of what the poller has to report, which is much after the process was suspended.
    fn has_done_its_part<K: Reactor<Stream = S>>(&mut self, key: usize, cx: &IterationContext, reactor: &K) -> bool {
        let connection = &mut self.slab[key];
        // Not what was awaited when it was last driven: a reply may have arrived since, and the connection is queued for it.
        if connection.awaited().is_reply() || connection.awaited() == TimeoutKind::Linger {
            return false;
        }
        connection.readability.is_readable = true;
        self.drive(key, cx, reactor);
        // It is closed, a subscriber by now, or has a new deadline.
        self.slab.get(key).is_none_or(|connection| connection.timer.deadline() > cx.now.millis)
    }

    /// Begins or continues to drain: closes connections between two requests, and new ones that have sent none for a moment. Gives
    /// those that linger less time, and refuses requests whose token waits to be verified. Publishes wait for the engine until
    /// the millisecond `until` at most.
    pub(crate) fn drain(&mut self, until: u64, cx: &IterationContext) {
        self.is_draining = true;
        self.refuse_delayed(cx);
        let latest = cx.now.millis + DRAIN_LINGER_MILLIS;
        for connection in self.slab.values_mut() {
            match connection.timer.kind() {
                TimeoutKind::Linger => connection.timer.shorten(latest),
                TimeoutKind::Engine => connection.timer.shorten(until),
                _ => {}
            }
        }
        // The deadline of a first request says when its connection was accepted.
        let latest = cx.now.millis + millis(cx.service.settings.request_timeout);
        let is_new = |connection: &Connection<S>| {
            connection.timer.kind() == TimeoutKind::First && connection.timer.deadline() + DRAIN_FIRST_MILLIS > latest
        };
        let is_idle =
            |connection: &Connection<S>| !connection.is_admin() && connection.is_idle() && !is_new(connection);
        let idle: Vec<_> = self.slab.iter().filter(|(_, connection)| is_idle(connection)).map(|(key, _)| key).collect();
        idle.into_iter().for_each(|key| self.close(key, cx));
    }

    /// Returns the connection that has waited longest for its next request, if it may be closed in favor of others.
    pub(crate) fn longest_idle(&self, cx: &IterationContext) -> Option<ConnectionId> {
        let latest = cx.now.millis + millis(cx.service.settings.keep_alive);
        let is_long_idle = |connection: &Connection<S>| {
            connection.timer.kind() == TimeoutKind::Next
                && connection.timer.deadline() + MIN_IDLE_MILLIS <= latest
                && connection.is_idle()
                && !connection.is_admin()
        };
        let idle = self.slab.iter().filter(|(_, connection)| is_long_idle(connection));
        idle.min_by_key(|(_, connection)| connection.timer.deadline()).map(|(key, _)| self.id_of(key))
    }

    /// Drives a connection whose next request may have just arrived. Returns whether it is still idle.
    pub(crate) fn recheck_idle<K: Reactor<Stream = S>>(
        &mut self,
        id: ConnectionId,
        cx: &IterationContext,
        reactor: &K,
    ) -> bool {
        let Some(connection) = self.get(id) else { return false };
        connection.readability.is_readable = true;
        // What another one has just done is not charged to this one.
        self.budget.measure(cx.clock.elapsed_micros());
        self.drive(id.key, cx, reactor);
        self.get(id).is_some_and(|connection| connection.is_idle() && !connection.readability.is_readable)
    }

    /// Closes an idle connection in favor of others.
    pub(crate) fn close_idle(&mut self, id: ConnectionId, cx: &IterationContext) {
        if self.get(id).is_some() {
            cx.metrics().idle_closed.add(1);
            self.close(id.key, cx);
        }
    }
}
