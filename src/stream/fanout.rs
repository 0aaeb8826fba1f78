//! Serving: writes the frames that are due to subscribers, with one write per subscriber and loop iteration, in bounded
//! slices. The ready subscribers of a group are served one after the other from one batch; the others catch up one by one.

#[cfg(test)]
mod tests;

use crate::hub::MAX_IN_FLIGHT_BYTES;
use crate::net::Socket;
use crate::stream::budget::{Allowance, BUDGET_PER_SLICE, cost};
use crate::stream::keys::{GroupKey, SubscriberKey};
use crate::stream::latency::{Stopwatch, UntimedWrites};
use crate::stream::replica::Source;
use crate::stream::subscriber::{PartialWrite, SendState, WriteOutcome};
use crate::stream::write_batch::{Merge, WriteBatch};
use crate::stream::{Close, Streams};

/// While subscribers are blocked, all workers together keep at most the history's bytes divided by this beyond the topics'
/// limits. A socket that is full for a moment, during a burst longer than a topic's history, thus causes no gap.
const OVER_LIMIT_SHARE: usize = 8;
/// Lost events that one loop iteration evicts.
const LOST_PER_ITERATION: usize = 2_000;

/// Why a slice of a pass ended.
pub(super) enum PassEnd {
    /// All ready subscribers are served.
    Finished,
    /// The slice's budget is used up.
    Paused,
    /// A subscriber is no longer ready; removing it changes the ready set.
    Unready(SubscriberKey, UnreadyReason),
}

/// Why a subscriber is no longer ready.
pub(super) enum UnreadyReason {
    /// Its socket is full.
    Blocked(PartialWrite),
    /// Events after its cursor were evicted.
    Behind,
    /// It is a poll to which an event is due.
    Polled,
    /// Its connection is closed.
    Gone,
}

impl<S: Socket> Streams<S> {
    /// Writes what is due until the budget is used up. Call it after [`Streams::take_inbox`] in a loop iteration: only then
    /// is the replica complete up to its newest id. `micros` returns the time that ids are made of; it is called rarely. If
    /// it stands still, only the budget ends the iteration.
    pub fn serve(&mut self, budget: usize, now: u32, micros: &dyn Fn() -> u64) {
        if self.groups.has_ready() || self.subscribers.queued() > 0 {
            self.serve_due(budget, now, micros);
        }
        if !self.groups.has_ready() {
            // Every group has what was published, so the hub may send more. Subscribers that catch up with the past
            // do not delay publishers.
            self.inbox.ack();
            self.evict();
        }
        self.close_over_limit();
    }

    fn serve_due(&mut self, budget: usize, now: u32, micros: &dyn Fn() -> u64) {
        let mut watch = Stopwatch::new(micros);
        // Subscribers that catch up get half of it, so that a long history does not delay live events.
        let mut allowance = Allowance::first_half(budget, micros);
        self.serve_catch_up_queue(&mut allowance, now);
        allowance.begin_second_half(budget);
        while !allowance.is_spent()
            && let Some(key) = self.groups.pop_ready()
        {
            self.serve_slice(key, &mut allowance, now, &mut watch);
        }
    }

    /// Writes once to each queued subscriber.
    fn serve_catch_up_queue(&mut self, allowance: &mut Allowance<'_>, now: u32) {
        for _ in 0..self.subscribers.queued() {
            if allowance.is_spent() {
                break;
            }
            let Some(key) = self.subscribers.pop_queued() else { break };
            allowance.spend(self.catch_up(key, now));
        }
    }

    /// Evicts some of what the log has lost, and what the hub has evicted, except for a bounded amount while subscribers are
    /// behind: otherwise a burst longer than the history would cause a gap even for subscribers that read at once.
    fn evict(&mut self) {
        let Self { hub, replica, subscribers, .. } = self;
        replica.records_mut().clear();
        for lost in std::iter::from_fn(|| replica.evict_lost()).take(LOST_PER_ITERATION) {
            subscribers.on_evicted(lost.id());
        }
        let bytes = hub.limits().bytes;
        let (over_limit, total) = match (subscribers.queued(), subscribers.blocked()) {
            (1.., _) => (MAX_IN_FLIGHT_BYTES, bytes + MAX_IN_FLIGHT_BYTES),
            (0, 1..) => (bytes / OVER_LIMIT_SHARE / hub.workers(), 0),
            (0, 0) => (0, 0),
        };
        while let Some(frame) = replica.evict_over_limit(over_limit) {
            subscribers.on_evicted(frame.id());
        }
        let evicted_through = hub.evicted_through();
        while let Some(frame) = replica.evict_oldest(total, evicted_through) {
            subscribers.on_evicted(frame.id());
        }
    }

    /// Evicts what is too old or no longer needed, unless there are subscribers to serve.
    pub fn evict_idle(&mut self) {
        if !self.has_work() {
            self.evict();
        }
    }

    /// Closes subscribers that keep too many evicted frames in memory.
    fn close_over_limit(&mut self) {
        while let Some(keys) = self.subscribers.over_limit() {
            keys.into_iter().for_each(|key| self.remove(key, Close::Shed));
        }
    }

    /// Continues the pass of a group.
    fn serve_slice(&mut self, key: GroupKey, allowance: &mut Allowance<'_>, now: u32, watch: &mut Stopwatch<'_>) {
        let slice = allowance.left().min(BUDGET_PER_SLICE);
        let mut left = slice;
        let end = match self.groups[key].poll().is_some() {
            true => self.find_due_poll(key, &mut left),
            false => self.pass(key, &mut left, now, watch),
        };
        match end {
            PassEnd::Finished => self.groups.finish(key),
            PassEnd::Paused => self.groups.requeue(key),
            PassEnd::Unready(subscriber, reason) => {
                self.groups.requeue(key);
                left = left.saturating_sub(self.handle_unready(subscriber, reason, now));
                self.subscribers.check_state(subscriber);
            }
        }
        allowance.spend(slice - left);
    }

    fn pass(&mut self, key: GroupKey, left: &mut usize, now: u32, watch: &mut Stopwatch<'_>) -> PassEnd {
        let Self { groups, subscribers, replica, counters, .. } = self;
        let framing = groups[key].framing();
        let (source, ready) = groups[key].parts_mut();
        let feeds = (&*replica, source);
        let (mut batch, mut untimed) = (WriteBatch::new(), UntimedWrites::default());
        subscribers.prefetch(ready.upcoming(*left));
        let end = loop {
            if *left == 0 {
                break PassEnd::Paused;
            }
            let Some(key) = ready.next() else { break PassEnd::Finished };
            let subscriber = &mut subscribers[key];
            // All that are caught up have the same cursor and share a batch.
            if batch.from() != subscriber.cursor() {
                untimed.measure(&batch, feeds, watch, &mut counters.latency);
                if replica.has_unreported_gap(source, subscriber.cursor(), &[]) {
                    // After a loss, this is every subscriber.
                    *left = left.saturating_sub(1);
                    break PassEnd::Unready(key, UnreadyReason::Behind);
                }
                batch.fill(&[], Merge::new(replica, source, subscriber.cursor()), framing);
            }
            if batch.is_empty() {
                continue;
            }
            *left = left.saturating_sub(cost(batch.bytes()));
            match subscriber.write(batch.slices(), batch.bytes(), now) {
                WriteOutcome::All => {
                    subscriber.advance_to(batch.to());
                    counters.add_write(batch.frames(), batch.bytes());
                    if batch.is_truncated() {
                        ready.notify();
                    }
                    if untimed.add() {
                        untimed.measure(&batch, feeds, watch, &mut counters.latency);
                    }
                }
                WriteOutcome::Blocked(written) => {
                    let frames = Merge::new(replica, source, subscriber.cursor());
                    let remainder = batch.stop_at(written).remainder(PartialWrite::Nothing, frames, &[]);
                    subscriber.advance_to(remainder.cursor);
                    counters.add_write(remainder.frames, written);
                    break PassEnd::Unready(key, UnreadyReason::Blocked(remainder.partial));
                }
                WriteOutcome::Gone => break PassEnd::Unready(key, UnreadyReason::Gone),
            }
        };
        untimed.measure(&batch, feeds, watch, &mut counters.latency);
        end
    }

    /// Returns the cost.
    fn handle_unready(&mut self, key: SubscriberKey, reason: UnreadyReason, now: u32) -> usize {
        match reason {
            UnreadyReason::Gone => self.remove(key, Close::Peer),
            UnreadyReason::Behind => {
                self.remove_from_ready_set(key);
                self.subscribers.queue(key);
            }
            UnreadyReason::Polled => {
                let state = SendState { reported: self.reported_to_ready(key), ..SendState::default() };
                self.remove_from_ready_set(key);
                return cost(self.write_missed(key, state, now));
            }
            UnreadyReason::Blocked(partial) => self.block(key, partial),
        }
        0
    }

    /// Returns what a ready subscriber was told of without a gap: the erasures of records that it was sent, or that are not of
    /// its names.
    fn reported_to_ready(&self, key: SubscriberKey) -> Box<[u64]> {
        let subscriber = &self.subscribers[key];
        match self.groups[subscriber.group()].source() {
            Source::Topics(_) => Box::default(),
            Source::Records(_) => {
                let (records, cursor) = (self.replica.records(), subscriber.cursor());
                SendState::with_reported([records.erased_through()].into_iter(), records.id(cursor)).reported
            }
        }
    }

    /// Removes a subscriber from the ready set until its socket has room.
    pub(super) fn block(&mut self, key: SubscriberKey, partial: PartialWrite) {
        self.remove_from_ready_set(key);
        self.subscribers[key].socket_mut().set_patient(true);
        let reported = self.reported_to_ready(key);
        let state = SendState { partial, reported, is_blocked: true, is_patient: true, ..SendState::default() };
        // A ready subscriber was only written frames that the replica has.
        self.subscribers.put_state(key, state, |_| true);
    }
}
