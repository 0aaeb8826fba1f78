//! Subscribers to topics of several workers, over sockets that write short, stall and break. [`History`] says exactly what the
//! hub retains, and what each subscriber must therefore receive.

use std::collections::BTreeSet;
use std::sync::Arc;

use esker::internals::hub::{Hub, HubLimits, Position, TopicName};
use esker::internals::sse::{Framing, frames_from_text};
use esker::internals::stream::Silence;
use esker::internals::stream::{Close, Poll, StreamCounters, Streams};
use fastrand::Rng;

use super::client::Client;
use super::history::{Event, History, TOPICS};
use super::socket::Socket;
use super::{hub_and_workers, over_seeds, stream};

const WORKERS: usize = 3;
const STEPS: usize = 600;
const SILENCE: Silence = Silence { heartbeat: 300, stall: 5_000 };

#[test]
fn subscribers_get_every_event_once_in_order_or_a_gap() {
    over_seeds(|seed| Simulation::new(seed).run());
}

struct Simulation {
    rng: Rng,
    now: u64,
    millis: u32,
    hub: Arc<Hub>,
    workers: Vec<Streams<Socket>>,
    history: History,
    clients: Vec<Client>,
    serials: usize,
    /// Events and gaps received by those.
    received: (usize, usize),
    /// The number of clients that have left.
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
        let (hub, workers) = hub_and_workers(limits, WORKERS, now);
        Self {
            rng,
            now,
            millis: u32::MAX - 10_000,
            hub,
            workers,
            history: History::new(limits, now),
            clients: Vec::new(),
            serials: 0,
            received: (0, 0),
            left: 0,
        }
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.step();
            let (counts, history) = (self.hub.counts(), &self.history);
            assert_eq!((counts.history_events, counts.history_bytes), (history.retained.len(), history.bytes()));
            assert_eq!(counts.subscribers, self.clients.len());
        }
        self.finish();
        self.received
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..25 => self.publish(),
            25..35 => self.subscribe(),
            35..40 => self.attach(),
            40..70 => {
                let worker = self.rng.usize(0..WORKERS);
                let budget = self.rng.usize(1..8);
                self.iterate(worker, budget);
            }
            70..88 => self.add_room(),
            88..90 => self.kill(),
            90..92 => self.hang_up(),
            92..94 => {
                self.hub.expire(self.now);
                self.history.expire(self.now);
            }
            _ => self.pass_time(),
        }
    }

    fn publish(&mut self) {
        let topic = self.rng.usize(0..TOPICS.len());
        let body: String = (0..self.rng.usize(1..5)).map(|_| self.event_text()).collect();
        let frames = frames_from_text(&body).expect("a good body");
        let serials = self.serials - frames.len()..self.serials;
        let publisher_ids = frames.iter().map(|frame| frame.publisher_id().map(str::to_owned));
        let costs = frames.iter().map(|frame| frame.cost());
        let events = publisher_ids.zip(costs).zip(serials);
        let events = events.map(|((id, cost), serial)| Event::new(topic, id, serial, cost)).collect();
        let name = TopicName::parse(TOPICS[topic]).expect("a topic");
        let subscribers = self.clients.iter().filter(|client| client.topics.contains(&topic)).count();
        let published = self.hub.publish(&name, frames, self.now, None).expect("there is room");
        let (id, count) = self.history.publish(self.now, events);
        assert_eq!((published.id, published.events, published.subscribers), (id, count, subscribers));
    }

    /// An event whose data is a number that no other event has.
    fn event_text(&mut self) -> String {
        let padding = "x".repeat(self.rng.usize(0..200));
        self.serials += 1;
        let id = self.publisher_id().map_or(String::new(), |id| format!("id: {id}\n"));
        format!("data: {}\n: {padding}\n{id}\n", self.serials - 1)
    }

    /// Some publishers use text, some a counter, and some the id that the broker gave to another event.
    fn publisher_id(&mut self) -> Option<String> {
        match self.rng.u8(0..16) {
            0..3 => Some(format!("own{}", self.rng.u8(0..20))),
            3 => Some(self.serials.to_string()),
            4 if !self.history.all.is_empty() => Some(self.some_id().to_string()),
            _ => None,
        }
    }

    fn some_id(&mut self) -> u64 {
        self.history.all[self.rng.usize(0..self.history.all.len())].id
    }

    fn subscribe(&mut self) {
        let worker = self.rng.usize(0..WORKERS);
        let topics: BTreeSet<usize> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let names: Vec<_> = topics.iter().map(|&topic| TopicName::parse(TOPICS[topic]).expect("a topic")).collect();
        let text = self.position();
        let position = text.as_deref().map_or(Position::Live, Position::After);
        let joined = self.hub.join(worker, &names, position).expect("there is room");
        let resolved = text.as_deref().map_or(Some(self.history.last_id), |text| self.history.resolve(&topics, text));
        assert_eq!(joined.gap.is_some(), resolved.is_none(), "{text:?}");
        assert!(joined.gap.is_none_or(|gap| gap.oldest == self.history.oldest(&topics)));
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let expires = self.rng.bool().then(|| (self.now + self.rng.u64(0..5_000_000)) / 1_000_000);
        let is_poll = self.rng.u8(0..4) == 0;
        // Position 0 asks for what is retained, and a gap at the beginning reports every eviction so far.
        let known = if resolved.unwrap_or(0) == 0 { self.history.evicted_through } else { [0; TOPICS.len()] };
        self.clients.push(Client {
            worker,
            key: None,
            ticket: Some(match is_poll {
                true => self.workers[worker].admit_poll(joined, framing, expires, Poll::Plain),
                false => self.workers[worker].admit(joined, framing, expires),
            }),
            socket: Socket::default(),
            topics,
            stream: stream(framing),
            is_fast: false,
            is_poll,
            seen_through: resolved.unwrap_or(0),
            known,
            reported: known,
            events: 0,
            gaps: 0,
            expires,
            has_expired: false,
            has_ended: false,
            expiry: None,
        });
        if self.rng.u8(0..3) == 0 {
            self.attach_fast();
        }
    }

    fn attach_fast(&mut self) {
        let Some(client) = self.clients.last_mut() else { return };
        client.is_fast = true;
        client.socket.add_room(usize::MAX);
        client.attach(&mut self.workers[client.worker], self.millis);
    }

    fn position(&mut self) -> Option<String> {
        match self.rng.u8(0..9) {
            0..3 => None,
            3 => Some("0".into()),
            4 => Some(format!("own{}", self.rng.u8(0..20))),
            8 => Some(self.rng.usize(0..self.serials.max(1)).to_string()),
            5 => Some(["nonsense", "5", "18446744073709551615"][self.rng.usize(0..3)].into()),
            _ if self.history.all.is_empty() => None,
            _ => Some(self.some_id().to_string()),
        }
    }

    /// A client's response head is written, so that the worker serves it, or it has left by then.
    fn attach(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = &mut self.clients[index];
        if client.ticket.is_none() {
            return;
        }
        let streams = &mut self.workers[client.worker];
        if self.rng.u8(0..10) > 0 {
            return client.attach(streams, self.millis);
        }
        streams.abandon(client.ticket.take().expect("it has one"), Close::Peer);
        self.left += 1;
        self.clients.remove(index);
    }

    /// One iteration of a worker's loop.
    fn iterate(&mut self, worker: usize, budget: usize) {
        let streams = &mut self.workers[worker];
        let second = self.now / 1_000_000;
        streams.clear_wake();
        streams.take_inbox();
        if self.rng.bool() {
            streams.expire(second, self.millis);
        }
        streams.serve(budget, self.millis, &|| self.now);
        if self.rng.u8(0..4) == 0 {
            streams.begin_sweep();
            streams.evict_idle();
            streams.continue_sweep(SILENCE, self.millis);
        }
        while streams.expire(second, self.millis) {}
        let closed: Vec<Socket> = streams.take_closed().collect();
        for client in self.clients.iter_mut().filter(|client| client.worker == worker) {
            client.read(&self.history);
            let is_closed = closed.iter().any(|socket| socket.is(&client.socket));
            client.assert_ends_with_its_token(second, is_closed);
            client.assert_ends_with_its_events(is_closed);
        }
        self.forget(&closed);
    }

    fn add_room(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = &self.clients[index];
        let room = if self.rng.bool() { self.rng.usize(1..40) } else { self.rng.usize(1..5_000) };
        let has_pending = client.socket.add_room(room);
        if let (true, Some(key)) = (has_pending, client.key) {
            self.workers[client.worker].writable(key);
        }
    }

    fn kill(&mut self) {
        if let Some(index) = self.pick() {
            self.clients[index].socket.kill();
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
            let at = self.clients.iter().position(|client| client.socket.is(socket));
            let client = self.clients.swap_remove(at.expect("a socket belongs to a client"));
            self.received.0 += client.events;
            self.received.1 += client.gaps;
        }
    }

    fn pass_time(&mut self) {
        // The wall clock also jumps back; ids must grow anyway.
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

    /// All sockets drain: every client that is left must have received everything.
    fn finish(&mut self) {
        for client in &mut self.clients {
            let streams = &mut self.workers[client.worker];
            client.attach(streams, self.millis);
            client.socket.add_room(usize::MAX);
            streams.writable(client.key.expect("an attached client has a key"));
        }
        for worker in 0..WORKERS {
            // The rest of a frame, a gap and the frames after it are three writes at most.
            (0..3).for_each(|_| self.iterate(worker, usize::MAX));
            assert!(!self.workers[worker].has_work(), "work is left though there is room for everything");
        }
        self.clients.iter().for_each(|client| client.assert_nothing_missed(&self.history, u64::MAX));
        self.end();
    }

    /// All clients leave, and nothing but the history remains.
    fn end(&mut self) {
        for worker in 0..WORKERS {
            while self.workers[worker].drain(usize::MAX, usize::MAX, self.millis) {}
            let closed: Vec<Socket> = self.workers[worker].take_closed().collect();
            self.forget(&closed);
        }
        let topics: BTreeSet<_> = self.history.retained.iter().map(|event| event.topic).collect();
        let counts = self.hub.counts();
        assert_eq!((counts.subscribers, counts.topics), (0, topics.len()));
        let tallies: Vec<_> = self.workers.iter_mut().map(Streams::take_counters).collect();
        assert_eq!(tallies.iter().flat_map(|tally| tally.closed).sum::<u64>(), self.left, "each close is counted once");
        let is_timed = |tally: &StreamCounters| tally.latency.count() <= tally.delivered;
        assert!(tallies.iter().all(is_timed), "more deliveries are timed than made");
    }
}
