//! How long connections are waited for, and what is done with those that are late.

use super::{MAIL_MICROS, Reactor, TIME_OUT_MICROS, Worker};
use crate::api::ListenerRole;
use crate::clock::millis;
use crate::conn::budget::Budget;
use crate::conn::connection::{Connection, TimeoutKind};
use crate::conn::min_rate::{MinRate, Progress};
use crate::metrics::Unread;

/// How long the administration's connections are waited for: they are few, and idle ones keep others out.
const ADMIN_MILLIS: u64 = 2_000;
/// How long a publish waits for room before it is refused.
const ROOM_MILLIS: u64 = 5_000;
/// The longest that work on a publish may take, in slices between which others are served. Only a broker that is overloaded
/// beyond use takes as long.
const WORK_MILLIS: u64 = 60_000;
/// How long the store may take to answer; a disk that takes longer has failed.
const STORE_MILLIS: u64 = 60_000;
/// How long the store may take to say whether a stream's position exists; after that it is in doubt.
const LOOKUP_MILLIS: u64 = 5_000;
/// How long the peer's end is waited for after ours.
const LINGER_MILLIS: u64 = 5_000;
/// The same while the broker drains.
const DRAIN_LINGER_MILLIS: u64 = 500;
/// So many connections are timed out in one turn: whoever came with many others is late with many others.
const TIMEOUTS_PER_ITERATION: usize = 256;
/// A body may stand still for so many times the patience for a head.
const BODY_PATIENCE: u64 = 3;
/// The least rate of a body that is wanted: bodies share a budget of memory.
const BODY_RATE: MinRate = MinRate { grace_millis: 30_000, bytes_per_second: 1 << 10 };
/// The least rate at which answers must be taken after `--stall`, in bytes per second. Slow mobile connections (2G) reach it; at
/// this rate a page of 8 MiB takes 17 minutes.
const MIN_ANSWER_RATE: u64 = 8 << 10;
/// Connections that have waited for less than this for their next request are not closed for others: their clients are busy,
/// and may be sending it.
const MIN_IDLE_MILLIS: u64 = 1_000;
/// Idle connections that may turn out to be busy before the search for one to close is given up for now.
const IDLE_TRIES: usize = 4;

impl<K: Reactor> Worker<K> {
    /// Sets the deadline anew when something else is waited for, and moves it when the peer has done its part.
    pub(crate) fn set_deadline(&mut self, key: usize) {
        let now = self.parts.now.millis;
        let connection = &self.connections[key];
        let patience = connection.patience_now();
        let (rate, latest) = (self.min_rate(patience), now + self.patience_millis(patience, connection.role));
        let connection = &mut self.connections[key];
        let (written, read) =
            (std::mem::take(&mut connection.bytes_written), std::mem::take(&mut connection.bytes_read));
        let moved = if patience == TimeoutKind::Output { written } else { read };
        if connection.exchange.take_turned() || patience != connection.patience {
            connection.patience = patience;
            connection.progress = rate.map_or(connection.progress, |rate| Progress::begin(rate, now));
        } else {
            let Some(rate) = rate.filter(|_| moved > 0) else { return };
            connection.progress = connection.progress.advance(rate, moved, now);
        }
        connection.deadline = rate.map_or(latest, |_| latest.min(connection.progress.deadline()));
    }

    fn min_rate(&self, patience: TimeoutKind) -> Option<MinRate> {
        match patience {
            TimeoutKind::Body => Some(BODY_RATE),
            TimeoutKind::Output => {
                let grace_millis = millis(self.parts.service.settings.stall);
                Some(MinRate { grace_millis, bytes_per_second: MIN_ANSWER_RATE })
            }
            _ => None,
        }
    }

    pub(crate) fn patience_millis(&self, patience: TimeoutKind, role: ListenerRole) -> u64 {
        let settings = &self.parts.service.settings;
        match patience {
            TimeoutKind::First | TimeoutKind::Head | TimeoutKind::Next if role == ListenerRole::Administration => {
                ADMIN_MILLIS
            }
            TimeoutKind::First | TimeoutKind::Head | TimeoutKind::Drop | TimeoutKind::Verification => {
                millis(settings.request_timeout)
            }
            TimeoutKind::Body => BODY_PATIENCE * millis(settings.request_timeout),
            TimeoutKind::Next => millis(settings.keep_alive),
            TimeoutKind::Work => WORK_MILLIS,
            TimeoutKind::Room => ROOM_MILLIS,
            TimeoutKind::Store => STORE_MILLIS,
            TimeoutKind::Lookup => LOOKUP_MILLIS,
            TimeoutKind::Output => millis(settings.stall),
            TimeoutKind::Linger if self.drain_until.is_some() => DRAIN_LINGER_MILLIS,
            TimeoutKind::Linger => LINGER_MILLIS,
        }
    }

    /// Ends those for whom patience is over, as many as a turn allows. Answers whether there may be more.
    pub(crate) fn time_out_connections(&mut self) -> bool {
        self.budget = Budget::new(TIME_OUT_MICROS, self.clock.elapsed_micros());
        let now = self.parts.now.millis;
        let late = self.connections.iter().filter(|(_, connection)| connection.deadline <= now).map(|(key, _)| key);
        let late: Vec<_> = late.take(TIMEOUTS_PER_ITERATION).collect();
        let is_full = late.len() == TIMEOUTS_PER_ITERATION;
        for key in late {
            if self.budget.is_spent() {
                return true;
            }
            self.time_out(key);
        }
        is_full
    }

    fn time_out(&mut self, key: usize) {
        // One that was looked at before may have been closed in favor of others.
        if !self.connections.contains(key) || self.does_its_part(key) {
            return;
        }
        let connection = &mut self.connections[key];
        match connection.patience {
            TimeoutKind::Output => {
                self.parts.service.metrics.worker(self.parts.id).unread_closed.count(Unread::Slow as usize);
                self.close(key);
            }
            TimeoutKind::Linger | TimeoutKind::First | TimeoutKind::Next => self.close(key),
            TimeoutKind::Head
            | TimeoutKind::Body
            | TimeoutKind::Drop
            | TimeoutKind::Work
            | TimeoutKind::Room
            | TimeoutKind::Store
            | TimeoutKind::Lookup
            | TimeoutKind::Verification => {
                connection.is_delayed = false;
                let step = connection
                    .exchange
                    .time_out(self.parts.context(connection.role, connection.address), &mut connection.output);
                self.take_step(key, step);
                self.drive(key);
            }
        }
    }

    /// Checks whether a peer is really late: what it sent or accepted in time may not have been handled yet, because a turn takes
    /// in only part of what the poll reports, and after the whole process was stopped that may be more than one turn's worth.
    fn does_its_part(&mut self, key: usize) -> bool {
        let connection = &mut self.connections[key];
        // Not the patience of when it was driven last: an answer may have come since, and wait in the queue.
        if matches!(connection.patience_now(), TimeoutKind::Linger | TimeoutKind::Store | TimeoutKind::Lookup) {
            return false;
        }
        connection.is_readable = true;
        self.drive(key);
        // Gone, a subscriber by now, or waited for anew.
        self.connections.get(key).is_none_or(|connection| connection.deadline > self.parts.now.millis)
    }

    /// While draining: connections between two requests have nothing to wait for, and peers that were
    /// refused get less time to end.
    pub(crate) fn close_idle(&mut self) {
        let latest = self.parts.now.millis + DRAIN_LINGER_MILLIS;
        let lingering = self.connections.values_mut();
        lingering
            .filter(|connection| connection.patience == TimeoutKind::Linger)
            .for_each(|connection| connection.deadline = connection.deadline.min(latest));
        let is_idle = |connection: &Connection<K::Stream>| !connection.is_admins() && connection.is_idle();
        let idle: Vec<_> =
            self.connections.iter().filter(|(_, connection)| is_idle(connection)).map(|(key, _)| key).collect();
        idle.into_iter().for_each(|key| self.close(key));
    }

    /// Closes the connection that has waited longest for its next request, if the acceptor still wants a place.
    pub(crate) fn close_longest_idle(&mut self) {
        self.budget = Budget::new(MAIL_MICROS, self.clock.elapsed_micros());
        for _ in 0..IDLE_TRIES {
            if !self.gate.wants_place() {
                return;
            }
            let Some(key) = self.longest_idle() else { return };
            let connection = &mut self.connections[key];
            let serial = connection.serial;
            // Its next request may have come in this moment.
            connection.is_readable = true;
            self.drive(key);
            let still_there = self.connections.get(key).filter(|connection| connection.serial == serial);
            let is_idle = still_there.is_some_and(|connection| connection.is_idle() && !connection.is_readable);
            if is_idle && self.gate.claim_place() {
                self.parts.service.metrics.worker(self.parts.id).idle_closed.add(1);
                return self.close(key);
            }
        }
    }

    fn longest_idle(&self) -> Option<usize> {
        let latest = self.parts.now.millis + millis(self.parts.service.settings.keep_alive);
        let is_long_idle = |connection: &Connection<K::Stream>| {
            connection.patience == TimeoutKind::Next
                && connection.deadline + MIN_IDLE_MILLIS <= latest
                && connection.is_idle()
                && !connection.is_admins()
        };
        let idle = self.connections.iter().filter(|(_, connection)| is_long_idle(connection));
        idle.min_by_key(|(_, connection)| connection.deadline).map(|(key, _)| key)
    }
}
