//! The first half of a turn: what the poll, the mail and the backlog bring, and who could not be
//! finished with in the turn before.

use super::accept::{self, Newcomer};
use super::connection::{Connection, Got, Patience, read};
use super::kernel::Seen;
use super::parts::Key;
use super::streams::Close;
use super::{Kernel, Mail, READS_PER_TURN, TALK_PER_TURN, Worker};
use crate::api::Scope;

impl<K: Kernel> Worker<K> {
    pub(super) fn handle_events(&mut self) {
        self.talk = 0;
        for index in 0..self.seen.len() {
            let seen = self.seen[index];
            if let Some(door) = accept::door(seen.token) {
                self.acceptor.iter_mut().for_each(|acceptor| acceptor.wake(door));
                continue;
            }
            match Key::of(seen.token) {
                Key::Connection(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.is_readable |= seen.is_readable || seen.has_ended;
                        // Whoever waits already keeps its place.
                        let waits = connection.is_queued || self.talk >= TALK_PER_TURN / 2;
                        if waits { self.postpone(key) } else { self.drive(key, seen.has_ended) }
                    }
                }
                Key::Subscriber(key) => self.handle_subscriber(key, seen),
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
                Got::End => return self.streams.remove(key, Close::Peer),
                Got::Bytes(count) if count < self.scratch.len() && !seen.has_ended => return,
                Got::Bytes(_) => {}
            }
        }
        self.streams.remove(key, Close::Talkative);
    }

    /// What is there by now: an answer may bring the next request of a pipeline, and that, refused at once, the next
    /// answer. Whoever sent more has rung for another turn.
    pub(super) fn take_mail(&mut self) {
        for _ in 0..self.mail.len() {
            let Ok(mail) = self.mail.try_recv() else { return };
            match mail {
                Mail::Newcomer(newcomer) => self.take_in(newcomer),
                Mail::Answer { key, serial, answer } => self.deliver(key, serial, answer),
                Mail::MakePlace => self.close_longest_idle(),
            }
        }
    }

    pub(super) fn accept(&mut self) {
        let Self { acceptor: Some(acceptor), parts, letters, gate, .. } = self else { return };
        if !acceptor.has_more() {
            return;
        }
        let mut own = Vec::new();
        let has_left_out = acceptor.accept(gate, parts.service.metrics.worker(parts.id), |worker, newcomer| {
            if worker == parts.id {
                own.push(newcomer);
            } else if letters[worker].send(Mail::Newcomer(newcomer)).is_ok() {
                parts.service.hub.ring(worker);
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
            if self.gate.wants_place() && letters.send(Mail::MakePlace).is_ok() {
                self.parts.service.hub.ring(worker);
            }
        }
    }

    /// A new connection: registered, and listened to at once, for its request may be here already.
    fn take_in(&mut self, newcomer: Newcomer<K::Peer>) {
        let Newcomer { mut socket, scope, address } = newcomer;
        let metrics = self.parts.service.metrics.worker(self.parts.id);
        let key = self.connections.vacant_key();
        let is_late = self.drain_until.is_some() && scope != Scope::Administration;
        if is_late || self.kernel.register(&mut socket, Key::Connection(key).token()).is_err() {
            return self.give_place_back(socket, scope);
        }
        metrics.accepted.add(1);
        metrics.connections.add(u64::from(scope != Scope::Administration));
        let deadline = self.parts.now.millis + self.patience_millis(Patience::First, scope);
        self.serials += 1;
        self.is_at_rest = false;
        self.connections.insert(Connection::new(self.serials, socket, scope, address, deadline));
        self.drive(key, false);
    }

    /// Connections that had to stop for the turn's bounds, or whose publish waits for room.
    pub(super) fn go_on(&mut self) {
        for _ in 0..self.ready.len() {
            if self.talk >= TALK_PER_TURN {
                break;
            }
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
                // Its end may have come while it waited, and was not looked at.
                self.drive(key, true);
            }
        }
    }
}
