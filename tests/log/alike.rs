//! Random requests get the same answers from a server and from the log in memory, which the simulation relies on.
//!
//! The floor is beyond both clocks, so that ids don't depend on the time.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use esker::internals::engine::log::{
    Append, Appended, Attach, Attached, Body, Connect as _, Entry, Erase, Erased, From, Greeting, Hello, Insert,
    Inserted, KeyLimits, Log, LogError, Mark, OwnId, Peer, Pulse, ReadRecords, Refusal, RemoveRecords, Revocations,
    Revoke, Revoked, Swept, Version,
};
use esker::internals::engine::settings::{EngineSettings, Retention};
use esker::internals::engine::sim::SimLog;
use esker::internals::records::insert::{Condition, IdempotencyKey, InsertOutcome, InsertRequest};
use esker::internals::records::{NewRecord, Record, VersionRetention};
use fastrand::Rng;

use crate::redis_server::RedisServer;
use crate::support::{Vary as _, connect, settings};

const SEEDS: u64 = 30;
const REQUESTS: usize = 150;
/// The number of entries or records that are compared of those that a read returns.
const COMPARED: usize = 16;
/// The most revocations that are kept.
const MAX_REVOCATIONS: usize = 6;
/// A time in the year 2096, in microseconds.
const FLOOR: u64 = 4_000_000_000_000_000;
/// Fewer idempotency keys than are used.
const KEYS: KeyLimits = KeyLimits { count: 4, age: Duration::from_secs(24 * 3600) };
const RETENTION: Retention =
    Retention { age: Duration::from_secs(3600), bytes: 400, record_bytes: 3_000, versions: VersionRetention::ALL };

/// What can be asked. Marks name an entry by its index among those that were read, so that each log's own token is used.
#[derive(Clone, Debug)]
enum Request {
    Hello(Hello),
    Append { hello: Hello, batch: u64, floor: u64, events: usize, blob: Vec<u8>, own_ids: Vec<OwnId> },
    Pulse(Hello),
    Attach { read: Option<Known>, appended: Option<Known>, floor: u64 },
    Read(Option<Known>),
    Insert { hello: Hello, batch: u64, floor: u64, requests: Vec<InsertRequest> },
    Register(Hello, u64),
    Revoke(Hello, Vec<String>),
    Revoked(Option<usize>),
    Newest(u64),
    Records(u64, u64),
    HasRecord(u64),
    Versions(&'static str, u64, usize),
    RecordsOf(u64, u64, Known),
    Erase { hello: Hello, batch: u64, floor: u64, name: &'static str, before: Option<u64> },
    Sweep(Hello),
}

#[derive(Clone, Debug)]
enum Known {
    Entry(usize),
    Forged(u64),
}

/// An answer, without what differs: the time, and the tokens of entries that the log itself appends.
#[derive(Debug, PartialEq)]
enum Answer {
    Greeting(Greeting),
    Appended(Appended),
    Pulse(Pulse),
    Attached(Attached),
    Entries(Vec<Entry>),
    Inserted(Inserted),
    Peers(Vec<Peer>),
    Stored,
    /// The texts, and whether something was removed before each.
    Revoked(Vec<(Box<str>, bool)>),
    Records(Vec<Record>),
    HasRecord(bool),
    Versions(Vec<Version>),
    RecordsOf(Vec<Record>, bool),
    Erased(Erased),
    Swept(Swept),
}

fn timeless(pulse: Pulse) -> Pulse {
    Pulse { time: 0, ..pulse }
}

fn tokenless(entry: &Entry) -> Entry {
    match entry.body {
        Body::Events { .. } | Body::Records(_) => entry.clone(),
        _ => Entry { token: "".into(), ..entry.clone() },
    }
}

/// A log, and the entries that were read from it.
struct Side<L> {
    log: L,
    entries: Vec<Entry>,
    /// The times of revocations.
    revoked: Vec<u64>,
}

impl<L: Log + ReadRecords + RemoveRecords + Revocations> Side<L> {
    fn mark(&self, known: &Known) -> Mark {
        match *known {
            Known::Entry(index) => Mark { entry: self.entries[index].id, token: self.entries[index].token.clone() },
            Known::Forged(entry) => Mark { entry, token: "forged".into() },
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, LogError> {
        match request {
            Request::Hello(hello) => self
                .log
                .hello(*hello)
                .map(|greeting| Answer::Greeting(Greeting { pulse: timeless(greeting.pulse), ..greeting })),
            Request::Append { hello, batch, floor, events, blob, own_ids } => {
                let (hello, batch, floor, events) = (*hello, *batch, *floor, *events);
                self.log.append(&Append { hello, batch, floor, events, blob, own_ids }).map(Answer::Appended)
            }
            Request::Pulse(hello) => self.log.pulse(*hello).map(timeless).map(Answer::Pulse),
            Request::Attach { read, appended, floor } => {
                let mark = |known: &Option<Known>| known.as_ref().map(|known| self.mark(known));
                let attach =
                    Attach { read: mark(read), appended: mark(appended), floor: *floor, applied: 0, format: None };
                let attached = self.log.attach(&attach)?;
                Ok(Answer::Attached(Attached { pulse: timeless(attached.pulse), ..attached }))
            }
            Request::Read(known) => {
                let mut read = self.log.read(known.as_ref().map_or(0, |known| self.mark(known).entry))?;
                // How many come at once may differ.
                read.truncate(COMPARED);
                let answer = Answer::Entries(read.iter().map(tokenless).collect());
                self.entries.extend(read);
                Ok(answer)
            }
            other => self.ask_for_records(other),
        }
    }

    fn ask_for_records(&mut self, request: &Request) -> Result<Answer, LogError> {
        // How many come at once may differ.
        let few = |mut records: Vec<Record>| {
            records.truncate(COMPARED);
            Answer::Records(records)
        };
        match request {
            Request::Insert { hello, batch, floor, requests } => {
                let (hello, batch, floor, keys) = (*hello, *batch, *floor, KEYS);
                self.log.insert(&Insert { hello, batch, floor, requests, keys }).map(Answer::Inserted)
            }
            Request::Register(hello, subscribers) => {
                let mut peers = self.log.register(*hello, *subscribers)?;
                // The time decides how long the others are known.
                peers.retain(|peer| peer.broker == hello.broker);
                Ok(Answer::Peers(peers))
            }
            Request::Revoke(hello, texts) => {
                let first = self.log.revoke(&Revoke { hello: *hello, texts, max: MAX_REVOCATIONS })?;
                self.revoked.extend((first..).take(texts.len()));
                Ok(Answer::Stored)
            }
            Request::Revoked(known) => {
                let mut revoked = self.log.revoked(known.map_or(0, |known| self.revoked[known]))?;
                revoked.truncate(COMPARED);
                let told = |revoked: Revoked| (revoked.text, revoked.removed_through > 0);
                Ok(Answer::Revoked(revoked.into_iter().map(told).collect()))
            }
            Request::Newest(after) => self.log.newest_records(*after).map(few),
            Request::Records(first, last) => self.log.records(*first, *last).map(few),
            Request::HasRecord(id) => self.log.has_record(*id).map(Answer::HasRecord),
            Request::Versions(name, after, limit) => self.log.versions(name, *after, *limit).map(Answer::Versions),
            Request::RecordsOf(first, last, known) => {
                let mark = self.mark(known);
                let (mut records, has_entry) = self.log.records_of(*first, *last, &mark)?;
                records.truncate(COMPARED);
                Ok(Answer::RecordsOf(records, has_entry))
            }
            Request::Erase { hello, batch, floor, name, before } => {
                let (hello, batch, floor, before) = (*hello, *batch, *floor, *before);
                self.log.erase(&Erase { hello, batch, floor, name, before }).map(Answer::Erased)
            }
            Request::Sweep(hello) => self.log.sweep(*hello).map(Answer::Swept),
            other => unreachable!("{other:?} is not about records"),
        }
    }

    /// Asks, and leaves out how an error is described.
    fn answer(&mut self, request: &Request) -> Result<Answer, LogError> {
        self.ask(request).map_err(|error| match error {
            LogError::Refused(refusal, _) => LogError::Refused(refusal, String::new()),
            other => other,
        })
    }
}

/// Chooses requests. It knows what both logs have answered.
struct Asker {
    rng: Rng,
    /// The ids of the entries that were read.
    entries: Vec<u64>,
    newest: u64,
    batch: u64,
    /// The ids of some records.
    records: Vec<u64>,
    /// The newest id of each name.
    newest_ids: BTreeMap<Arc<str>, u64>,
    /// The number of revocations.
    revoked: usize,
}

const NAMES: [&str; 6] = ["a", "ab", "a b", "a\u{1F600}", "\"", "é"];

impl Asker {
    fn hello(&mut self) -> Hello {
        Hello { broker: self.rng.u64(1..3), session: self.rng.u64(1..3) }
    }

    fn append(&mut self) -> Request {
        self.batch += 1;
        let events = self.rng.usize(1..4);
        let with_id = (0..events).filter(|_| self.rng.bool()).collect::<Vec<_>>();
        let own_ids =
            with_id.into_iter().map(|index| OwnId { index, key: format!("topic:{}", self.rng.u8(0..20)) }).collect();
        let blob = vec![b'x'; self.rng.usize(0..120)];
        Request::Append { hello: self.hello(), batch: self.batch, floor: self.floor(), events, blob, own_ids }
    }

    fn floor(&mut self) -> u64 {
        if self.rng.u8(0..8) == 0 { self.newest + self.rng.u64(0..20) } else { FLOOR }
    }

    fn known(&mut self) -> Option<Known> {
        match self.rng.u8(0..10) {
            0..4 => None,
            4 => Some(Known::Forged(FLOOR + self.rng.u64(0..self.newest + 10 - FLOOR))),
            _ => self.entry(),
        }
    }

    fn entry(&mut self) -> Option<Known> {
        (!self.entries.is_empty()).then(|| Known::Entry(self.rng.usize(0..self.entries.len())))
    }

    /// Returns whether there may be none after it, for which a server would wait.
    fn is_newest(&self, known: &Known) -> bool {
        matches!(known, Known::Entry(index) if self.entries.iter().max() == self.entries.get(*index))
    }

    fn next(&mut self) -> Request {
        match self.rng.u8(0..28) {
            22 => self.erase(),
            26 => self.revoke(),
            23 | 27 => Request::Sweep(self.hello()),
            24 | 25 => self.records_of(),
            20 => self.revoke(),
            21 => Request::Revoked((self.revoked > 0 && self.rng.bool()).then(|| self.rng.usize(0..self.revoked))),
            0 => Request::Hello(self.hello()),
            1 => Request::Pulse(self.hello()),
            2 | 3 => Request::Attach { read: self.known(), appended: self.known(), floor: self.floor() },
            4 => Request::Read(self.entry().filter(|known| !self.is_newest(known))),
            5..8 => self.insert(),
            8 => Request::Register(self.hello(), self.rng.u64(0..9)),
            9 => Request::Newest(self.record()),
            10 => Request::Records(self.record(), self.record()),
            11 => Request::HasRecord(self.record()),
            12 => Request::Versions(self.name(), self.record(), self.rng.usize(0..COMPARED)),
            _ => self.append(),
        }
    }

    fn insert(&mut self) -> Request {
        self.batch += 1;
        let requests = (0..self.rng.usize(1..6)).map(|_| self.insert_request()).collect();
        Request::Insert { hello: self.hello(), batch: self.batch, floor: self.floor(), requests }
    }

    fn insert_request(&mut self) -> InsertRequest {
        let key = self.rng.bool().then(|| self.rng.usize(0..9));
        // Most keys are used with one name.
        let name = key.filter(|_| self.rng.bool()).map_or_else(|| self.name(), |key| NAMES[key % NAMES.len()]);
        let record = NewRecord { name: name.into(), data: "7".repeat(self.rng.usize(1..90)).into() };
        let condition = match self.rng.u8(0..8) {
            0 => Condition::Exists,
            1 => Condition::Absent,
            2 => Condition::NewestIs((0..self.rng.usize(0..3)).map(|_| self.record()).collect()),
            3 => Condition::NewestIs(self.newest_ids.values().copied().collect()),
            _ => Condition::Always,
        };
        InsertRequest { record, condition, key: key.and_then(|key| IdempotencyKey::new(&format!("key {key}"))) }
    }

    fn records_of(&mut self) -> Request {
        let (first, last) = (self.record(), self.record());
        match self.known() {
            Some(known) => Request::RecordsOf(first, last, known),
            None => Request::Records(first, last),
        }
    }

    fn erase(&mut self) -> Request {
        self.batch += 1;
        let before = [None, Some(self.record()), Some(u64::MAX)][self.rng.usize(0..3)];
        Request::Erase { hello: self.hello(), batch: self.batch, floor: self.floor(), name: self.name(), before }
    }

    fn revoke(&mut self) -> Request {
        let texts = (0..self.rng.usize(1..4)).map(|_| format!("sub:{}", self.name())).collect();
        Request::Revoke(self.hello(), texts)
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.usize(0..NAMES.len())]
    }

    /// Returns the id of a record, or one near it.
    fn record(&mut self) -> u64 {
        let index = self.rng.usize(0..self.records.len() + 1);
        self.records.get(index).map_or(0, |id| id + self.rng.u64(0..3) - 1)
    }

    fn learn(&mut self, request: &Request, answer: &Result<Answer, LogError>) {
        let asked = if let Request::Insert { requests, .. } = request { &requests[..] } else { &[] };
        match answer {
            Ok(
                Answer::Greeting(Greeting { pulse, .. })
                | Answer::Pulse(pulse)
                | Answer::Attached(Attached { pulse, .. }),
            ) => {
                self.newest = self.newest.max(pulse.last);
            }
            Ok(Answer::Entries(entries)) => self.entries.extend(entries.iter().map(|entry| entry.id)),
            Ok(Answer::Inserted(inserted)) => {
                for (outcome, request) in inserted.outcomes.iter().zip(asked) {
                    if let InsertOutcome::Stored(id) = outcome {
                        self.records.push(*id);
                        self.newest_ids.insert(Arc::clone(&request.record.name), *id);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What was answered, so that no test is empty.
#[derive(Debug, Default)]
struct Seen {
    appends: usize,
    repetitions: usize,
    losses: usize,
    refusals: usize,
    inserts: usize,
    repeated: usize,
    reused: usize,
    conflicts: usize,
    /// Keys that were forgotten early.
    forgotten: usize,
    full: usize,
    records: usize,
    revocations: usize,
    erased: usize,
    erasures: usize,
    swept: usize,
    proven: usize,
}

/// Asks both logs the same.
fn compare(seed: u64, server: &RedisServer, seen: &mut Seen) {
    let versions = VersionRetention { versions: NonZeroU64::new([0, 1, 1, 2][seed as usize % 4]), age: None };
    let retention = Retention { versions, ..RETENTION };
    // Some begin without a limit, so that a sweep finds something.
    let first = if seed % 4 < 3 { RETENTION } else { retention };
    let simulated = SimLog::new(seed, 1_800_000_000_000_000, first);
    let memory = simulated.connector(1).connect().unwrap();
    let settings = EngineSettings { prefix: format!("{{{seed}}}"), ..settings(server) };
    let mut server = Side { log: connect(settings.clone().retaining(first)), entries: Vec::new(), revoked: Vec::new() };
    let mut memory = Side { log: memory, entries: Vec::new(), revoked: Vec::new() };
    let mut asker = Asker {
        rng: Rng::with_seed(seed),
        entries: Vec::new(),
        newest: FLOOR,
        batch: 0,
        records: Vec::new(),
        newest_ids: BTreeMap::new(),
        revoked: 0,
    };
    let before = [Request::Hello(Hello { broker: 1, session: 1 }), asker.append()];
    let create = Request::Attach { read: None, appended: None, floor: FLOOR };
    for request in before.into_iter().chain([create]) {
        assert_eq!(server.answer(&request), memory.answer(&request), "seed {seed}: {request:?}");
    }
    for number in 0..REQUESTS {
        if number == REQUESTS / 2 {
            server.log = connect(settings.clone().retaining(retention));
            simulated.keep_versions(versions);
        }
        let request = match number.checked_sub(REQUESTS / 2) {
            Some(0) => Request::Hello(Hello { broker: 1, session: 1 }),
            Some(1) => Request::Sweep(Hello { broker: 1, session: 1 }),
            _ => asker.next(),
        };
        let answer = server.answer(&request);
        assert_eq!(answer, memory.answer(&request), "seed {seed}, request {number}: {request:?}");
        asker.learn(&request, &answer);
        asker.revoked = memory.revoked.len();
        seen.count(&answer);
    }
}

impl Seen {
    fn count(&mut self, answer: &Result<Answer, LogError>) {
        match answer {
            Ok(Answer::Appended(appended)) => {
                self.appends += 1;
                self.repetitions += appended.repetitions.len();
            }
            Ok(Answer::Attached(Attached { from: From::Loss(_), .. })) => self.losses += 1,
            Ok(Answer::Inserted(inserted)) => {
                self.forgotten += inserted.forgotten as usize;
                for outcome in &inserted.outcomes {
                    match outcome {
                        InsertOutcome::Stored(_) => self.inserts += 1,
                        InsertOutcome::Repeated(_) => self.repeated += 1,
                        InsertOutcome::KeyReused => self.reused += 1,
                        InsertOutcome::Conflict(_) => self.conflicts += 1,
                    }
                }
            }
            Ok(Answer::Revoked(revoked)) => self.revocations += revoked.iter().filter(|revoked| revoked.1).count(),
            Ok(Answer::Records(records)) => self.records += records.len(),
            Ok(Answer::Versions(versions)) => self.records += versions.len(),
            Ok(Answer::Erased(erased)) => {
                self.erased += erased.versions as usize;
                self.erasures += usize::from(erased.entry.is_some());
            }
            Ok(Answer::Swept(swept)) => self.swept += swept.versions as usize,
            Ok(Answer::RecordsOf(_, has_entry)) => self.proven += usize::from(*has_entry),
            Ok(_) => {}
            Err(LogError::Refused(Refusal::Records, _)) => self.full += 1,
            Err(_) => self.refusals += 1,
        }
    }
}

#[test]
fn a_server_and_the_simulation_answer_alike() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut seen = Seen::default();
    (0..SEEDS).for_each(|seed| compare(seed, &server, &mut seen));
    let Seen { appends, repetitions, losses, refusals, inserts, full, records, revocations, .. } = seen;
    let Seen { repeated, reused, conflicts, forgotten, .. } = seen;
    let counts = [appends, repetitions, losses, refusals, inserts, conflicts, records, revocations];
    let rare = [repeated, reused, forgotten, full, seen.erased, seen.erasures, seen.swept, seen.proven];
    assert!(counts.iter().all(|count| *count > 20) && rare.iter().all(|count| *count > 10), "{seen:?}");
}
