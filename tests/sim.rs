//! A seeded simulation of the hub, the feeds and the subscribers of several workers over sockets
//! that write short, stall and die, against an oracle as naive as can be. Everything but the kernel
//! and HTTP is real. A failure prints its seed; `ESKER_SIM_SEED=n cargo test --test sim` replays it.

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use esker::hub::{Hub, HubLimits, Position, TopicName, inbox};
use esker::sse::{Framing, drafts_from_text};
use esker::stream::Silence;
use esker::stream::{Close, PendingSubscription, StreamCounters, Streams};
use fastrand::Rng;
use wire::{Socket, over_seeds, whole_blocks};

const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];
const WORKERS: usize = 3;
const STEPS: usize = 600;
const SILENCE: Silence = Silence { heartbeat: 300, stall: 5_000 };

#[test]
fn every_subscriber_gets_everything_once_and_in_order_or_is_told_of_a_gap() {
    let (events, gaps) = over_seeds(|seed| Simulation::new(seed).run());
    assert!(events > 0 && gaps > 0, "a simulation without events and gaps shows nothing: {events} and {gaps}");
}

/// What the hub should retain, kept as lists that are searched from end to end.
struct Model {
    limits: HubLimits,
    first_id: u64,
    last_id: u64,
    /// All events there ever were: id, topic.
    all: Vec<(u64, usize)>,
    /// Where in that list an event with this data is.
    by_serial: BTreeMap<usize, usize>,
    /// Retained: id, topic, cost, own id.
    retained: Vec<(u64, usize, usize, Option<String>)>,
    evicted_through: [u64; TOPICS.len()],
    /// Publishers' ids that were evicted: topic, id.
    evicted_ids: Vec<(usize, String)>,
}

impl Model {
    fn publish(&mut self, topic: usize, now: u64, drafts: &[(usize, Option<String>, usize)]) -> (u64, usize) {
        let (mut answer, mut count) = (None, 0);
        for (cost, own, serial) in drafts {
            let twin = self.retained.iter().find(|event| own.is_some() && event.1 == topic && event.3 == *own);
            if let Some(twin) = twin {
                answer = answer.filter(|_| count > 0).or(Some(twin.0));
                continue;
            }
            self.last_id = now.max(self.last_id + 1);
            self.by_serial.insert(*serial, self.all.len());
            self.all.push((self.last_id, topic));
            self.retained.push((self.last_id, topic, *cost, own.clone()));
            (answer, count) = (Some(self.last_id), count + 1);
            while self.retained.iter().filter(|event| event.1 == topic).count() > self.limits.events_per_topic {
                self.evict(self.retained.iter().position(|event| event.1 == topic));
            }
            while self.bytes() > self.limits.bytes {
                self.evict(Some(0));
            }
        }
        (answer.expect("a body has events"), count)
    }

    fn bytes(&self) -> usize {
        self.retained.iter().map(|event| event.2).sum()
    }

    fn expire(&mut self, now: u64) {
        while self.retained.first().is_some_and(|event| event.0 < now.saturating_sub(self.limits.age_micros)) {
            self.evict(Some(0));
        }
    }

    fn evict(&mut self, index: Option<usize>) {
        let (id, topic, _, own) = self.retained.remove(index.expect("there is something to evict"));
        self.evicted_through[topic] = id;
        self.evicted_ids.extend(own.map(|own| (topic, own)));
    }

    /// The position that a text stands for, or none if it must be told of by a gap.
    fn resolve(&self, topics: &BTreeSet<usize>, text: &str) -> Option<u64> {
        let has_own = |topic: usize, own: Option<&str>| topics.contains(&topic) && own == Some(text);
        let own = self.retained.iter().find(|event| has_own(event.1, event.3.as_deref())).map(|event| event.0);
        let is_whole = |id: u64| topics.iter().all(|&topic| self.evicted_through[topic] <= id);
        let is_evicted = self.evicted_ids.iter().any(|(topic, id)| has_own(*topic, Some(id)));
        let is_doubtful = topics.iter().any(|&topic| self.is_between_evicted(topic, text));
        let number = text.parse().ok().filter(|number| (self.first_id..=self.last_id).contains(number));
        match (own, text) {
            (Some(_), _) if is_evicted || is_doubtful => None,
            (None, _) if is_doubtful => None,
            (_, "0") => own.is_none_or(is_whole).then_some(0),
            // Some event has each number that is tried here.
            _ => own.into_iter().chain(number).min().filter(|&id| is_whole(id)),
        }
    }

    /// Whether the topic does not have the number now, and has lost smaller ones and larger ones, or that one.
    fn is_between_evicted(&self, topic: usize, text: &str) -> bool {
        let Ok(number) = text.parse::<u64>() else { return false };
        let has_now = self.retained.iter().any(|event| event.1 == topic && event.3.as_deref() == Some(text));
        let evicted = self.evicted_ids.iter().filter(|evicted| evicted.0 == topic);
        let numbers: BTreeSet<u64> = evicted.filter_map(|evicted| evicted.1.parse().ok()).collect();
        let is_between = numbers.first() <= Some(&number) && numbers.last() >= Some(&number);
        !has_now && is_between
    }
}

/// A client: what it asked for, what it has got, and what it may rightly miss.
struct Client {
    worker: usize,
    key: Option<u32>,
    ticket: Option<PendingSubscription>,
    socket: Socket,
    topics: BTreeSet<usize>,
    framing: Framing,
    unparsed: usize,
    /// Its socket takes everything at once, and it was seated at once.
    is_fast: bool,
    seen_through: u64,
    /// The losses it knew of when it joined.
    known: [u64; TOPICS.len()],
    /// The losses it may have been told of by now.
    told: [u64; TOPICS.len()],
    events: usize,
    gaps: usize,
    /// The second in which its token expires.
    expires: Option<u64>,
    was_told_of_expiry: bool,
    /// The second in which its worker saw that, and the events it had by then.
    expired: Option<(u64, usize)>,
}

impl Client {
    /// Reads what came since the last look, and holds each event against the list of all.
    fn look(&mut self, model: &Model) {
        let text = whole_blocks(&self.socket, self.framing, &mut self.unparsed);
        for block in text.split_inclusive("\n\n") {
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            assert!(!self.was_told_of_expiry, "nothing follows the expiry");
            if field("event: gap").is_some() {
                self.take_gap(model);
            } else if field("event: expired").is_some() {
                self.was_told_of_expiry = true;
            } else if let Some(data) = field("data: ") {
                self.take_event(model, data.parse().expect("data is a number"));
            }
        }
    }

    fn take_event(&mut self, model: &Model, serial: usize) {
        let (id, topic) = &model.all[model.by_serial[&serial]];
        assert!(self.topics.contains(topic), "an event of another topic");
        assert!(*id > self.seen_through, "{id} after {}: doubled or out of order", self.seen_through);
        self.assert_nothing_missed(model, *id);
        self.seen_through = *id;
        self.events += 1;
    }

    /// A full socket has some seconds for the frame that it is in the middle of, and the last word.
    fn assert_ends_with_its_token(&mut self, second: u64, is_closed: bool) {
        const GRACE: u64 = 2;
        let has_expired = self.key.is_some() && self.expires.is_some_and(|expires| expires <= second);
        if has_expired {
            self.expired.get_or_insert((second, self.events));
        }
        let Some((seen, events)) = self.expired else {
            return assert!(!self.was_told_of_expiry, "a stream ends before its token");
        };
        assert!(self.events <= events + 1, "events follow the expiry");
        assert!(is_closed || seen + GRACE > second, "a stream outlives its token");
        let is_ready = self.is_fast && !self.socket.0.borrow().is_dead;
        assert!(self.was_told_of_expiry || !is_ready, "a stream ends without a word");
        assert!(is_closed || !is_ready, "a stream that takes everything outlives its token");
    }

    /// Every event before `end` was seen, or is among the losses that were told.
    fn assert_nothing_missed(&self, model: &Model, end: u64) {
        let begin = model.all.partition_point(|event| event.0 <= self.seen_through);
        for (id, topic) in &model.all[begin..] {
            if *id < end && self.topics.contains(topic) && *id > self.told[*topic] {
                panic!("{id} is missing before {end}, after {}", self.seen_through);
            }
        }
    }

    /// A gap must be true: something is gone that was not known at the join. (Which of two gaps in a
    /// row told of which loss can't be seen from here: one may have been half written for long.)
    fn take_gap(&mut self, model: &Model) {
        let is_lost =
            |id: u64, topic: usize| id > self.seen_through.max(self.known[topic]) && id <= model.evicted_through[topic];
        assert!(
            model.all.iter().any(|&(id, topic)| self.topics.contains(&topic) && is_lost(id, topic)),
            "a gap after {} without a loss",
            self.seen_through
        );
        assert!(!self.is_fast, "whoever takes everything at once has no gap");
        self.told = model.evicted_through;
        self.gaps += 1;
    }
}

struct Simulation {
    rng: Rng,
    now: u64,
    millis: u32,
    hub: Arc<Hub>,
    workers: Vec<Streams<Socket>>,
    model: Model,
    clients: Vec<Client>,
    serials: usize,
    seen: (usize, usize),
    /// Those who have left.
    left: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = HubLimits {
            events_per_topic: rng.usize(0..12),
            age_micros: rng.u64(1_000..2_000_000),
            bytes: rng.usize(500..100_000),
            topics: 1000,
            subscribers: 1000,
            latest_bytes: usize::MAX,
        };
        let now = 1_000_000_000;
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| inbox(Box::new(|| {}))).unzip();
        let hub = Arc::new(Hub::new(limits, outboxes, now));
        let workers = inboxes.into_iter().enumerate();
        let workers = workers.map(|(id, inbox)| Streams::new(Arc::clone(&hub), id, inbox)).collect();
        let model = Model {
            limits,
            first_id: now,
            last_id: now,
            all: Vec::new(),
            by_serial: BTreeMap::new(),
            retained: Vec::new(),
            evicted_through: [0; 4],
            evicted_ids: Vec::new(),
        };
        Self {
            rng,
            now,
            millis: u32::MAX - 10_000,
            hub,
            workers,
            model,
            clients: Vec::new(),
            serials: 0,
            seen: (0, 0),
            left: 0,
        }
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.step();
            let counts = self.hub.counts();
            assert_eq!((counts.history_events, counts.history_bytes), (self.model.retained.len(), self.model.bytes()));
            assert_eq!(counts.subscribers, self.clients.len());
        }
        self.finish();
        self.seen
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..25 => self.publish(),
            25..35 => self.join(),
            35..40 => self.seat(),
            40..70 => {
                let worker = self.rng.usize(0..WORKERS);
                let budget = self.rng.usize(1..8);
                self.turn(worker, budget);
            }
            70..88 => self.give_room(),
            88..90 => self.kill(),
            90..92 => self.hang_up(),
            92..94 => {
                self.hub.expire(self.now);
                self.model.expire(self.now);
            }
            _ => self.pass_time(),
        }
    }

    fn publish(&mut self) {
        let topic = self.rng.usize(0..TOPICS.len());
        let body: String = (0..self.rng.usize(1..5)).map(|_| self.event_text()).collect();
        let drafts = drafts_from_text(&body).expect("a good body");
        let serials = self.serials - drafts.len()..self.serials;
        let summary: Vec<_> = drafts
            .iter()
            .zip(serials)
            .map(|(draft, serial)| (draft.cost(), draft.publisher_id().map(str::to_owned), serial))
            .collect();
        let name = TopicName::parse(TOPICS[topic]).expect("a topic");
        let listening = self.clients.iter().filter(|client| client.topics.contains(&topic)).count();
        let published = self.hub.publish(&name, drafts, self.now, None).expect("there is room");
        let expected = self.model.publish(topic, self.now, &summary);
        assert_eq!((published.id, published.events, published.subscribers), (expected.0, expected.1, listening));
    }

    /// An event whose data is a number that no other event has.
    fn event_text(&mut self) -> String {
        let padding = "x".repeat(self.rng.usize(0..200));
        self.serials += 1;
        let own = self.publisher_id().map_or(String::new(), |own| format!("id: {own}\n"));
        format!("data: {}\n: {padding}\n{own}\n", self.serials - 1)
    }

    /// Some publishers give texts, some count up, and some take what the broker gave another event.
    fn publisher_id(&mut self) -> Option<String> {
        match self.rng.u8(0..16) {
            0..3 => Some(format!("own{}", self.rng.u8(0..20))),
            3 => Some(self.serials.to_string()),
            4 if !self.model.all.is_empty() => Some(self.some_id().to_string()),
            _ => None,
        }
    }

    fn some_id(&mut self) -> u64 {
        self.model.all[self.rng.usize(0..self.model.all.len())].0
    }

    fn join(&mut self) {
        let worker = self.rng.usize(0..WORKERS);
        let topics: BTreeSet<usize> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let names: Vec<_> = topics.iter().map(|&topic| TopicName::parse(TOPICS[topic]).expect("a topic")).collect();
        let text = self.position();
        let position = text.as_deref().map_or(Position::Live, Position::After);
        let joined = self.hub.join(worker, &names, position).expect("there is room");
        let resolved = text.as_deref().map_or(Some(self.model.last_id), |text| self.model.resolve(&topics, text));
        assert_eq!(joined.gap.is_some(), resolved.is_none(), "{text:?}");
        let oldest = self.model.retained.iter().find(|event| topics.contains(&event.1)).map(|event| event.0);
        assert!(joined.gap.is_none_or(|gap| gap.oldest == oldest));
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let expires = self.rng.bool().then(|| (self.now + self.rng.u64(0..5_000_000)) / 1_000_000);
        // Asked for with 0 or told by the opening's gap: what is gone by now is no loss to tell of.
        let known = if resolved.unwrap_or(0) == 0 { self.model.evicted_through } else { [0; TOPICS.len()] };
        self.clients.push(Client {
            worker,
            key: None,
            ticket: Some(self.workers[worker].admit(joined, framing, expires)),
            socket: Socket::default(),
            topics,
            framing,
            unparsed: 0,
            is_fast: false,
            seen_through: resolved.unwrap_or(0),
            known,
            told: known,
            events: 0,
            gaps: 0,
            expires,
            was_told_of_expiry: false,
            expired: None,
        });
        if self.rng.u8(0..3) == 0 {
            self.seat_fast();
        }
    }

    fn seat_fast(&mut self) {
        let Some(client) = self.clients.last_mut() else { return };
        client.is_fast = true;
        client.socket.0.borrow_mut().room = usize::MAX;
        let streams = &mut self.workers[client.worker];
        client.key = Some(streams.next_key());
        streams.seat(client.ticket.take().expect("just joined"), client.socket.clone(), self.millis);
    }

    fn position(&mut self) -> Option<String> {
        match self.rng.u8(0..9) {
            0..3 => None,
            3 => Some("0".into()),
            4 => Some(format!("own{}", self.rng.u8(0..20))),
            8 => Some(self.rng.usize(0..self.serials.max(1)).to_string()),
            5 => Some(["nonsense", "5", "18446744073709551615"][self.rng.usize(0..3)].into()),
            _ if self.model.all.is_empty() => None,
            _ => Some(self.some_id().to_string()),
        }
    }

    fn seat(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = &mut self.clients[index];
        let Some(ticket) = client.ticket.take() else { return };
        let streams = &mut self.workers[client.worker];
        if self.rng.u8(0..10) == 0 {
            streams.abandon(ticket, Close::Peer);
            self.left += 1;
            self.clients.remove(index);
            return;
        }
        client.key = Some(streams.next_key());
        streams.seat(ticket, client.socket.clone(), self.millis);
    }

    fn turn(&mut self, worker: usize, budget: usize) {
        let streams = &mut self.workers[worker];
        let second = self.now / 1_000_000;
        streams.hush();
        streams.take_inbox();
        if self.rng.bool() {
            streams.expire(second, self.millis);
        }
        streams.serve(budget, self.millis, &|| self.now);
        if self.rng.u8(0..4) == 0 {
            streams.begin_sweep();
            streams.trim_idle();
            streams.go_on_sweeping(SILENCE, self.millis);
        }
        while streams.expire(second, self.millis) {}
        let closed: Vec<Socket> = streams.take_closed().collect();
        for client in self.clients.iter_mut().filter(|client| client.worker == worker) {
            client.look(&self.model);
            let is_closed = closed.iter().any(|socket| Rc::ptr_eq(&socket.0, &client.socket.0));
            client.assert_ends_with_its_token(second, is_closed);
        }
        self.forget(&closed);
    }

    fn give_room(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = &self.clients[index];
        let room = if self.rng.bool() { self.rng.usize(1..40) } else { self.rng.usize(1..5_000) };
        let had_waited = client.socket.give_room(room);
        if let (true, Some(key)) = (had_waited, client.key) {
            self.workers[client.worker].writable(key);
        }
    }

    fn kill(&mut self) {
        if let Some(index) = self.pick() {
            self.clients[index].socket.0.borrow_mut().is_dead = true;
        }
    }

    fn hang_up(&mut self) {
        let Some(index) = self.pick() else { return };
        let (worker, Some(key)) = (self.clients[index].worker, self.clients[index].key) else { return };
        self.workers[worker].remove(key, Close::Peer);
        let closed: Vec<Socket> = self.workers[worker].take_closed().collect();
        self.forget(&closed);
    }

    fn forget(&mut self, closed: &[Socket]) {
        for socket in closed {
            self.left += 1;
            let at = self.clients.iter().position(|client| Rc::ptr_eq(&client.socket.0, &socket.0));
            let client = self.clients.swap_remove(at.expect("a socket belongs to a client"));
            self.seen.0 += client.events;
            self.seen.1 += client.gaps;
        }
    }

    fn pass_time(&mut self) {
        // The wall clock also jumps back; ids must grow all the same.
        self.now = match self.rng.u8(0..20) {
            0 | 1 => self.now - self.rng.u64(0..20_000),
            2 => self.now + self.rng.u64(0..6_000_000),
            _ => self.now + self.rng.u64(0..200_000),
        };
        self.millis = self.millis.wrapping_add(self.rng.u32(0..200));
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.rng.usize(0..self.clients.len()))
    }

    /// All sockets drain: everybody who still lives must have got everything.
    fn finish(&mut self) {
        for client in &mut self.clients {
            let streams = &mut self.workers[client.worker];
            if let Some(ticket) = client.ticket.take() {
                client.key = Some(streams.next_key());
                streams.seat(ticket, client.socket.clone(), self.millis);
            }
            client.socket.0.borrow_mut().room = usize::MAX;
            streams.writable(client.key.expect("a seated client has a key"));
        }
        for worker in 0..WORKERS {
            // The rest of a frame, a gap and the frames after it are three writes at most.
            (0..3).for_each(|_| self.turn(worker, usize::MAX));
            assert!(!self.workers[worker].has_work(), "with room for everything nothing is left to do");
        }
        self.clients.iter().for_each(|client| client.assert_nothing_missed(&self.model, u64::MAX));
        self.end();
    }

    /// Everybody leaves: nothing but the history remains.
    fn end(&mut self) {
        for worker in 0..WORKERS {
            while self.workers[worker].end(usize::MAX, self.millis) {}
            let closed: Vec<Socket> = self.workers[worker].take_closed().collect();
            self.forget(&closed);
        }
        let topics: BTreeMap<usize, u64> = self.model.retained.iter().map(|event| (event.1, event.0)).collect();
        let counts = self.hub.counts();
        assert_eq!((counts.subscribers, counts.topics), (0, topics.len()));
        let tallies: Vec<_> = self.workers.iter_mut().map(Streams::take_tally).collect();
        assert_eq!(tallies.iter().flat_map(|tally| tally.closed).sum::<u64>(), self.left, "each is counted once");
        let is_timed = |tally: &StreamCounters| tally.latency.count() <= tally.delivered;
        assert!(tallies.iter().all(is_timed), "only what is delivered is timed");
    }
}
