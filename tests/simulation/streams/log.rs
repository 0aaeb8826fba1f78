//! Subscribers of several workers whose hub follows a log that loses events now and then. Nothing else is evicted, so the model
//! says exactly what each subscriber must receive: everything after the last loss, and one gap for a loss, or for several if
//! its socket was full.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use esker::internals::hub::{Hub, HubLimits, Position, TopicName, inbox};
use esker::internals::sse::{Framing, frames_from_text};
use esker::internals::stream::{Close, PendingSubscription, Streams};
use fastrand::Rng;

use super::super::parser::{Stream, StreamItem};
use super::history::TOPICS;
use super::socket::Socket;
use super::{over_seeds, stream};

const WORKERS: usize = 3;
const STEPS: usize = 500;
/// The oldest id of the log.
const OLDEST: u64 = 1_770_000_000_000_000;

#[test]
fn every_stream_gets_a_gap_after_a_loss_and_everything_that_follows() {
    over_seeds(|seed| Simulation::new(seed).run());
}

/// What the log has ever said.
#[derive(Default)]
struct Log {
    newest: u64,
    /// The ids of all events and their topics, ascending.
    events: Vec<(u64, usize)>,
    losses: Vec<u64>,
    passed: Vec<u64>,
}

impl Log {
    fn last_loss(&self) -> u64 {
        self.losses.last().copied().unwrap_or(0)
    }

    /// Returns the ids that are retained of these topics.
    fn retained(&self, topics: &BTreeSet<usize>) -> impl Iterator<Item = u64> {
        let is_retained = |event: &&(u64, usize)| event.0 > self.last_loss() && topics.contains(&event.1);
        self.events.iter().filter(is_retained).map(|event| event.0)
    }

    /// Returns whether a client with this position may continue after it.
    fn knows(&self, id: u64) -> bool {
        let is_known = self.events.iter().any(|event| event.0 == id) || self.passed.contains(&id);
        id == self.last_loss() || (is_known && id > self.last_loss())
    }
}

struct Client {
    worker: usize,
    /// `None` until the worker serves it.
    key: Option<u32>,
    pending: Option<PendingSubscription>,
    socket: Socket,
    topics: BTreeSet<usize>,
    stream: Stream,
    /// It has received everything up to this id, or a gap.
    seen_through: u64,
    /// The losses before it subscribed.
    losses_before: usize,
    gaps: usize,
    /// The oldest event that a gap has announced.
    announced: Option<u64>,
    /// Losses up to this id may have been reported.
    reported: u64,
    events: usize,
    /// Lost events that it has received since the last gap, after its worker noticed the loss.
    late_events: usize,
}

impl Client {
    fn attach(&mut self, streams: &mut Streams<Socket>) {
        let Some(pending) = self.pending.take() else { return };
        self.key = Some(streams.next_key());
        streams.start(pending, self.socket.clone(), 0);
    }

    /// Reads what has arrived since the last call. `noticed` is the loss that its worker knew of when it wrote.
    fn read(&mut self, log: &Log, noticed: u64) {
        for item in self.stream.feed(&self.socket.take_received()) {
            match item {
                StreamItem::Gap { oldest } => self.take_gap(log, oldest),
                StreamItem::Event { id, .. } => self.take_event(log, id.parse().expect("an id"), noticed),
                StreamItem::Prime { .. } => panic!("nobody has asked for the newest id"),
                StreamItem::Erased { .. } => panic!("nobody erases records"),
                StreamItem::Expired | StreamItem::End => panic!("no stream ends"),
            }
        }
    }

    fn take_gap(&mut self, log: &Log, oldest: Option<u64>) {
        self.gaps += 1;
        assert!(self.gaps <= log.losses.len() - self.losses_before, "more gaps than losses");
        (self.reported, self.announced, self.late_events) = (log.last_loss(), oldest, 0);
    }

    fn take_event(&mut self, log: &Log, id: u64, noticed: u64) {
        assert!(id > self.seen_through, "{id} after {}: duplicated or out of order", self.seen_through);
        let announced = self.announced.take();
        assert!(announced.is_none_or(|announced| announced == id), "{id} follows a gap that announced {announced:?}");
        self.assert_nothing_missed(log, id);
        self.late_events += usize::from(id <= noticed);
        assert!(self.late_events <= 1, "only an event that was partly written may follow its loss");
        self.seen_through = id;
        self.events += 1;
    }

    /// Every event before `end` was received, or lost and reported.
    fn assert_nothing_missed(&self, log: &Log, end: u64) {
        for (id, topic) in &log.events {
            let is_due = *id > self.seen_through && *id < end && self.topics.contains(topic);
            assert!(!is_due || *id <= self.reported, "{id} is missing before {end}, after {}", self.seen_through);
        }
    }
}

struct Simulation {
    rng: Rng,
    hub: Arc<Hub>,
    workers: Vec<Streams<Socket>>,
    /// The last loss that each worker has noticed.
    noticed: [u64; WORKERS],
    log: Log,
    clients: Vec<Client>,
    /// Events and gaps that were received.
    received: (usize, usize),
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        let limits = HubLimits {
            events_per_topic: 1 << 20,
            age_micros: u64::MAX,
            bytes: 1 << 30,
            topics: 1000,
            subscribers: 1000,
            latest_bytes: 0,
        };
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| inbox(Box::new(|| {}))).unzip();
        let hub = Arc::new(Hub::following(limits, outboxes, 1));
        hub.begin(OLDEST);
        hub.pass(OLDEST);
        let workers = inboxes.into_iter().enumerate().map(|(id, inbox)| Streams::new(Arc::clone(&hub), id, inbox));
        let log = Log { newest: OLDEST, passed: vec![OLDEST], ..Log::default() };
        let workers = workers.collect();
        Self { rng, hub, workers, noticed: [0; WORKERS], log, clients: Vec::new(), received: (0, 0) }
    }

    fn run(mut self) -> (usize, usize) {
        for _ in 0..STEPS {
            self.step();
            let retained = self.log.events.iter().filter(|event| event.0 > self.log.last_loss()).count();
            let counts = self.hub.counts();
            assert_eq!((counts.history_events, counts.subscribers), (retained, self.clients.len()));
        }
        self.finish();
        self.received
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..22 => self.apply(),
            22..25 => self.lose(),
            25 => self.pass(),
            26..36 => self.subscribe(),
            36..42 => self.attach(),
            42..75 => {
                let (worker, budget) = (self.rng.usize(0..WORKERS), self.rng.usize(1..8));
                self.iterate(worker, budget);
            }
            75..94 => self.add_room(),
            94..97 => self.hang_up(),
            _ => self.kill(),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.log.newest += self.rng.u64(1..4);
        self.log.newest
    }

    fn apply(&mut self) {
        let mut events = VecDeque::new();
        for _ in 0..self.rng.usize(1..5) {
            // The last topic has no events.
            let (id, topic) = (self.next_id(), self.rng.usize(0..TOPICS.len() - 1));
            let padding = "x".repeat(self.rng.usize(0..200));
            let frame = frames_from_text(&format!("data: {padding}")).expect("a good body").remove(0).assign_id(id);
            events.push_back((TopicName::parse(TOPICS[topic]).expect("a topic"), frame));
            self.log.events.push((id, topic));
        }
        self.hub.apply(&mut events).expect("ids ascend");
        assert!(events.is_empty(), "there is room");
    }

    fn lose(&mut self) {
        let id = self.next_id();
        self.hub.lose_through(id);
        self.log.losses.push(id);
    }

    fn pass(&mut self) {
        let id = self.next_id();
        self.hub.pass(id);
        self.log.passed.push(id);
    }

    fn subscribe(&mut self) {
        let worker = self.rng.usize(0..WORKERS);
        let topics: BTreeSet<usize> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let names: Vec<_> = topics.iter().map(|&topic| TopicName::parse(TOPICS[topic]).expect("a topic")).collect();
        let id = OLDEST + self.rng.u64(0..=self.log.newest - OLDEST + 1);
        let text = [None, Some("0".into()), Some(id.to_string())][self.rng.usize(0..3)].take();
        let position = text.as_deref().map_or(Position::Live, Position::After);
        let joined = self.hub.join(worker, &names, position).expect("there is room");
        let is_known = matches!(text.as_deref(), None | Some("0")) || self.log.knows(id);
        assert_eq!(joined.gap.is_some(), !is_known, "{text:?}");
        assert!(joined.gap.is_none_or(|gap| gap.oldest == self.log.retained(&topics).next()));
        let seen_through = match text.as_deref() {
            None => self.log.newest,
            Some("0") => self.log.last_loss(),
            Some(_) if is_known => id,
            Some(_) => self.log.last_loss(),
        };
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        self.clients.push(Client {
            worker,
            key: None,
            pending: Some(self.workers[worker].admit(joined, framing, None)),
            socket: Socket::default(),
            topics,
            stream: stream(framing),
            seen_through,
            losses_before: self.log.losses.len(),
            gaps: 0,
            announced: None,
            reported: self.log.last_loss(),
            events: 0,
            late_events: 0,
        });
    }

    /// A client's response head is written, so that the worker serves it, or it has left by then.
    fn attach(&mut self) {
        let Some(index) = self.pick() else { return };
        let streams = &mut self.workers[self.clients[index].worker];
        if self.rng.u8(0..10) > 0 {
            return self.clients[index].attach(streams);
        }
        if let Some(pending) = self.clients[index].pending.take() {
            streams.abandon(pending, Close::Peer);
            self.clients.swap_remove(index);
        }
    }

    /// One iteration of a worker's loop. Between taking the inbox and serving, the log may go on.
    fn iterate(&mut self, worker: usize, budget: usize) {
        self.workers[worker].clear_wake();
        self.workers[worker].take_inbox();
        self.noticed[worker] = self.log.last_loss();
        match self.rng.u8(0..20) {
            0 => self.lose(),
            1 => self.apply(),
            _ => {}
        }
        self.workers[worker].serve(budget, 0, &|| 0);
        if self.rng.u8(0..4) == 0 {
            self.workers[worker].evict_idle();
        }
        let closed: Vec<Socket> = self.workers[worker].take_closed().collect();
        let (log, noticed) = (&self.log, self.noticed[worker]);
        self.clients.iter_mut().filter(|client| client.worker == worker).for_each(|client| client.read(log, noticed));
        self.forget(&closed);
    }

    fn add_room(&mut self) {
        let Some(index) = self.pick() else { return };
        let client = &self.clients[index];
        let room = if self.rng.bool() { self.rng.usize(1..40) } else { self.rng.usize(1..5_000) };
        if let (true, Some(key)) = (client.socket.add_room(room), client.key) {
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
            let at = self.clients.iter().position(|client| client.socket.is(socket));
            let client = self.clients.swap_remove(at.expect("a socket belongs to a client"));
            self.received = (self.received.0 + client.events, self.received.1 + client.gaps);
        }
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.rng.usize(0..self.clients.len()))
    }

    /// All sockets drain: every client that is left must have received everything, and a gap if there was a loss.
    fn finish(&mut self) {
        for client in &mut self.clients {
            let streams = &mut self.workers[client.worker];
            client.attach(streams);
            client.socket.add_room(usize::MAX);
            streams.writable(client.key.expect("an attached client has a key"));
        }
        while self.workers.iter().any(Streams::has_work) {
            (0..WORKERS).for_each(|worker| self.iterate(worker, 100));
        }
        for client in &self.clients {
            client.assert_nothing_missed(&self.log, u64::MAX);
            assert!(client.reported == self.log.last_loss(), "a loss was not reported");
            assert_eq!(client.announced, None, "the event that a gap announced is missing");
            assert!((client.gaps > 0) == (self.log.losses.len() > client.losses_before), "no gap, or a false one");
        }
        let closed: Vec<Socket> = self.clients.iter().map(|client| client.socket.clone()).collect();
        self.forget(&closed);
    }
}
