//! The last part of a turn: time-outs and heartbeats, what the first worker does for all, the drain,
//! and giving back what is no longer needed.

use super::{BUDGET_PER_ITERATION, Reactor, Worker};
use crate::api::ListenerRole;
use crate::net::acceptor::Acceptor;
use crate::util::shrink::Shrink;

/// How long a drain may take: the contract's ten seconds, less what joining the threads may take.
const DRAIN_MILLIS: u64 = 9_000;

impl<K: Reactor> Worker<K> {
    pub(crate) fn sweep(&mut self) {
        let now = self.parts.now;
        if now.millis >= self.next_sweep {
            self.next_sweep = now.millis + self.sweep_every;
            self.streams.begin_sweep();
            self.streams.evict_idle();
            self.run_maintenance();
            if self.time_out_connections() {
                self.next_sweep = now.millis;
            }
            self.streams.shrink_if_sparse();
            self.ready.shrink_if_sparse();
            self.working.shrink_if_sparse();
            self.parked.shrink_if_sparse();
            self.delayed.shrink_if_sparse();
            self.is_at_rest = self.connections.is_empty() && self.streams.is_empty();
        }
        self.is_sweeping = self.streams.continue_sweep(self.silence, self.parts.stamp());
    }

    pub(crate) fn expire(&mut self) {
        self.is_expiring = self.streams.expire(self.parts.now.unix_seconds(), self.parts.stamp());
    }

    /// The first worker looks after what belongs to all: the age of history, the limiters' memory, and accepting again.
    fn run_maintenance(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        acceptor.retry();
        self.parts.service.quotas.tidy(self.parts.now.millis);
        if self.parts.service.hub.expire(self.parts.now.id_micros) {
            // More has aged than one slice of the lock's time lets go.
            self.next_sweep = self.parts.now.millis;
        }
    }

    pub(crate) fn drain(&mut self) {
        if !self.parts.service.is_draining() {
            return;
        }
        if self.drain_until.is_none() {
            self.drain_until = Some(self.parts.now.millis + DRAIN_MILLIS);
            self.acceptor = self.acceptor.take().and_then(Acceptor::for_administration);
        }
        self.refuse_delayed();
        self.close_idle();
        // Whatever was accepted before the drain is delivered before the end.
        self.is_ending = !self.parts.service.is_inserting()
            && !self.streams.has_work()
            && self.streams.drain(BUDGET_PER_ITERATION, self.parts.stamp());
    }

    /// Whether the broker has drained.
    pub fn is_over(&self) -> bool {
        let Some(until) = self.drain_until else { return false };
        let has_ended =
            self.streams.is_empty() && self.connections.iter().all(|(_, connection)| connection.is_admins());
        // Whoever answers the administration does so until everybody has ended.
        let is_last = self.acceptor.is_none() || self.gate.is_empty();
        (has_ended && is_last) || self.parts.now.millis >= until
    }

    /// Gives the sockets of subscribers that have left back to the gate; the administration has none.
    pub(crate) fn release(&mut self) {
        self.streams.take_closed().for_each(|socket| self.leave(socket, ListenerRole::Public));
        self.reopen();
    }

    /// Closes a connection that was counted.
    pub(crate) fn leave(&self, socket: K::Stream, role: ListenerRole) {
        let is_counted = role != ListenerRole::Administration;
        self.parts.service.metrics.worker(self.parts.id).connections.subtract(is_counted.into());
        self.give_place_back(socket, role);
    }

    /// Closes a connection; an acceptor that waits for a place is told.
    pub(crate) fn give_place_back(&self, socket: K::Stream, role: ListenerRole) {
        if self.gate.leave(socket, role) {
            self.parts.service.hub.wake(0);
        }
    }

    fn reopen(&mut self) {
        if let Some(acceptor) = &mut self.acceptor
            && self.gate.is_open()
        {
            acceptor.reopen();
        }
    }

    pub(crate) fn report(&mut self) {
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        metrics.stalled.set(self.streams.stalled() as u64);
        metrics.buffered.set(self.buffers.bytes() as u64);
        if !self.streams.has_news() {
            return;
        }
        let tally = self.streams.take_counters();
        metrics.delivered.add(tally.delivered);
        metrics.bytes_sent.add(tally.bytes);
        metrics.gaps.add(tally.gaps);
        metrics.expired.add(tally.expired);
        metrics.closed.add_all(&tally.closed);
        metrics.latency.merge(&tally.latency);
    }
}
