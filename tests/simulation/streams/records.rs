//! Subscribers to records, over sockets that write short and stall: the hub's newest version of each name, the workers'
//! replicas, and what each subscriber must receive of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker::internals::hub::{Hub, HubLimits, RecordStart};
use esker::internals::sse::{Framing, record_frame};
use esker::internals::stream::{Close, Streams};
use fastrand::Rng;

use super::super::parser::{Stream, StreamItem};
use super::socket::Socket;
use super::{hub_and_workers, over_seeds, stream};

const NAMES: [&str; 5] = ["user", "order", "a/b c", "ü", "x"];
const WORKERS: usize = 2;
const STEPS: usize = 500;

#[test]
fn every_subscriber_gets_the_newest_version_of_each_name() {
    over_seeds(|seed| Simulation::new(seed).run());
}

struct Client {
    worker: usize,
    key: u32,
    socket: Socket,
    stream: Stream,
    /// The names it asked for; all if there are none.
    names: Vec<&'static str>,
    cursor: u64,
    received: usize,
}

impl Client {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(&name)
    }

    /// Each event is a record that was committed, newer than the one before it, and of a name that was asked for.
    fn read(&mut self, all: &BTreeMap<u64, (&'static str, String)>) {
        for item in self.stream.feed(&self.socket.take_received()) {
            let StreamItem::Event { id, name, data } = item else { panic!("no event: {item:?}") };
            let id: u64 = id.parse().expect("an id is a number");
            assert!(id > self.cursor, "{id} after {}", self.cursor);
            assert_eq!(all.get(&id).map(|(name, data)| (*name, data)), Some((name.as_str(), &data)));
            assert!(self.wants(&name), "{name} was not asked for");
            self.cursor = id;
            self.received += 1;
        }
    }
}

struct Simulation {
    rng: Rng,
    hub: Arc<Hub>,
    workers: Vec<Streams<Socket>>,
    now: u64,
    all: BTreeMap<u64, (&'static str, String)>,
    newest: BTreeMap<&'static str, u64>,
    clients: Vec<Client>,
    counts: (usize, usize),
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let limits = HubLimits {
            events_per_topic: 1,
            age_micros: 1,
            bytes: 1,
            topics: 1,
            subscribers: 1000,
            latest_bytes: usize::MAX,
        };
        let (hub, workers) = hub_and_workers(limits, WORKERS, 1);
        let (all, newest) = (BTreeMap::new(), BTreeMap::new());
        Self { rng: Rng::with_seed(seed), hub, workers, now: 1_000, all, newest, clients: Vec::new(), counts: (0, 0) }
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.now += self.rng.u64(0..100);
            match self.rng.u8(0..100) {
                0..30 => self.commit(),
                30..38 => self.subscribe(),
                38..70 => {
                    let (worker, budget) = (self.rng.usize(0..WORKERS), self.rng.usize(1..6));
                    self.iterate(worker, budget);
                }
                70..95 => self.add_room(),
                _ => self.hang_up(),
            }
            let counts = self.hub.counts();
            assert_eq!((counts.record_names, counts.record_subscribers), (self.newest.len(), self.clients.len()));
        }
        self.finish()
    }

    /// As the store does it: reserves ids, and publishes once they are committed, or never.
    fn commit(&mut self) {
        let count = self.rng.usize(1..4);
        let Some(first) = self.hub.reserve(count, self.now) else { return };
        if self.rng.u8(0..10) == 0 {
            return;
        }
        let mut frames = Vec::new();
        for id in first..first + count as u64 {
            let name = NAMES[self.rng.usize(0..NAMES.len())];
            let data = format!("\"{}\"", "x".repeat(self.rng.usize(0..100)));
            frames.push(record_frame(&Arc::from(name), &data, id));
            self.newest.insert(name, id);
            self.all.insert(id, (name, data));
        }
        self.hub.publish_records(frames);
    }

    fn subscribe(&mut self) {
        let worker = self.rng.usize(0..WORKERS);
        let names: Vec<_> = (0..self.rng.usize(0..3)).map(|_| NAMES[self.rng.usize(0..NAMES.len())]).collect();
        let mut asked: Vec<Arc<str>> = names.iter().map(|&name| name.into()).collect();
        asked.sort_unstable();
        asked.dedup();
        let text = match self.rng.u8(0..6) {
            0 | 1 => None,
            2 => Some("0".to_owned()),
            3 => Some(["nonsense", "18446744073709551615"][self.rng.usize(0..2)].to_owned()),
            4 => Some(self.rng.u64(0..=self.now).to_string()),
            _ => self.all.keys().nth(self.rng.usize(0..self.all.len().max(1))).map(u64::to_string),
        };
        let found = text.as_deref().map_or(RecordStart::Newest, |text| self.hub.find_record(text));
        assert!(
            !matches!(found, RecordStart::AfterStored(id) if self.all.contains_key(&id)),
            "the hub knows every record"
        );
        let start = found.resolve(false);
        let joined = self.hub.join_records(worker, asked.into(), start, 0).expect("there is room");
        let exists = |id: &u64| *id == 0 || self.all.contains_key(id);
        let known = text.as_deref().and_then(|text| text.parse().ok()).filter(exists);
        assert_eq!(joined.gap.is_some(), text.is_some() && known.is_none());
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let (streams, socket) = (&mut self.workers[worker], Socket::default());
        let ticket = streams.admit(joined, framing, None);
        let key = streams.next_key();
        streams.start(ticket, socket.clone(), 0);
        let cursor = known.unwrap_or(0);
        self.clients.push(Client { worker, key, socket, stream: stream(framing), names, cursor, received: 0 });
    }

    fn iterate(&mut self, worker: usize, budget: usize) {
        let streams = &mut self.workers[worker];
        streams.clear_wake();
        streams.take_inbox();
        streams.serve(budget, 0, &|| self.now);
        self.clients.iter_mut().filter(|client| client.worker == worker).for_each(|client| client.read(&self.all));
        let closed: Vec<Socket> = streams.take_closed().collect();
        assert!(closed.is_empty(), "a client was closed for being slow, though superseded records cost nothing");
    }

    fn add_room(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.clients.len());
        let client = &self.clients[index];
        let room = if self.rng.bool() { self.rng.usize(1..60) } else { self.rng.usize(1..3_000) };
        if client.socket.add_room(room) {
            self.workers[client.worker].writable(client.key);
        }
    }

    fn hang_up(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.clients.len());
        let client = self.clients.swap_remove(index);
        self.workers[client.worker].remove(client.key, Close::Peer);
        let closed: Vec<Socket> = self.workers[client.worker].take_closed().collect();
        assert!(closed.iter().all(|socket| socket.is(&client.socket)));
    }

    /// All sockets drain: every client has the newest version of each name, or had it when it subscribed.
    fn finish(mut self) -> (usize, usize) {
        for client in &self.clients {
            client.socket.add_room(usize::MAX);
            self.workers[client.worker].writable(client.key);
        }
        let begun: Vec<_> = self.clients.iter().map(|client| client.received).collect();
        for worker in 0..WORKERS {
            (0..3).for_each(|_| self.iterate(worker, usize::MAX));
            assert!(!self.workers[worker].has_work(), "work is left though there is room for everything");
        }
        for (client, begun) in self.clients.iter().zip(begun) {
            let newest = self.newest.iter().filter(|(name, _)| client.wants(name)).map(|(_, id)| *id).max();
            assert!(
                newest.is_none_or(|newest| newest <= client.cursor),
                "{newest:?} is missing after {}",
                client.cursor
            );
            self.counts.0 += client.received;
            self.counts.1 += self.all.len() - begun.min(self.all.len());
        }
        self.counts
    }
}
