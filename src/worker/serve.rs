//! Serving: who is owed frames gets them, in bounded slices, one write per subscriber and
//! turn. An audience is served seat by seat; whoever has no seat is served alone.

use std::hint::black_box;

use slab::Slab;

use super::audience::{AudienceKey, SubscriberKey};
use super::catch_up::rest_after;
use super::gather::{Gathering, Merge};
use super::latency::{Batch, Stopwatch};
use super::streams::{Close, Streams};
use super::subscriber::{Absence, NO_SEAT, Rest, Socket, Subscriber, Written};
use crate::hub::{MAX_DEBT_BYTES, Slot};

/// What serving may cost in one turn, so that accepts, requests and other topics go on. A
/// write costs 1, and 1 more for every 16 KiB.
pub const BUDGET_PER_TURN: usize = 512;
/// What one audience may cost before another one's turn comes.
const BUDGET_PER_SLICE: usize = 128;

pub(super) fn cost(bytes: usize) -> usize {
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
    Blocked(Rest),
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
            self.inbox.settle();
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
        let limits = self.hub.limits();
        let (surplus, total) = match (self.hungry.is_empty(), self.absences.blocked()) {
            (false, _) => (MAX_DEBT_BYTES, limits.bytes + MAX_DEBT_BYTES),
            (true, 1..) => (self.surplus_limit, 0),
            (true, 0) => (0, 0),
        };
        while self.replica.feeds.surplus_bytes() > surplus
            && let Some(&slot) = self.overfull.last()
        {
            if self.replica.feeds.has_surplus(slot) {
                self.let_go(slot);
            } else {
                self.replica.feeds.note_mut(slot).is_overfull = false;
                self.overfull.pop();
            }
        }
        let floor = self.hub.floor();
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
    fn serve_slice(&mut self, key: AudienceKey, budget: usize, now: u32, watch: &mut Stopwatch<'_>) -> usize {
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

    fn pass(&mut self, key: AudienceKey, left: &mut usize, now: u32, watch: &mut Stopwatch<'_>) -> PassEnd {
        let Self { audiences, subscribers, replica, tally, .. } = self;
        let audience = &mut audiences[key as usize];
        let (source, framing) = (&audience.source, audience.set.framing);
        let heard = (&*replica, source);
        let (mut gathering, mut batch) = (Gathering::of_nothing(), Batch::default());
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
                if Absence::default().is_untold(replica, source, subscriber.cursor) {
                    break PassEnd::Departs(seated, Departure::Behind);
                }
                gathering.fill(&[], Merge::new(replica, source, subscriber.cursor), framing);
            }
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
                    if batch.add() {
                        batch.note(&gathering, heard, watch, &mut tally.latency);
                    }
                }
                Written::Blocked(written) => {
                    tally.bytes += written as u64;
                    let stop = gathering.stop_at(written);
                    let (rest, frames) = rest_after(
                        stop,
                        Rest::Nothing,
                        Merge::new(replica, source, subscriber.cursor),
                        &mut subscriber.cursor,
                    );
                    tally.delivered += frames;
                    break PassEnd::Departs(seated, Departure::Blocked(rest));
                }
                Written::Gone => break PassEnd::Departs(seated, Departure::Gone),
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
    pub(super) fn block(&mut self, key: SubscriberKey, rest: Rest) {
        self.give_up_seat(key);
        self.subscribers[key as usize].socket.set_patient(true);
        // Nobody is served from a seat what the replica has not.
        let absence = Absence { rest, is_blocked: true, is_patient: true, ..Absence::default() };
        self.absences.put(key, absence, |_| true);
    }

    pub(super) fn give_up_seat(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key as usize];
        let (audience, seat) = (subscriber.audience, std::mem::replace(&mut subscriber.seat, NO_SEAT));
        if seat != NO_SEAT {
            self.stand(audience, seat);
        }
    }
}

/// The entries of those who came in place of others lie anywhere in memory: looked at together, before they are
/// served one by one, they are waited for together.
fn look_at<S>(subscribers: &Slab<Subscriber<S>>, keys: &[SubscriberKey]) {
    // Backwards, as they will be served: memory in order is still walked in order.
    let found = keys.iter().rev().filter_map(|&key| subscribers.get(key as usize));
    black_box(found.map(|subscriber| subscriber.cursor).max());
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{self, IoSlice, Write};
    use std::rc::Rc;
    use std::sync::Arc;

    use super::super::streams::{Buckets, SURPLUS_SHARE};
    use super::*;
    use crate::hub::{Hub, HubLimits, Position, TopicName, inbox};
    use crate::sse::{Draft, Framing};

    /// Takes whatever it is offered, and counts the bytes.
    struct Sink(Rc<Cell<usize>>);

    impl Socket for Sink {
        fn set_patient(&self, _: bool) {}
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.set(self.0.get() + bytes.len());
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            slices.iter().map(|slice| self.write(slice)).sum()
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct House {
        hub: Arc<Hub>,
        streams: Streams<Sink>,
        live: Rc<Cell<usize>>,
        behind: Rc<Cell<usize>>,
    }

    impl House {
        fn new() -> Self {
            let (outbox, inbox) = inbox(Box::new(|| {}));
            let limits = HubLimits {
                events_per_topic: 100,
                age_micros: u64::MAX,
                bytes: 1 << 30,
                topics: 9,
                subscribers: 9999,
                latest_bytes: usize::MAX,
            };
            let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
            let streams = Streams::new(Arc::clone(&hub), 0, inbox);
            Self { hub, streams, live: Rc::default(), behind: Rc::default() }
        }

        /// One listens to the present of a topic, thousands have just asked for the past of another.
        fn of_many_behind() -> Self {
            let mut house = Self::new();
            (0..100).for_each(|_| house.publish("topicone1", 100_000));
            let (live, behind) = (Rc::clone(&house.live), Rc::clone(&house.behind));
            house.join("livetopic1", Position::Live, &live);
            house.turn();
            (0..2000).for_each(|_| house.join("topicone1", Position::After("0"), &behind));
            house
        }

        fn join(&mut self, topic: &str, position: Position<'_>, counter: &Rc<Cell<usize>>) {
            let joined = self.hub.join(0, &[TopicName::parse(topic).unwrap()], position).unwrap();
            let ticket = self.streams.admit(joined, Framing::Chunked, None);
            self.streams.seat(ticket, Sink(Rc::clone(counter)), 0);
        }

        fn publish(&mut self, topic: &str, len: usize) {
            let mut writer = Draft::writer(len);
            writer.field("data", &"x".repeat(len));
            self.hub.publish(&TopicName::parse(topic).unwrap(), vec![writer.finish(None)], 1, None).unwrap();
        }

        /// One turn; the bytes it wrote.
        fn turn(&mut self) -> usize {
            let before = self.live.get() + self.behind.get();
            self.streams.take_inbox();
            self.streams.serve(BUDGET_PER_TURN, 0, &|| 0);
            self.live.get() + self.behind.get() - before
        }
    }

    #[test]
    fn a_turn_is_bounded_in_bytes_and_loses_none() {
        let mut house = House::new();
        let live = Rc::clone(&house.live);
        (0..300).for_each(|_| house.join("topicone1", Position::Live, &live));
        while house.streams.has_work() {
            house.turn();
        }
        house.publish("topicone1", 1 << 20);
        while house.streams.has_work() {
            let written = house.turn();
            assert!(written <= (BUDGET_PER_TURN << 14) + (2 << 20), "{written}");
        }
        assert_eq!(house.streams.take_tally().delivered, 300);
    }

    #[test]
    fn only_those_who_are_caught_up_are_timed_and_each_event_of_theirs() {
        let mut house = House::new();
        let live = Rc::clone(&house.live);
        house.publish("topicone1", 10);
        (0..100).for_each(|_| house.join("topicone1", Position::After("0"), &live));
        house.turn();
        assert_eq!(house.streams.take_tally().latency, Buckets::default(), "the past is not timed");
        (0..5).for_each(|_| house.publish("topicone1", 10));
        house.streams.take_inbox();
        while house.streams.has_work() {
            house.streams.serve(BUDGET_PER_TURN, 0, &|| 1_000);
        }
        let latency = house.streams.take_tally().latency;
        // The ids are 3 to 7: a little less than a millisecond each.
        assert_eq!((latency.count(), latency.sum_seconds()), (500, 100.0 * (5.0 * 1_000.0 - 25.0) / 1e6));
        house.publish("topicone1", 10);
        house.turn();
        assert_eq!(house.streams.take_tally().latency.sum_seconds(), 0.0, "an id ahead of the clock took no time");
    }

    #[test]
    fn those_who_catch_up_keep_no_publisher_waiting() {
        let mut house = House::of_many_behind();
        for _ in 0..5000 {
            house.publish("livetopic1", 10);
            house.turn();
        }
    }

    #[test]
    fn those_who_catch_up_keep_no_live_event_waiting() {
        let mut house = House::of_many_behind();
        house.publish("livetopic1", 10);
        house.turn();
        assert!(house.live.get() > 0, "served in the first turn");
        assert!(house.streams.has_work(), "though others have far to go");
    }

    /// Takes so many bytes, and then none until more are granted.
    struct Narrow {
        room: Rc<Cell<usize>>,
        taken: Rc<Cell<usize>>,
    }

    impl Socket for Narrow {
        fn set_patient(&self, _: bool) {}
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room.get());
            self.room.set(self.room.get() - count);
            self.taken.set(self.taken.get() + count);
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.write(&slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_socket_is_no_gap_within_the_surplus_and_one_beyond_it() {
        const HISTORY_BYTES: usize = 80_000;
        let (outbox, inbox) = inbox(Box::new(|| {}));
        let limits = HubLimits {
            events_per_topic: 3,
            age_micros: u64::MAX,
            bytes: HISTORY_BYTES,
            topics: 9,
            subscribers: 9,
            latest_bytes: usize::MAX,
        };
        let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
        let mut streams = Streams::new(Arc::clone(&hub), 0, inbox);
        let name = TopicName::parse("topicone1").unwrap();
        let (room, taken) = (Rc::new(Cell::new(0)), Rc::<Cell<usize>>::default());
        let joined = hub.join(0, &[name], Position::Live).unwrap();
        let ticket = streams.admit(joined, Framing::Chunked, None);
        streams.seat(ticket, Narrow { room: Rc::clone(&room), taken: Rc::clone(&taken) }, 0);
        let publish = |streams: &mut Streams<Narrow>, count: usize| {
            for _ in 0..count {
                let mut writer = Draft::writer(100);
                writer.field("data", &"x".repeat(100));
                hub.publish(&name, vec![writer.finish(None)], 1, None).unwrap();
                streams.take_inbox();
                streams.serve(BUDGET_PER_TURN, 0, &|| 0);
            }
        };
        publish(&mut streams, 30);
        room.set(usize::MAX);
        streams.writable(0);
        streams.serve(BUDGET_PER_TURN, 0, &|| 0);
        streams.trim_idle();
        assert_eq!((streams.tally.delivered, streams.tally.gaps), (30, 0));
        assert_eq!(streams.replica.feeds.events(), 3, "nobody waits for the surplus any more");
        room.set(0);
        publish(&mut streams, 1000);
        assert!(streams.replica.feeds.surplus_bytes() <= HISTORY_BYTES / SURPLUS_SHARE);
        room.set(usize::MAX);
        streams.writable(0);
        (0..3).for_each(|_| streams.serve(BUDGET_PER_TURN, 0, &|| 0));
        assert_eq!(streams.tally.gaps, 1);
    }

    #[test]
    fn those_for_whom_too_much_is_kept_are_shed_and_counted() {
        const LARGE: usize = 1 << 20;
        let (outbox, inbox) = inbox(Box::new(|| {}));
        let limits = HubLimits {
            events_per_topic: 1,
            age_micros: u64::MAX,
            bytes: 4 * LARGE,
            topics: 9,
            subscribers: 99,
            latest_bytes: usize::MAX,
        };
        let hub = Arc::new(Hub::new(limits, vec![outbox], 1));
        let mut streams = Streams::new(Arc::clone(&hub), 0, inbox);
        let name = TopicName::parse("topicone1").unwrap();
        for _ in 0..40 {
            let joined = hub.join(0, &[name], Position::Live).unwrap();
            let ticket = streams.admit(joined, Framing::Chunked, None);
            streams.seat(ticket, Narrow { room: Rc::new(Cell::new(10)), taken: Rc::default() }, 0);
            streams.serve(BUDGET_PER_TURN, 0, &|| 0);
            let mut writer = Draft::writer(LARGE);
            writer.field("data", &"x".repeat(LARGE));
            hub.publish(&name, vec![writer.finish(None)], 1, None).unwrap();
            streams.take_inbox();
            streams.serve(BUDGET_PER_TURN, 0, &|| 0);
        }
        let shed = streams.take_tally().closed[Close::Shed as usize];
        assert!((1..20).contains(&shed), "{shed} of 40 within 40 MB");
        assert_eq!(streams.len() as u64, 40 - shed);
    }
}
