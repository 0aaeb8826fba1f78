//! A seeded simulation of records: the hub's newest versions, the workers' replicas and subscribers
//! over sockets that write short and die, against an oracle as naive as can be. A failure prints its
//! seed; `ESKER_SIM_SEED=n cargo test --test sim_records` replays it.

mod wire;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use esker::hub::{Hub, HubLimits, RecordStart, inbox};
use esker::sse::{Framing, record_frame};
use esker::stream::{Close, Streams};
use fastrand::Rng;
use wire::{Socket, over_seeds, whole_blocks};

const NAMES: [&str; 5] = ["user", "order", "a/b c", "ü", "x"];
const WORKERS: usize = 2;
const STEPS: usize = 500;

#[test]
fn every_subscriber_ends_with_the_newest_version_of_each_name() {
    let (seen, skipped) = over_seeds(|seed| Simulation::new(seed).run());
    assert!(seen > 0 && skipped > 0, "without events and superseded ones nothing is shown: {seen} and {skipped}");
}

struct Client {
    worker: usize,
    key: u32,
    socket: Socket,
    framing: Framing,
    unparsed: usize,
    /// The names it keeps; all if there are none.
    names: Vec<&'static str>,
    cursor: u64,
    seen: usize,
}

impl Client {
    fn hears(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.contains(&name)
    }

    /// Each event is a record that there was, after the one before it, and of a name that was asked for.
    fn look(&mut self, all: &BTreeMap<u64, (&'static str, String)>) {
        let text = whole_blocks(&self.socket, self.framing, &mut self.unparsed);
        for block in text.split_inclusive("\n\n") {
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).expect("a record has all fields");
            let id: u64 = field("id: ").parse().expect("an id is a number");
            assert!(id > self.cursor, "{id} after {}", self.cursor);
            let (name, data) = &all[&id];
            assert_eq!((field("event: "), field("data: ")), (*name, data.as_str()));
            assert!(self.hears(name), "{name} was not asked for");
            self.cursor = id;
            self.seen += 1;
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
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| inbox(Box::new(|| {}))).unzip();
        let hub = Arc::new(Hub::new(limits, outboxes, 1));
        let workers = inboxes.into_iter().enumerate();
        let workers = workers.map(|(id, inbox)| Streams::new(Arc::clone(&hub), id, inbox)).collect();
        let (all, newest) = (BTreeMap::new(), BTreeMap::new());
        Self { rng: Rng::with_seed(seed), hub, workers, now: 1_000, all, newest, clients: Vec::new(), counts: (0, 0) }
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.now += self.rng.u64(0..100);
            match self.rng.u8(0..100) {
                0..30 => self.commit(),
                30..38 => self.join(),
                38..70 => {
                    let (worker, budget) = (self.rng.usize(0..WORKERS), self.rng.usize(1..6));
                    self.turn(worker, budget);
                }
                70..95 => self.give_room(),
                _ => self.hang_up(),
            }
            let counts = self.hub.counts();
            assert_eq!((counts.record_names, counts.record_subscribers), (self.newest.len(), self.clients.len()));
        }
        self.finish()
    }

    /// As the store does: ids first, publishing once they are committed, or never.
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

    fn join(&mut self) {
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
        assert!(!matches!(found, RecordStart::AfterStored(id) if self.all.contains_key(&id)), "all are remembered");
        let start = found.settle(false);
        let joined = self.hub.join_records(worker, asked.into(), start).expect("there is room");
        let exists = |id: &u64| *id == 0 || self.all.contains_key(id);
        let known = text.as_deref().and_then(|text| text.parse().ok()).filter(exists);
        assert_eq!(joined.gap.is_some(), text.is_some() && known.is_none());
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let (streams, socket) = (&mut self.workers[worker], Socket::default());
        let ticket = streams.admit(joined, framing, None);
        let key = streams.next_key();
        streams.seat(ticket, socket.clone(), 0);
        let cursor = known.unwrap_or(0);
        self.clients.push(Client { worker, key, socket, framing, unparsed: 0, names, cursor, seen: 0 });
    }

    fn turn(&mut self, worker: usize, budget: usize) {
        let streams = &mut self.workers[worker];
        streams.hush();
        streams.take_inbox();
        streams.serve(budget, 0, &|| self.now);
        self.clients.iter_mut().filter(|client| client.worker == worker).for_each(|client| client.look(&self.all));
        let closed: Vec<Socket> = streams.take_closed().collect();
        assert!(closed.is_empty(), "nobody is closed for being slow: what is superseded costs nothing");
    }

    fn give_room(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.clients.len());
        let client = &self.clients[index];
        let room = if self.rng.bool() { self.rng.usize(1..60) } else { self.rng.usize(1..3_000) };
        if client.socket.give_room(room) {
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
        assert!(closed.iter().all(|socket| Rc::ptr_eq(&socket.0, &client.socket.0)));
    }

    /// All sockets drain: everybody has the newest version of each name, or had it before it came.
    fn finish(mut self) -> (usize, usize) {
        for client in &self.clients {
            client.socket.give_room(usize::MAX);
            self.workers[client.worker].writable(client.key);
        }
        let begun: Vec<_> = self.clients.iter().map(|client| client.seen).collect();
        for worker in 0..WORKERS {
            (0..3).for_each(|_| self.turn(worker, usize::MAX));
            assert!(!self.workers[worker].has_work(), "with room for everything nothing is left to do");
        }
        for (client, begun) in self.clients.iter().zip(begun) {
            let newest = self.newest.iter().filter(|(name, _)| client.hears(name)).map(|(_, id)| *id).max();
            assert!(
                newest.is_none_or(|newest| newest <= client.cursor),
                "{newest:?} is missing after {}",
                client.cursor
            );
            self.counts.0 += client.seen;
            self.counts.1 += self.all.len() - begun.min(self.all.len());
        }
        self.counts
    }
}
