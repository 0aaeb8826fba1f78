//! Streams of records against a naive oracle, in random order: records of a log, replacements of all of them, subscribers that
//! join, read and leave.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A subscriber, and what the oracle knows of it.
struct Listener {
    client: Client,
    names: Vec<&'static str>,
    /// The position after which it asked for records.
    start: u64,
    /// How often all records had been replaced when it joined.
    resets: u64,
    /// How many of those the worker had noticed when it served the subscriber first.
    first_served: Option<u64>,
    /// Whether its socket always has room.
    is_fast: bool,
}

struct World {
    rng: Rng,
    fixture: Fixture,
    listeners: Vec<Listener>,
    /// Admitted, but not started.
    pending: Option<(PendingSubscription, Listener)>,
    /// The newest id of every name.
    newest: BTreeMap<&'static str, u64>,
    /// All versions since the last replacement.
    versions: Vec<(&'static str, u64)>,
    /// The counts of replacements that the worker has noticed.
    noticed: Vec<u64>,
    /// Whether each iteration is followed by others until nothing is left to do.
    is_thorough: bool,
}

/// What the streams of a run had in total.
#[derive(Debug, Default)]
struct Outcomes {
    records: usize,
    gaps: usize,
    fast: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            fixture: Fixture::new(),
            listeners: Vec::new(),
            pending: None,
            newest: BTreeMap::new(),
            versions: Vec::new(),
            noticed: Vec::new(),
            is_thorough: seed.is_multiple_of(2),
        }
    }

    fn step(&mut self, outcomes: &mut Outcomes) {
        match self.rng.u8(0..20) {
            0..6 => self.apply(),
            6 => self.reset(),
            7..10 => self.join(),
            10 => self.start(),
            11 if !self.listeners.is_empty() => self.leave(outcomes),
            12..16 => self.give_room(),
            _ => self.iterate(),
        }
    }

    fn last_id(&self) -> u64 {
        self.newest.values().copied().max().unwrap_or(0)
    }

    fn apply(&mut self) {
        let count = self.rng.usize(1..5);
        let mut frames = VecDeque::new();
        for _ in 0..count {
            let (name, id) = (NAMES[self.rng.usize(0..NAMES.len())], self.last_id() + self.rng.u64(1..4));
            self.newest.insert(name, id);
            self.versions.push((name, id));
            frames.push_back(record_frame(&Record::shared(name, "0123456789", id)));
        }
        self.fixture.hub.apply_records(&mut frames);
        assert!(frames.is_empty(), "there is room");
    }

    fn reset(&mut self) {
        let mut id = self.rng.u64(0..self.last_id() + 5);
        self.newest.clear();
        let mut names = NAMES;
        self.rng.shuffle(&mut names);
        for name in &names[..self.rng.usize(0..=NAMES.len())] {
            id += self.rng.u64(1..4);
            self.newest.insert(name, id);
        }
        self.versions = self.newest.iter().map(|(&name, &id)| (name, id)).collect();
        let mut records: Vec<_> =
            self.versions.iter().map(|&(name, id)| Record::shared(name, "0123456789", id)).collect();
        records.sort_by_key(|record| record.id);
        self.fixture.hub.reset_records(records);
    }

    fn join(&mut self) {
        let names: Vec<_> = NAMES.into_iter().filter(|_| self.rng.bool()).collect();
        let start = match self.versions.get(self.rng.usize(0..self.versions.len() * 2 + 1)) {
            Some(&(_, id)) => RecordStart::After(id),
            None => RecordStart::Newest,
        };
        let framing = if self.rng.bool() { Framing::Chunked } else { Framing::Plain };
        let is_fast = self.rng.bool();
        let room = if is_fast { usize::MAX } else { self.rng.usize(0..200) };
        let resets = self.fixture.hub.record_resets();
        let (hub, set) = (&self.fixture.hub, names.iter().map(|name| Arc::from(*name)).collect());
        let joined = hub.join_records(0, set, start, hub.record_replacements());
        let pending = self.fixture.streams.admit(joined.unwrap(), framing, None);
        let client = Client { key: SubscriberKey::MAX, pipe: Pipe::with_room(room), framing };
        let start = if let RecordStart::After(id) = start { id } else { 0 };
        let names = if names.is_empty() { NAMES.to_vec() } else { names };
        let listener = Listener { client, names, start, resets, first_served: None, is_fast };
        if let Some((pending, _)) = self.pending.replace((pending, listener)) {
            self.fixture.streams.abandon(pending, Close::Failed);
        }
        if self.rng.bool() {
            self.start();
        }
    }

    fn start(&mut self) {
        let Some((pending, mut listener)) = self.pending.take() else { return };
        listener.client.key = self.fixture.streams.next_key();
        self.fixture.streams.start(pending, listener.client.pipe.clone(), 0);
        self.listeners.push(listener);
    }

    fn give_room(&mut self) {
        let Some(listener) = self.rng.choice(&self.listeners) else { return };
        let room = &mut listener.client.pipe.0.borrow_mut().room;
        *room = room.saturating_add(self.rng.usize(1..200));
        self.fixture.streams.writable(listener.client.key);
    }

    fn iterate(&mut self) {
        self.fixture.streams.take_inbox();
        self.noticed.push(self.fixture.streams.replica.records().resets());
        self.noticed.dedup();
        let last = self.noticed.last().copied();
        self.listeners.iter_mut().for_each(|listener| listener.first_served = listener.first_served.or(last));
        self.fixture.streams.serve(self.rng.usize(1..8), 0, &|| 0);
        if self.is_thorough {
            self.fixture.iterate_until_idle();
        }
    }

    fn leave(&mut self, outcomes: &mut Outcomes) {
        let index = self.rng.usize(0..self.listeners.len());
        let listener = self.listeners.swap_remove(index);
        if self.rng.bool() {
            self.check(&listener, outcomes);
        }
        self.fixture.streams.remove(listener.client.key, Close::Peer);
    }

    /// Lets a subscriber read everything, and compares it with what it must have received.
    fn check(&mut self, listener: &Listener, outcomes: &mut Outcomes) {
        self.iterate();
        self.fixture.read(&listener.client);
        let received = listener.client.pipe.0.borrow().received.clone();
        let plain = dechunk(&String::from_utf8(received).unwrap(), listener.client.framing);
        let (mut position, mut gaps, mut last_part) = (listener.start, 0, Vec::new());
        for event in plain.split_terminator("\n\n") {
            match parse_event(event) {
                Gap { after, oldest } => {
                    assert_eq!(after, position, "the last id that was sent");
                    assert!(oldest.is_none_or(|id| id > 0));
                    (position, gaps) = (0, gaps + 1);
                    last_part.clear();
                }
                Erased(_) => unreachable!("nothing is erased"),
                Event(id) => {
                    assert!(id > position, "ids ascend");
                    position = id;
                    let name = event.lines().next().and_then(|line| line.strip_prefix("event: ")).unwrap();
                    assert!(listener.names.contains(&name));
                    last_part.push((name.to_owned(), id));
                    outcomes.records += 1;
                }
            }
        }
        outcomes.gaps += gaps;
        self.check_gaps(listener, gaps, outcomes);
        let start = if gaps == 0 { listener.start } else { 0 };
        assert!(
            last_part.iter().all(|(name, id)| self.versions.contains(&(name.as_str(), *id))),
            "only what there is now"
        );
        for name in &listener.names {
            let expected = self.newest.get(name).copied().filter(|&id| id > start);
            let last = last_part.iter().rev().find(|(other, _)| other == name).map(|(_, id)| *id);
            assert_eq!(last, expected, "the newest of {name}");
        }
    }

    /// A gap is told once for each replacement. Those that follow each other before the subscriber can be told are told as one.
    fn check_gaps(&self, listener: &Listener, gaps: usize, outcomes: &mut Outcomes) {
        let resets = self.fixture.hub.record_resets() - listener.resets;
        assert!(gaps <= resets as usize && (gaps > 0) == (resets > 0), "{gaps} gaps after {resets} replacements");
        if listener.is_fast && self.is_thorough {
            let first = listener.first_served.or(self.noticed.last().copied()).unwrap();
            let later = self.noticed.iter().filter(|&&resets| resets > first).count();
            assert_eq!(gaps, usize::from(first > listener.resets) + later);
            outcomes.fast += gaps;
        }
    }
}

#[test]
fn each_subscriber_ends_with_the_newest_record_of_each_of_its_names() {
    let mut outcomes = Outcomes::default();
    for seed in 0..150 {
        let result = std::panic::catch_unwind(|| {
            let (mut world, mut outcomes) = (World::new(seed), Outcomes::default());
            (0..300).for_each(|_| world.step(&mut outcomes));
            for listener in std::mem::take(&mut world.listeners) {
                world.check(&listener, &mut outcomes);
            }
            outcomes
        });
        let seen = result.unwrap_or_else(|_| panic!("seed {seed}"));
        outcomes.records += seen.records;
        outcomes.gaps += seen.gaps;
        outcomes.fast += seen.fast;
    }
    let Outcomes { records, gaps, fast } = outcomes;
    assert!(records > 3_000 && gaps > 300 && fast > 100, "{outcomes:?} covers too little");
}
