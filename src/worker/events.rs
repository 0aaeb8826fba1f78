//! The first half of a loop iteration: handles what the poller, the mailbox and the listeners report. Connections that have
//! something to do, for any reason, are queued and then driven in order.

use super::{Message, Worker};
use crate::conn::{Budget, READS_PER_ITERATION};
use crate::metrics::Close;
use crate::net::acceptor::{AcceptContext, Accepted};
use crate::net::{ListenerRole, Reactor, ReadOutcome, Readiness, SocketKey, read};

/// Microseconds of a loop iteration for taking new connections and other threads' replies.
const MESSAGE_MICROS: u64 = 500;
/// Microseconds of a loop iteration for accepting connections.
const ACCEPT_MICROS: u64 = 500;
/// How many idle connections may turn out to be busy before the search for one to close ends for this iteration.
const IDLE_TRIES: usize = 4;

impl<K: Reactor> Worker<K> {
    /// Handles what the poller reported.
    pub(super) fn handle_events(&mut self) {
        for index in 0..self.events.len() {
            let readiness = self.events[index];
            match SocketKey::of(readiness.token) {
                SocketKey::Listener(index) => self.acceptor.iter_mut().for_each(|acceptor| acceptor.notify(index)),
                SocketKey::Connection(key) => self.connections.notify(key, readiness),
                SocketKey::Subscriber(key) => self.handle_subscriber(key, readiness),
            }
        }
    }

    /// Handles a subscriber's readiness. A subscriber should send nothing more: its bytes are dropped, its end is noticed, and
    /// one that keeps sending is closed.
    fn handle_subscriber(&mut self, key: u32, readiness: Readiness) {
        if readiness.is_writable {
            self.streams.writable(key);
        }
        if !readiness.is_readable && !readiness.has_ended {
            return;
        }
        let Some(socket) = self.streams.socket_mut(key) else { return };
        let buffer = self.connections.read_buffer();
        for _ in 0..READS_PER_ITERATION {
            match read(socket, buffer) {
                ReadOutcome::Nothing => return,
                ReadOutcome::End => return self.streams.remove(key, Close::Peer),
                ReadOutcome::Bytes(count) if count < buffer.len() && !readiness.has_ended => return,
                ReadOutcome::Bytes(_) => {}
            }
        }
        self.streams.remove(key, Close::Talkative);
    }

    /// Takes new connections and other threads' replies, within their share of the iteration; the rest waits for the next one.
    pub(super) fn take_messages(&mut self) {
        let mut budget = Budget::new(MESSAGE_MICROS, self.cx.clock.elapsed_micros());
        while !budget.is_spent() {
            let Some(message) = self.mailbox.take() else { return };
            match message {
                Message::Accepted(accepted) => self.add_connection(accepted),
                Message::Reply(id, reply) => self.connections.deliver(id, reply, &self.cx),
                Message::LookedUp(id, reply) => self.connections.open_after_lookup(id, reply, &self.cx),
                Message::CloseIdle => self.close_longest_idle(),
            }
            self.carry_out_effects();
            budget.count(1);
            budget.measure(self.cx.clock.elapsed_micros());
        }
    }

    /// Accepts connections, if this worker has the listeners, and sends each to the worker it is for.
    pub(super) fn accept(&mut self) {
        self.accept_until(self.cx.clock.elapsed_micros() + ACCEPT_MICROS);
    }

    /// Stops accepting at this microsecond, but accepts at least some connections of each listener.
    pub(super) fn accept_until(&mut self, until_micros: u64) {
        let Self { acceptor: Some(acceptor), cx, mailbox, limiter, .. } = self else { return };
        if !acceptor.has_more() {
            return;
        }
        let mut own = Vec::new();
        let accepting = AcceptContext {
            limiter,
            metrics: cx.metrics(),
            limits: &cx.service.limits,
            now_millis: cx.now.millis,
            clock: &cx.clock,
            until_micros,
        };
        let is_slot_needed = acceptor.accept(&accepting, |worker, accepted| {
            if worker == cx.worker {
                own.push(accepted);
            } else {
                mailbox.send(worker, Message::Accepted(accepted), &cx.service);
            }
        });
        own.into_iter().for_each(|accepted| self.add_connection(accepted));
        // If subscribers have left, their slots will be free in a moment.
        if is_slot_needed && !self.streams.has_closed() {
            self.request_slot();
        }
    }

    /// Asks all workers to close one idle connection.
    fn request_slot(&mut self) {
        self.limiter.request_slot();
        self.close_longest_idle();
        for worker in (0..self.mailbox.workers()).filter(|&worker| worker != self.cx.worker) {
            if self.limiter.is_slot_wanted() {
                self.mailbox.send(worker, Message::CloseIdle, &self.cx.service);
            }
        }
    }

    /// Closes the connection that has waited longest for its next request, if the acceptor still needs a slot.
    fn close_longest_idle(&mut self) {
        self.connections.begin_budget(MESSAGE_MICROS, &self.cx);
        for _ in 0..IDLE_TRIES {
            if !self.limiter.is_slot_wanted() {
                return;
            }
            let Some(id) = self.connections.longest_idle(&self.cx) else { return };
            let is_idle = self.connections.recheck_idle(id, &self.cx, &self.reactor);
            self.carry_out_effects();
            if is_idle && self.limiter.claim_request() {
                self.connections.close_idle(id, &self.cx);
                return self.carry_out_effects();
            }
        }
    }

    fn add_connection(&mut self, accepted: Accepted<K::Stream>) {
        let role = accepted.role;
        let is_admin = role == ListenerRole::Administration;
        match self.connections.add(accepted, &self.cx, &self.reactor) {
            Ok(()) => {
                self.cx.metrics().accepted.add(1);
                self.cx.metrics().connections.add((!is_admin).into());
                self.maintenance.is_idle = false;
            }
            Err(accepted) => self.release(accepted.socket, role),
        }
    }

    /// Drives the queued connections.
    pub(super) fn drive_connections(&mut self) {
        let mut round = self.connections.begin_round(&self.cx);
        while self.connections.drive_next(&mut round, &self.cx, &self.reactor) {
            self.carry_out_effects();
        }
    }
}
