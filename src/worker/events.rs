//! The first half of a turn: what the poll, the mail and the backlog bring. A connection that has something to do enters
//! one queue, whatever brought it; [`Worker::drive_ready`] drives those in the queue in order, as far as the budget goes.

use super::{DRIVE_MICROS, MAIL_MICROS, Message, READS_PER_ITERATION, Reactor, Worker};
use crate::api::ListenerRole;
use crate::conn::budget::Budget;
use crate::conn::connection::{Connection, ReadOutcome, TimeoutKind, read};
use crate::net::acceptor::{self, Accepted};
use crate::net::reactor::Readiness;
use crate::stream::Close;
use crate::worker::iteration::Key;

impl<K: Reactor> Worker<K> {
    pub(crate) fn handle_events(&mut self) {
        for index in 0..self.seen.len() {
            let seen = self.seen[index];
            if let Some(door) = acceptor::door(seen.token) {
                self.acceptor.iter_mut().for_each(|acceptor| acceptor.wake(door));
                continue;
            }
            match Key::of(seen.token) {
                Key::Connection(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.is_readable |= seen.is_readable || seen.has_ended;
                        connection.has_ended |= seen.has_ended;
                        self.enqueue(key);
                    }
                }
                Key::Subscriber(key) => self.handle_subscriber(key, seen),
            }
        }
    }

    /// A subscriber has nothing more to say: its bytes are dropped, its end is noticed, and one that
    /// keeps talking is closed.
    fn handle_subscriber(&mut self, key: u32, seen: Readiness) {
        if seen.is_writable {
            self.streams.writable(key);
        }
        if !seen.is_readable && !seen.has_ended {
            return;
        }
        let Some(socket) = self.streams.socket_mut(key) else { return };
        for _ in 0..READS_PER_ITERATION {
            match read(socket, &mut self.scratch) {
                ReadOutcome::Nothing => return,
                ReadOutcome::End => return self.streams.remove(key, Close::Peer),
                ReadOutcome::Bytes(count) if count < self.scratch.len() && !seen.has_ended => return,
                ReadOutcome::Bytes(_) => {}
            }
        }
        self.streams.remove(key, Close::Talkative);
    }

    /// Takes new connections and the store's answers, as far as their share of the iteration goes; the rest stays for the
    /// next one.
    pub(crate) fn take_mail(&mut self) {
        let mut budget = Budget::new(MAIL_MICROS, self.clock.elapsed_micros());
        while !budget.is_spent() {
            let Ok(mail) = self.mail.try_recv() else { return };
            match mail {
                Message::Accepted(newcomer) => self.take_in(newcomer),
                Message::StoreReply { key, serial, answer } => self.deliver(key, serial, answer),
                Message::Found { key, serial, exists } => self.open_after_lookup(key, serial, exists),
                Message::MakePlace => self.close_longest_idle(),
            }
            budget.count(1);
            budget.measure(self.clock.elapsed_micros());
        }
    }

    pub(crate) fn accept(&mut self) {
        let Self { acceptor: Some(acceptor), parts, letters, gate, .. } = self else { return };
        if !acceptor.has_more() {
            return;
        }
        let mut own = Vec::new();
        let has_left_out = acceptor.accept(gate, parts.service.metrics.worker(parts.id), |worker, newcomer| {
            if worker == parts.id {
                own.push(newcomer);
            } else if letters[worker].send(Message::Accepted(newcomer)).is_ok() {
                parts.service.hub.wake(worker);
            }
        });
        own.into_iter().for_each(|newcomer| self.take_in(newcomer));
        if has_left_out {
            self.make_place();
        }
    }

    /// Has one idle connection closed, whichever worker has one.
    fn make_place(&mut self) {
        self.gate.want_place();
        self.close_longest_idle();
        let own = self.parts.id;
        for (worker, letters) in self.letters.iter().enumerate().filter(|&(worker, _)| worker != own) {
            if self.gate.wants_place() && letters.send(Message::MakePlace).is_ok() {
                self.parts.service.hub.wake(worker);
            }
        }
    }

    /// A new connection: registered, and driven as one whose request may be here already.
    fn take_in(&mut self, newcomer: Accepted<K::Stream>) {
        let Accepted { mut socket, role, address } = newcomer;
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        let key = self.connections.vacant_key();
        let is_late = self.drain_until.is_some() && role != ListenerRole::Administration;
        if is_late || self.kernel.register(&mut socket, Key::Connection(key).token()).is_err() {
            return self.give_place_back(socket, role);
        }
        metrics.accepted.add(1);
        metrics.connections.add(u64::from(role != ListenerRole::Administration));
        let deadline = self.parts.now.millis + self.patience_millis(TimeoutKind::First, role);
        self.serials += 1;
        self.is_at_rest = false;
        self.connections.insert(Connection::new(self.serials, socket, role, address, deadline));
        self.enqueue(key);
    }

    /// Drives the connections in the queue, each for a share of the iteration at most, until the budget is spent. Those that
    /// are left, and those that have more to do, come first in the next iteration. A publish that waits for room is tried
    /// again in its turn.
    pub(crate) fn drive_ready(&mut self) {
        self.release_delayed();
        while let Some(key) = self.parked.pop_front() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_parked = false;
                self.enqueue(key);
            }
        }
        self.budget = Budget::new(DRIVE_MICROS, self.clock.elapsed_micros());
        let may_go_on = (0..self.ready.len()).all(|_| self.ready.pop_front().is_none_or(|key| self.drive_queued(key)));
        // One slice at least: small requests must not keep a large publish waiting for ever.
        let slices = if may_go_on { self.working.len() } else { self.working.len().min(1) };
        for _ in 0..slices {
            let Some(key) = self.working.pop_front() else { return };
            if !self.drive_queued(key) {
                return;
            }
        }
    }

    /// Drives a connection that was taken from a queue. Returns whether the budget has something left.
    fn drive_queued(&mut self, key: usize) -> bool {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_queued = false;
            self.drive(key);
        }
        !self.budget.is_spent()
    }
}
