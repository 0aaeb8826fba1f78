//! Subscribers to records, over sockets that write short and stall: the hub's newest version of each name, erasures, and what
//! each subscriber must receive of both.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker::internals::hub::{Hub, HubLimits, RecordStart};
use esker::internals::sse::{Framing, record_frame};
use esker::internals::store::Record;
use esker::internals::stream::{Close, Streams};
use fastrand::Rng;

use super::super::parser::{Stream, StreamItem};
use super::socket::Socket;
use super::{hub_and_workers, over_seeds, stream};

const NAMES: [&str; 5] = ["user", "order", "a/b c", "ü", "x"];
/// More names than a slice has records.
const MANY: u64 = 300;
/// The hub remembers this many erasures.
const REMEMBERED: usize = 1024;
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
    /// The newest id that it has of each name, or had when it said that.
    has: BTreeMap<String, u64>,
    /// The last erasure when it subscribed.
    known: u64,
    received: usize,
}

impl Client {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(&name)
    }

    /// Each event is a record that was committed, newer than the one before it, and of a name that was asked for, or says that
    /// one was erased. After a gap everything begins anew.
    fn read(&mut self, all: &BTreeMap<u64, (String, String)>, erased: &BTreeMap<u64, String>) {
        for item in self.stream.feed(&self.socket.take_received()) {
            let (id, name, data) = match item {
                StreamItem::Event { id, name, data } => (id.parse().expect("an id is a number"), name, Some(data)),
                StreamItem::Erased { id, name } => (id, name, None),
                StreamItem::Gap { .. } => {
                    // It knows of these at least. When the gap is read, there may be more than when it was written.
                    let told = erased.range(self.cursor.max(self.known) + 1..).nth(REMEMBERED);
                    self.known = *told.expect("a gap is due only after many erasures").0;
                    self.cursor = 0;
                    self.has.clear();
                    continue;
                }
                other => panic!("neither an event nor a gap: {other:?}"),
            };
            assert!(id > self.cursor, "{id} after {}", self.cursor);
            let name = match erased.get(&id) {
                Some(erased) => {
                    assert!(id > self.known, "it subscribed after {erased} was erased");
                    assert_eq!((&name, data), (erased, None));
                    self.has.remove(erased);
                    erased.clone()
                }
                None => {
                    let known = all.get(&id).map(|(name, data)| (name, Some(data)));
                    assert_eq!(known, Some((&name, data.as_ref())));
                    self.has.insert(name.clone(), id);
                    name
                }
            };
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
    all: BTreeMap<u64, (String, String)>,
    newest: BTreeMap<String, u64>,
    /// The names that were erased, by the ids of the erasures.
    erased: BTreeMap<u64, String>,
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
        let (all, newest, erased) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (rng, clients) = (Rng::with_seed(seed), Vec::new());
        let mut simulation = Self { rng, hub, workers, now: 1_000, all, newest, erased, clients, counts: (0, 0) };
        if seed.is_multiple_of(4) {
            simulation.restore();
        }
        simulation
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.now += self.rng.u64(0..100);
            match self.rng.u8(0..100) {
                0..28 => self.commit(),
                28..30 => self.erase_some(),
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

    /// Begins with many records, as after a restart.
    fn restore(&mut self) {
        let records = (1..=MANY).map(|id| {
            let name = format!("name {id}");
            self.all.insert(id, (name.clone(), "0".to_owned()));
            self.newest.insert(name.clone(), id);
            Record::shared(name, "0", id)
        });
        let records = records.collect();
        self.hub.reset_records(records);
    }

    /// Erases one name, or rarely more than the hub remembers.
    fn erase_some(&mut self) {
        let count = if self.rng.u8(0..200) == 0 { REMEMBERED + self.rng.usize(0..10) } else { 1 };
        for _ in 0..count {
            self.erase();
            if self.rng.u8(0..50) == 0 {
                (0..WORKERS).for_each(|worker| self.iterate(worker, usize::MAX));
            }
        }
    }

    /// Erases the newest version of a name, if it has one.
    fn erase(&mut self) {
        let Some(id) = self.hub.reserve(1, self.now) else { return };
        let name = match self.newest.keys().nth(self.rng.usize(0..8)) {
            Some(name) => name.clone(),
            None => "x".to_owned(),
        };
        self.newest.remove(&name);
        self.hub.publish_erasure(&name, id);
        self.erased.insert(id, name);
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
            frames.push(record_frame(&Record::shared(name, data.as_str(), id)));
            self.newest.insert(name.to_owned(), id);
            self.all.insert(id, (name.to_owned(), data));
        }
        self.hub.publish_records(frames);
    }

    fn subscribe(&mut self) {
        let worker = self.rng.usize(0..WORKERS);
        let names: Vec<_> = (0..self.rng.usize(0..3)).map(|_| NAMES[self.rng.usize(0..NAMES.len())]).collect();
        let mut asked: Vec<Arc<str>> = names.iter().map(|&name| name.into()).collect();
        asked.sort_unstable();
        asked.dedup();
        let text = match self.rng.u8(0..7) {
            0 | 1 => None,
            2 => Some("0".to_owned()),
            3 => Some(["nonsense", "18446744073709551615"][self.rng.usize(0..2)].to_owned()),
            4 => Some(self.rng.u64(0..=self.now).to_string()),
            5 if self.rng.bool() => self.erased.keys().next_back().map(u64::to_string),
            _ => self.all.keys().nth(self.rng.usize(0..self.all.len().max(1))).map(u64::to_string),
        };
        let found = text.as_deref().map_or(RecordStart::Newest, |text| self.hub.find_record(text));
        // As the store knows it.
        let start = match found {
            RecordStart::AfterStored(id) => found.resolve(self.all.contains_key(&id)),
            found => found,
        };
        let joined =
            self.hub.join_records(worker, asked.into(), start, self.hub.record_replacements()).expect("there is room");
        let last_erasure = self.erased.keys().next_back().copied().unwrap_or(0);
        let exists = |id: &u64| *id == 0 || *id == last_erasure || (*id > last_erasure && self.all.contains_key(id));
        let known = text.as_deref().and_then(|text| text.parse().ok()).filter(exists);
        assert_eq!(joined.gap.is_some(), text.is_some() && known.is_none());
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let (streams, socket) = (&mut self.workers[worker], Socket::default());
        let ticket = streams.admit(joined, framing, None);
        let key = streams.next_key();
        streams.start(ticket, socket.clone(), 0);
        let cursor = known.unwrap_or(0);
        // What it has from before is the newest up to its position.
        let before = self.newest.iter().filter(|(_, id)| **id <= cursor).map(|(name, id)| (name.clone(), *id));
        let (has, stream) = (before.collect(), stream(framing));
        self.clients.push(Client { worker, key, socket, stream, names, cursor, has, known: last_erasure, received: 0 });
    }

    fn iterate(&mut self, worker: usize, budget: usize) {
        let streams = &mut self.workers[worker];
        streams.clear_wake();
        streams.take_inbox();
        streams.serve(budget, 0, &|| self.now);
        self.clients
            .iter_mut()
            .filter(|client| client.worker == worker)
            .for_each(|client| client.read(&self.all, &self.erased));
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

    /// All sockets drain: every client has the newest version of each name, or had it when it subscribed, and nothing that was
    /// erased.
    fn finish(mut self) -> (usize, usize) {
        for client in &self.clients {
            client.socket.add_room(usize::MAX);
            self.workers[client.worker].writable(client.key);
        }
        let begun: Vec<_> = self.clients.iter().map(|client| client.received).collect();
        for worker in 0..WORKERS {
            (0..40).for_each(|_| self.iterate(worker, usize::MAX));
            assert!(!self.workers[worker].has_work(), "work is left though there is room for everything");
        }
        for (client, begun) in self.clients.iter().zip(begun) {
            let newest = self.newest.iter().filter(|(name, _)| client.wants(name));
            let has = client.has.iter().filter(|(name, _)| client.wants(name));
            assert!(newest.eq(has), "after {}: {:?} {:?}", client.cursor, client.has, self.newest);
            self.counts.0 += client.received;
            self.counts.1 += self.all.len() - begun.min(self.all.len());
        }
        self.counts
    }
}
