//! The second half of a loop iteration: timeouts and heartbeats, the first worker's periodic work for all workers, the drain,
//! and closing the sockets of subscribers that have left.

use super::drain::Schedule;
use super::{BUDGET_PER_ITERATION, Worker};
use crate::clock::millis;
use crate::config::Settings;
use crate::conn::Budget;
use crate::net::acceptor::Acceptor;
use crate::net::{ListenerRole, Reactor};
use crate::stream::Silence;
use crate::util::shrink::Shrink;

/// Microseconds of a loop iteration for connections that are late.
const TIME_OUT_MICROS: u64 = 500;

/// Microseconds of a loop iteration for closing the sockets of subscribers that have left.
const CLOSE_MICROS: u64 = 500;
/// How often a drain accepts before it closes the listeners. More connections than these accept may wait there only in a flood.
const LAST_ACCEPTS: usize = 32;

/// When the periodic work is due, and how far it has got.
#[derive(Debug)]
pub(super) struct Maintenance {
    silence: Silence,
    /// Milliseconds between two sweeps.
    interval: u64,
    /// The worker's millisecond in which the next sweep begins.
    next: u64,
    /// Whether a sweep is under way.
    is_sweeping: bool,
    /// Whether more streams end than one iteration handles.
    is_expiring: bool,
    /// Whether streams were not yet looked at since tokens were revoked.
    is_revoking: bool,
    /// Whether a sweep has begun since the last socket was closed.
    pub(super) is_idle: bool,
}

impl Maintenance {
    /// Derives the intervals from the settings.
    pub(super) fn new(settings: &Settings) -> Self {
        let clamp = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX / 2);
        let limits = [settings.heartbeat, settings.stall, settings.request_timeout, settings.history_age];
        let shortest = limits.into_iter().fold(settings.keep_alive, std::time::Duration::min);
        Self {
            silence: Silence { heartbeat: clamp(settings.heartbeat), stall: clamp(settings.stall) },
            interval: (millis(shortest) / 8).clamp(5, 1000),
            next: 0,
            is_sweeping: false,
            is_expiring: false,
            is_revoking: false,
            is_idle: true,
        }
    }

    /// Returns whether there is more to do at once.
    pub(super) fn has_more(&self) -> bool {
        self.is_sweeping || self.is_expiring || self.is_revoking
    }

    /// Returns the milliseconds until the next sweep.
    pub(super) fn until_sweep(&self, now: u64) -> u64 {
        self.next.saturating_sub(now)
    }
}

/// Whether the worker accepts new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifePhase {
    /// It does.
    Serving,
    /// The broker drains.
    Draining {
        /// When streams end.
        schedule: Schedule,
        /// Whether there are more streams to end at once.
        is_ending: bool,
    },
}

impl LifePhase {
    pub(super) fn is_draining(self) -> bool {
        self != Self::Serving
    }

    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::Draining { is_ending: true, .. })
    }
}

impl<K: Reactor> Worker<K> {
    /// Sends heartbeats and ends what is late, if it is time.
    pub(super) fn sweep(&mut self) {
        let now = self.cx.now.millis;
        if now >= self.maintenance.next {
            self.maintenance.next = now + self.maintenance.interval;
            self.streams.begin_sweep();
            self.streams.evict_idle();
            self.run_maintenance();
            if self.time_out_connections() {
                self.maintenance.next = now;
            }
            self.streams.shrink_if_sparse();
            self.connections.shrink_if_sparse();
            self.pending.shrink_if_sparse();
            self.maintenance.is_idle = self.connections.is_empty() && self.streams.is_empty();
        }
        self.maintenance.is_sweeping = self.streams.continue_sweep(self.maintenance.silence, self.cx.timestamp());
    }

    /// Makes the streams expire whose token was revoked.
    pub(super) fn revoke_streams(&mut self) {
        if let Some(revocations) = self.cx.service.auth.revocations() {
            self.maintenance.is_revoking = self.streams.revoke(revocations);
        }
    }

    /// Ends the streams whose token has expired or which have reached their maximum age.
    pub(super) fn expire_streams(&mut self) {
        self.maintenance.is_expiring = self.streams.expire(self.cx.now.unix_seconds(), self.cx.timestamp());
    }

    /// Times out connections that are late. Returns whether there may be more.
    fn time_out_connections(&mut self) -> bool {
        self.connections.begin_budget(TIME_OUT_MICROS, &self.cx);
        let mut late = self.connections.late(self.cx.now.millis);
        while self.connections.time_out_next(&mut late, &self.cx, &self.reactor) {
            self.carry_out_effects();
        }
        late.has_more()
    }

    /// Does the first worker's periodic work for all: evicts expired events and full token buckets, resumes accepting, and logs
    /// which limits are no longer reached.
    fn run_maintenance(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        acceptor.retry();
        self.cx.service.quotas.evict_full(self.cx.now.millis);
        self.cx.service.check_limits(self.cx.now.millis);
        if self.cx.service.hub.expire(self.cx.service.event_time(self.cx.now.id_micros)) {
            // More events have expired than one call evicts.
            self.maintenance.next = self.cx.now.millis;
        }
    }

    /// Drains, once the service does: closes connections between two requests, and ends streams when they are due.
    pub(super) fn drain(&mut self) {
        if !self.cx.service.is_draining() {
            return;
        }
        let now = self.cx.now.millis;
        let schedule = match self.phase {
            LifePhase::Draining { schedule, .. } => schedule,
            LifePhase::Serving => {
                self.stop_accepting();
                Schedule::new(now, millis(self.cx.service.settings.drain), self.streams.len())
            }
        };
        self.connections.drain(schedule.responses_until(), &self.cx);
        self.carry_out_effects();
        let is_ending = !self.must_deliver_first(schedule)
            && self.streams.drain(schedule.due(now), BUDGET_PER_ITERATION, self.cx.timestamp());
        self.phase = LifePhase::Draining { schedule, is_ending };
    }

    /// Closes the listeners, if this worker has them, except the administration's. Connections that wait there would be reset,
    /// and a proxy could not know whether their requests were served: they are accepted first.
    fn stop_accepting(&mut self) {
        // Those that wait may need their slots.
        let left: Vec<_> = self.streams.take_closed().collect();
        left.into_iter().for_each(|socket| self.close(socket, ListenerRole::Public));
        let Some(acceptor) = &mut self.acceptor else { return };
        acceptor.look_again();
        (0..LAST_ACCEPTS).for_each(|_| self.accept_until(u64::MAX));
        self.acceptor = self.acceptor.take().and_then(Acceptor::for_administration);
        self.limiter.note_last();
    }

    /// Returns whether no stream may end yet, because events are on the way to it. Everything that was accepted before the drain
    /// is delivered before the streams end. With an engine, clients resume at other brokers, which go on publishing: there may be
    /// events on the way all the time, and a stream that ends in between misses none.
    fn must_deliver_first(&self, schedule: Schedule) -> bool {
        let now = self.cx.now.millis;
        let is_pending = self.cx.service.has_pending_events() && schedule.is_patient(now);
        let has_work = self.streams.has_work();
        match self.cx.service.engine {
            None => is_pending || has_work,
            Some(_) => !schedule.is_spreading(now) && (is_pending || has_work && schedule.is_patient(now)),
        }
    }

    /// Returns whether the worker has drained.
    pub(crate) fn is_over(&self) -> bool {
        let LifePhase::Draining { schedule, .. } = self.phase else { return false };
        // In this order: what was passed to this worker is in its mailbox when the acceptor has ended.
        let has_all = self.limiter.has_last() && self.mailbox.is_empty();
        let has_ended = has_all
            && self.streams.is_empty()
            && !self.streams.has_closed()
            && self.connections.has_only_administration();
        // The worker that serves the administration does so until all others have ended.
        let is_last = self.acceptor.is_none() || self.limiter.is_empty();
        (has_ended && is_last) || self.cx.now.millis >= schedule.until()
    }

    /// Closes sockets of subscribers that have left, for a limited time; the rest follow in the next iteration. Until then, what
    /// the poller reports for them goes to the new subscribers with their keys, which find nothing to do. Resumes accepting if
    /// there is a slot.
    pub(super) fn close_left(&mut self) {
        // The administration has no subscribers.
        let mut budget = Budget::new(CLOSE_MICROS, self.cx.clock.elapsed_micros());
        while !budget.is_spent() {
            let Some(socket) = self.streams.take_closed().next() else { break };
            self.close(socket, ListenerRole::Public);
            budget.measure(self.cx.clock.elapsed_micros());
        }
        if let Some(acceptor) = &mut self.acceptor
            && !self.limiter.is_paused()
        {
            acceptor.resume();
        }
    }

    /// Updates the metrics.
    pub(super) fn update_metrics(&mut self) {
        let metrics = self.cx.metrics();
        metrics.stalled.set(self.streams.blocked() as u64);
        metrics.buffered.set(self.connections.buffered() as u64);
        if !self.streams.has_news() {
            return;
        }
        let counters = self.streams.take_counters();
        metrics.delivered.add(counters.delivered);
        metrics.bytes_sent.add(counters.bytes);
        metrics.gaps.add(counters.gaps);
        metrics.expired.add(counters.expired);
        metrics.closed.add_all(&counters.closed);
        metrics.latency.merge(&counters.latency);
    }
}
