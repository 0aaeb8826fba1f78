//! Serving: who is owed frames gets them, in bounded slices, one write per subscriber and
//! turn. An audience is served seat by seat; whoever has no seat is served alone.

#[cfg(test)]
mod tests;

use std::hint::black_box;

use crate::hub::{MAX_IN_FLIGHT_BYTES, Slot};
use crate::stream::catch_up::rest_after;
use crate::stream::group::{GroupKey, SubscriberKey};
use crate::stream::latency::{Batch, Stopwatch};
use crate::stream::subscriber::{Backlog, NO_SEAT, PartialWrite, Socket, Subscriber, WriteOutcome};
use crate::stream::write_batch::{Merge, WriteBatch};
use crate::stream::{Close, Streams};
use crate::util::paged_slab::PagedSlab;

/// What serving may cost in one turn, so that accepts, requests and other topics go on. A
/// write costs 1, and 1 more for every 16 KiB.
pub const BUDGET_PER_ITERATION: usize = 512;
/// What one audience may cost before another one's turn comes.
const BUDGET_PER_SLICE: usize = 128;

pub(crate) fn cost(bytes: usize) -> usize {
    1 + bytes / (16 << 10)
}

/// Why a slice of a pass ended.
enum PassEnd {
    /// Every seat has been served.
    Over,
    /// The slice's budget is used up.
    Paused,
    /// Somebody leaves a seat, and the seats move.
    Departs(SubscriberKey, Departure),
}

/// Why a subscriber leaves its seat.
enum Departure {
    /// Its socket is full.
    Blocked(PartialWrite),
    /// Events after its cursor are gone.
    Behind,
    /// Its peer is.
    Gone,
}

impl<S: Socket> Streams<S> {
    /// Serves whoever is owed something, until the budget is used up. Comes after
    /// [`Streams::take_inbox`] in a turn: only then is the replica complete up to its newest id. `micros` tells the time
    /// that ids are made of; it is asked now and then.
    pub fn serve(&mut self, budget: usize, now: u32, micros: &dyn Fn() -> u64) {
        let mut watch = Stopwatch::new(micros);
        // Those who catch up get half of it, so that a long history keeps no live event waiting.
        let for_hungry = budget.div_ceil(2);
        let mut left = budget - for_hungry + self.serve_hungry(for_hungry, now);
        while left > 0
            && let Some(key) = self.due.pop_front()
        {
            left = self.serve_slice(key, left, now, &mut watch);
        }
        if self.due.is_empty() {
            // Every audience has what was published: the hub may send more. Whoever catches up with the
            // past keeps no publisher waiting.
            self.inbox.ack();
            self.trim();
        }
        self.shed();
    }

    /// One write to each that is behind; answers what is left of the budget.
    fn serve_hungry(&mut self, budget: usize, now: u32) -> usize {
        let mut left = budget;
        for _ in 0..self.hungry.len() {
            if left == 0 {
                break;
            }
            let Some(key) = self.hungry.pop_front() else { break };
            left = left.saturating_sub(self.catch_up(key, now));
        }
        left
    }

    /// Lets go what the hub has let go, except for a bounded surplus while somebody is behind: or a
    /// burst longer than the history would be a gap even for those who read at once.
    fn trim(&mut self) {
        self.replica.records.settle().for_each(|superseded| self.absences.lose(superseded.id()));
        let limits = self.hub.limits();
        let (surplus, total) = match (self.hungry.is_empty(), self.absences.blocked()) {
            (false, _) => (MAX_IN_FLIGHT_BYTES, limits.bytes + MAX_IN_FLIGHT_BYTES),
            (true, 1..) => (self.surplus_limit, 0),
            (true, 0) => (0, 0),
        };
        while self.replica.feeds.over_limit_bytes() > surplus
            && let Some(&slot) = self.overfull.last()
        {
            if self.replica.feeds.is_over_limit(slot) {
                self.let_go(slot);
            } else {
                self.replica.feeds.meta_mut(slot).is_overfull = false;
                self.overfull.pop();
            }
        }
        let floor = self.hub.evicted_through();
        while self.replica.feeds.bytes() > total
            && let Some((id, slot)) = self.replica.feeds.oldest()
            && id <= floor
        {
            self.let_go(slot);
        }
    }

    /// Lets go what has aged or is no longer waited for, unless somebody is still to be served from it.
    pub fn trim_idle(&mut self) {
        if !self.has_work() {
            self.trim();
        }
    }

    fn let_go(&mut self, slot: Slot) {
        if let Some(frame) = self.replica.feeds.pop(slot) {
            self.absences.lose(frame.id());
        }
    }

    /// Closes those for whom too much is kept that the history has let go.
    fn shed(&mut self) {
        while let Some(keys) = self.absences.to_shed() {
            keys.into_iter().for_each(|key| self.remove(key, Close::Shed));
        }
    }

    /// Serves an audience from where its pass stopped; answers what is left of the budget.
    fn serve_slice(&mut self, key: GroupKey, budget: usize, now: u32, watch: &mut Stopwatch<'_>) -> usize {
        let slice = budget.min(BUDGET_PER_SLICE);
        let mut left = slice;
        match self.pass(key, &mut left, now, watch) {
            PassEnd::Over => self.audiences[key as usize].is_queued = false,
            PassEnd::Paused => self.due.push_back(key),
            PassEnd::Departs(subscriber, departure) => {
                self.due.push_back(key);
                self.depart(subscriber, departure);
            }
        }
        budget - (slice - left)
    }

    fn pass(&mut self, key: GroupKey, left: &mut usize, now: u32, watch: &mut Stopwatch<'_>) -> PassEnd {
        let Self { audiences, subscribers, replica, tally, .. } = self;
        let audience = &mut audiences[key as usize];
        let (source, framing) = (&audience.source, audience.set.framing);
        let heard = (&*replica, source);
        let (mut gathering, mut batch) = (WriteBatch::of_nothing(), Batch::default());
        look_at(subscribers, audience.seating.upcoming(*left));
        let end = loop {
            if *left == 0 {
                break PassEnd::Paused;
            }
            let Some(seated) = audience.seating.next() else { break PassEnd::Over };
            let subscriber = &mut subscribers[seated as usize];
            // All who are caught up share one cursor, hence one gathering.
            if gathering.from != subscriber.cursor {
                batch.note(&gathering, heard, watch, &mut tally.latency);
                if Backlog::default().is_untold(replica, source, subscriber.cursor) {
                    break PassEnd::Departs(seated, Departure::Behind);
                }
                gathering.fill(&[], Merge::new(replica, source, subscriber.cursor), framing);
            }
            if gathering.is_empty() {
                continue;
            }
            *left = left.saturating_sub(cost(gathering.bytes));
            match subscriber.write(gathering.slices(), gathering.bytes, now) {
                WriteOutcome::All => {
                    subscriber.cursor = gathering.to;
                    tally.delivered += gathering.frames() as u64;
                    tally.bytes += gathering.bytes as u64;
                    if gathering.is_truncated {
                        audience.seating.call();
                    }
                    if batch.add() {
                        batch.note(&gathering, heard, watch, &mut tally.latency);
                    }
                }
                WriteOutcome::Blocked(written) => {
                    tally.bytes += written as u64;
                    let stop = gathering.stop_at(written);
                    let (rest, frames) = rest_after(
                        stop,
                        PartialWrite::Nothing,
                        Merge::new(replica, source, subscriber.cursor),
                        &mut subscriber.cursor,
                    );
                    tally.delivered += frames;
                    break PassEnd::Departs(seated, Departure::Blocked(rest));
                }
                WriteOutcome::Gone => break PassEnd::Departs(seated, Departure::Gone),
            }
        };
        batch.note(&gathering, heard, watch, &mut tally.latency);
        end
    }

    fn depart(&mut self, key: SubscriberKey, departure: Departure) {
        match departure {
            Departure::Gone => self.remove(key, Close::Peer),
            Departure::Behind => {
                self.give_up_seat(key);
                self.hungry.push_back(key);
            }
            Departure::Blocked(rest) => self.block(key, rest),
        }
    }

    /// A subscriber's socket is full: it leaves its seat until there is room.
    pub(crate) fn block(&mut self, key: SubscriberKey, rest: PartialWrite) {
        self.give_up_seat(key);
        self.subscribers[key as usize].socket.set_patient(true);
        // Nobody is served from a seat what the replica has not.
        let absence = Backlog { rest, is_blocked: true, is_patient: true, ..Backlog::default() };
        self.absences.put(key, absence, |_| true);
    }

    pub(crate) fn give_up_seat(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key as usize];
        let (audience, seat) = (subscriber.audience, std::mem::replace(&mut subscriber.seat, NO_SEAT));
        if seat != NO_SEAT {
            self.stand(audience, seat);
        }
    }
}

/// The entries of those who came in place of others lie anywhere in memory: looked at together, before they are
/// served one by one, they are waited for together.
fn look_at<S>(subscribers: &PagedSlab<Subscriber<S>>, keys: &[SubscriberKey]) {
    // Backwards, as they will be served: memory in order is still walked in order.
    let found = keys.iter().rev().filter_map(|&key| subscribers.get(key as usize));
    black_box(found.map(|subscriber| subscriber.cursor).max());
}
