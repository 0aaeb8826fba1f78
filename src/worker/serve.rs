//! Serving: who is owed frames gets them, in bounded slices, one vectored write per subscriber and
//! turn. An audience is served seat by seat; whoever has no seat is served alone.

use std::io::{IoSlice, Write};
use std::sync::Arc;

use super::audience::{AudienceKey, SubscriberKey};
use super::gather::{Gathering, Merge, Stop};
use super::streams::{Heard, Streams};
use super::subscriber::{Absence, NO_SEAT, Rest, Written};
use crate::hub::{Feeds, Slot};
use crate::sse::{Framing, stream};

/// What serving may cost in one turn, so that accepts, requests and other topics go on. A
/// write costs 1, and 1 more for every 16 KiB.
pub const BUDGET_PER_TURN: usize = 512;
/// What one audience may cost before another one's turn comes.
const BUDGET_PER_SLICE: usize = 128;

fn cost(bytes: usize) -> usize {
    1 + bytes / (16 << 10)
}

/// Why a slice of a pass ended.
enum PassEnd {
    /// Every seat has been served.
    Over,
    /// The slice's writes are used up.
    Paused,
    /// Somebody leaves a seat, and the seats move.
    Departs(SubscriberKey, Departure),
}

/// Why a subscriber leaves its seat.
enum Departure {
    /// Its socket is full.
    Blocked(Rest),
    /// Events after its cursor are gone.
    Behind,
    /// Its peer is.
    Gone,
}

impl<S: Write> Streams<S> {
    /// Serves whoever is owed something, until the budget is used up. Comes after
    /// [`Streams::take_inbox`] in a turn: only then is the replica complete up to its newest id.
    pub fn serve(&mut self, mut budget: usize, now: u32) {
        for _ in 0..self.hungry.len() {
            if budget == 0 {
                return;
            }
            if let Some(key) = self.hungry.pop_front() {
                budget = budget.saturating_sub(self.catch_up(key, now));
            }
        }
        while budget > 0
            && let Some(key) = self.due.pop_front()
        {
            budget = self.serve_slice(key, budget, now);
        }
        if self.due.is_empty() && self.hungry.is_empty() {
            self.settle();
        }
        self.shed();
    }

    /// Everyone who could take it has what was published: the hub may send more, and the replica
    /// keeps no more than the history's bounds. Not earlier, or a burst longer than the history
    /// would be a gap even for those who read at once.
    fn settle(&mut self) {
        if !self.inbox.settle() {
            return;
        }
        let limit = self.hub.limits().events_per_topic;
        while let Some(slot) = self.touched.pop() {
            self.feeds.note_mut(slot).is_touched = false;
            while self.feeds.get(slot).window.len() > limit {
                self.let_go(slot);
            }
        }
        self.forget(self.hub.floor());
    }

    /// Lets go what the hub has let go for its age or for the bound of bytes.
    fn forget(&mut self, floor: u64) {
        while let Some((id, slot)) = self.feeds.oldest()
            && id <= floor
        {
            self.let_go(slot);
        }
    }

    fn let_go(&mut self, slot: Slot) {
        if let Some(frame) = self.feeds.pop(slot) {
            self.absences.lose(frame.id());
        }
    }

    /// Closes those for whom too much is kept that the history has let go.
    fn shed(&mut self) {
        while let Some(keys) = self.absences.surplus() {
            keys.into_iter().for_each(|key| self.remove(key));
        }
    }

    /// Lets go of what has aged, unless somebody is still to be served from it.
    pub fn forget_aged(&mut self) {
        if !self.has_work() {
            self.forget(self.hub.floor());
        }
    }

    /// Serves an audience from where its pass stopped; answers what is left of the budget.
    fn serve_slice(&mut self, key: AudienceKey, budget: usize, now: u32) -> usize {
        let slice = budget.min(BUDGET_PER_SLICE);
        let mut left = slice;
        match self.pass(key, &mut left, now) {
            PassEnd::Over => self.audiences[key as usize].is_queued = false,
            PassEnd::Paused => self.due.push_back(key),
            PassEnd::Departs(subscriber, departure) => {
                self.due.push_back(key);
                self.depart(subscriber, departure);
            }
        }
        budget - (slice - left)
    }

    fn pass(&mut self, key: AudienceKey, left: &mut usize, now: u32) -> PassEnd {
        let Self { audiences, subscribers, feeds, tally, .. } = self;
        let audience = &mut audiences[key as usize];
        let (slots, framing) = (&audience.slots, audience.set.framing);
        let mut shared: Option<Gathering<'_>> = None;
        while *left > 0 {
            let Some(seated) = audience.seating.next() else { return PassEnd::Over };
            let subscriber = &mut subscribers[seated as usize];
            // All who are caught up share one cursor, hence one gathering.
            let gathering = match &mut shared {
                Some(gathering) if gathering.from == subscriber.cursor => gathering,
                _ if Absence::default().is_untold(feeds, slots, subscriber.cursor) => {
                    return PassEnd::Departs(seated, Departure::Behind);
                }
                other => other.insert(Gathering::new(&[], feeds, slots, subscriber.cursor, framing)),
            };
            if gathering.is_empty() {
                continue;
            }
            *left = left.saturating_sub(cost(gathering.bytes));
            match subscriber.write(gathering.slices(), gathering.bytes, now) {
                Written::All => {
                    subscriber.cursor = gathering.to;
                    tally.delivered += gathering.frames() as u64;
                    tally.bytes += gathering.bytes as u64;
                    if gathering.is_truncated {
                        audience.seating.call();
                    }
                }
                Written::Blocked(written) => {
                    tally.bytes += written as u64;
                    let stop = gathering.stop_at(written);
                    let (rest, frames) = rest_after(stop, Rest::Nothing, feeds, slots, &mut subscriber.cursor);
                    tally.delivered += frames;
                    return PassEnd::Departs(seated, Departure::Blocked(rest));
                }
                Written::Gone => return PassEnd::Departs(seated, Departure::Gone),
            }
        }
        PassEnd::Paused
    }

    fn depart(&mut self, key: SubscriberKey, departure: Departure) {
        match departure {
            Departure::Gone => self.remove(key),
            Departure::Behind => {
                self.give_up_seat(key);
                self.hungry.push_back(key);
            }
            Departure::Blocked(rest) => self.block(key, rest),
        }
    }

    /// A subscriber's socket is full: it leaves its seat until there is room.
    pub(super) fn block(&mut self, key: SubscriberKey, rest: Rest) {
        self.give_up_seat(key);
        // Nobody is served from a seat what the replica has not.
        self.absences.put(key, Absence { rest, is_blocked: true, ..Absence::default() }, |_| true);
    }

    fn give_up_seat(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key as usize];
        let (audience, seat) = (subscriber.audience, std::mem::replace(&mut subscriber.seat, NO_SEAT));
        if seat != NO_SEAT {
            self.stand(audience, seat);
        }
    }

    /// One write to a subscriber without a seat: the rest of what was half written or a gap, and
    /// the frames after its cursor. Caught up, it takes a seat. Answers what that cost.
    fn catch_up(&mut self, key: SubscriberKey, now: u32) -> usize {
        let Self { audiences, subscribers, absences, feeds, tally, hungry, .. } = self;
        let Some(subscriber) = subscribers.get_mut(key as usize).filter(|subscriber| subscriber.seat == NO_SEAT) else {
            return 0;
        };
        let audience = &mut audiences[subscriber.audience as usize];
        let (slots, framing) = (&audience.slots, audience.set.framing);
        let mut absence = absences.take(key).unwrap_or_default();
        let mut is_behind = absence.is_untold(feeds, slots, subscriber.cursor);
        if is_behind && absence.rest.is_nothing() {
            let rest = gap(feeds, slots, framing, &mut subscriber.cursor);
            let marks = slots.iter().map(|&slot| feeds.get(slot).window.evicted_through());
            absence = Absence { rest, ..Absence::begin(marks, subscriber.cursor) };
            tally.gaps += 1;
            is_behind = false;
        }
        // A gap after the rest of a frame is told by the next write.
        let owed: &[Slot] = if is_behind { &[] } else { slots };
        let gathering = Gathering::new(absence.rest.bytes(framing), feeds, owed, subscriber.cursor, framing);
        let cost = cost(gathering.bytes);
        let written = match gathering.is_empty() {
            true => Written::All,
            false => subscriber.write(gathering.slices(), gathering.bytes, now),
        };
        match written {
            Written::All => {
                tally.delivered += gathering.frames() as u64;
                tally.bytes += gathering.bytes as u64;
                subscriber.cursor = gathering.to;
                if !gathering.is_truncated && !is_behind {
                    subscriber.seat = audience.seating.sit(key);
                    return cost;
                }
                absence.rest = Rest::Nothing;
                hungry.push_back(key);
            }
            Written::Blocked(written) => {
                let stop = gathering.stop_at(written);
                let rest = std::mem::take(&mut absence.rest);
                let (rest, frames) = rest_after(stop, rest, feeds, slots, &mut subscriber.cursor);
                tally.delivered += frames;
                tally.bytes += written as u64;
                absence = Absence { rest, is_blocked: true, told: absence.told };
            }
            Written::Gone => {
                self.remove(key);
                return cost;
            }
        }
        absences.put(key, absence, |frame| slots.iter().any(|&slot| feeds.get(slot).window.has(frame.id())));
        cost
    }

    /// Ends streams with the last chunk, so many at most; a stream cut within a frame just ends.
    pub fn end(&mut self, budget: usize, now: u32) {
        let keys: Vec<_> = self.subscribers.iter().take(budget).map(|(key, _)| key as SubscriberKey).collect();
        for key in keys {
            let subscriber = &mut self.subscribers[key as usize];
            let last = stream::end(self.audiences[subscriber.audience as usize].set.framing);
            let is_cut = self.absences.is_cut(key);
            if !is_cut && !last.is_empty() {
                subscriber.write(&[IoSlice::new(last)], last.len(), now);
            }
            self.remove(key);
        }
    }
}

/// What is left of a write that stopped there, and how many frames were given to the socket; the
/// frame it stopped within counts, for its rest is kept.
fn rest_after<T>(stop: Stop, prefix: Rest, feeds: &Feeds<T>, slots: &[Slot], cursor: &mut u64) -> (Rest, u64) {
    let (frames, offset) = match stop {
        Stop::InPrefix { offset } => return (prefix.advance(offset), 0),
        Stop::InFrame { frames, offset } => (frames, offset),
    };
    let mut merge = Merge::new(feeds, slots, *cursor);
    if let Some(last) = frames.checked_sub(1).and_then(|skipped| merge.nth(skipped)) {
        *cursor = last.id();
    }
    match merge.next().filter(|_| offset > 0) {
        Some(cut) => {
            *cursor = cut.id();
            (Rest::Frame(Arc::clone(cut), offset), frames as u64 + 1)
        }
        None => (Rest::Nothing, frames as u64),
    }
}

/// The gap to tell. The cursor moves to right before the oldest frame that is retained, or to the
/// present where none is, but never back.
fn gap(feeds: &Feeds<Heard>, slots: &[Slot], framing: Framing, cursor: &mut u64) -> Rest {
    let windows = || slots.iter().map(|&slot| &feeds.get(slot).window);
    let oldest = windows().filter_map(|window| window.oldest()).min();
    let mut bytes = Vec::new();
    stream::gap(&cursor.to_string(), oldest, framing, &mut bytes);
    let base = match oldest {
        Some(id) => id - 1,
        None => windows().map(|window| window.newest()).max().unwrap_or(0),
    };
    *cursor = base.max(*cursor);
    Rest::Own(bytes.into(), 0)
}
