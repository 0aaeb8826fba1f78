//! Inserts records at any broker, notes which were acknowledged, and checks that every broker has exactly those, apart from
//! unknown outcomes.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE, Peer};
use crate::engine::audit::{Page, read_page};
use crate::engine::ledger::State;
use crate::engine::publishers::{Answer, PER_CONNECTION, ask};
use crate::engine::world::World;
use crate::records::number;

/// The number of writers, and of names that each has for itself.
pub const WRITERS: usize = 4;
const NAMES: usize = 10;
/// The mean interval between two records of a writer, and between two audits.
const PAUSE: Duration = Duration::from_millis(100);
/// After a refusal or a broken connection.
const RETRY: Duration = Duration::from_millis(100);
/// The number of records per page of a complete audit.
const PAGE: usize = 1000;

/// What was inserted, and with what outcome: each name has one writer, which numbers its records from 1.
pub struct Records {
    names: Vec<Mutex<Name>>,
}

#[derive(Default)]
struct Name {
    records: Vec<Record>,
    /// The newest id that has been verified.
    verified: u64,
    /// The newest id when the load was last paused.
    newest: u64,
}

/// A record.
#[derive(Clone, Copy, Debug)]
struct Record {
    state: State,
    /// The id that a response or a stream had.
    id: Option<u64>,
}

impl Records {
    pub fn new() -> Self {
        Self { names: (0..WRITERS * NAMES).map(|_| Mutex::default()).collect() }
    }

    /// Notes that a record is sent. Returns its number.
    fn begin(&self, index: usize) -> usize {
        let mut name = self.name(index);
        name.records.push(Record { state: State::Sent, id: None });
        name.records.len()
    }

    fn name(&self, index: usize) -> MutexGuard<'_, Name> {
        self.names[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether these brokers keep records: without, `/insert` does not exist.
pub fn are_kept(peer: &dyn Peer) -> bool {
    let outcome = Client::new(peer, &crate::tokens::publisher()).post("/insert", "{}");
    !matches!(outcome, Outcome::Response(response) if response.status == 404)
}

/// Returns the number of names.
pub fn count(world: &World) -> usize {
    world.records.as_ref().map_or(0, |records| records.names.len())
}

fn text(index: usize) -> String {
    format!("w{}/{}", index / NAMES, index % NAMES)
}

fn find(text: &str) -> Option<usize> {
    let (writer, nth) = text.strip_prefix('w')?.split_once('/')?;
    let index = writer.parse::<usize>().ok()? * NAMES + nth.parse::<usize>().ok()?;
    (self::text(index) == text && index < WRITERS * NAMES).then_some(index)
}

impl Name {
    /// Notes a record that was seen with this id.
    fn note(&mut self, number: u32, id: u64) -> Result<(), String> {
        let at = (number as usize).checked_sub(1).ok_or("the number 0")?;
        let record = self.records.get_mut(at).ok_or_else(|| format!("{number} was never inserted"))?;
        if record.state == State::Refused {
            return Err(format!("{number} was refused and exists with the id {id}"));
        }
        if record.id.is_some_and(|known| known != id) {
            return Err(format!("{number} has the ids {id} and {:?}", record.id));
        }
        record.id = Some(id);
        Ok(())
    }

    /// Returns the numbers and ids of acknowledged records in this range of ids.
    fn due(&self, after: u64, last: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        let known = self.records.iter().zip(1..).filter(|(record, _)| record.state == State::Acknowledged);
        known.filter_map(move |(record, number)| {
            record.id.filter(|id| (after + 1..=last).contains(id)).map(|id| (number, id))
        })
    }
}

/// Notes a record that a stream had. Returns its name's index.
pub fn note_seen(world: &World, name: &str, data: &str, id: u64) -> Result<usize, String> {
    let records = world.records.as_ref().ok_or("there are no records")?;
    let index = find(name).ok_or_else(|| format!("{name} was never inserted"))?;
    let number = number(data).ok_or_else(|| format!("{data:.40} was never inserted"))?;
    records.name(index).note(number, id).map_err(|words| format!("record {name} {words}"))?;
    Ok(index)
}

/// Returns what is missing of the newest records.
pub fn lacks(world: &World, newest: &[u64]) -> Option<String> {
    let records = world.records.as_ref()?;
    newest.iter().enumerate().find_map(|(index, have)| {
        let due = records.name(index).newest;
        (*have < due).then(|| format!("record {due} of {}, has {have}", text(index)))
    })
}

/// Inserts until the soak is over. Odd writers use the balancer.
pub fn insert_steadily(world: &World, records: &Records, writer: usize) {
    let mut random = world.random(&format!("writer {writer}"));
    let balanced = world.cluster.through_balancer();
    let mut sent = 0;
    world.work(
        &mut world.publisher((writer % 2 == 1).then_some(&balanced)),
        |client| {
            let padding = if random.u8(..) < 8 { 20_000 } else { random.usize(..300) };
            let index = writer * NAMES + random.usize(..NAMES);
            insert(world, records, client, index, padding);
            sent += 1;
            if sent % PER_CONNECTION == 0 {
                client.close();
            }
            std::thread::sleep(PAUSE.mul_f64(random.f64() * 2.0));
        },
        Client::close,
    );
}

/// Inserts a record for each name, which must succeed in the end.
pub fn insert_surely(world: &World) {
    let Some(records) = &world.records else { return };
    let (begin, mut client) = (Instant::now(), world.publisher(None));
    for index in 0..records.names.len() {
        let id = loop {
            if let Some(id) = insert(world, records, &mut client, index, 10) {
                break id;
            }
            if begin.elapsed() > PATIENCE {
                return world.fail("the brokers do not accept records again");
            }
        };
        records.name(index).newest = id;
    }
}

/// Inserts a record. Returns its id if it was acknowledged. One with an unknown outcome may be found by an audit, but is not
/// inserted again.
fn insert(world: &World, records: &Records, client: &mut Client<'_>, index: usize, padding: usize) -> Option<u64> {
    let number = records.begin(index);
    let (name, before) = (text(index), world.ledger.newest_id());
    let body = format!(r#"{{"event":"{name}","data":{{"n":{number},"x":"{}"}}}}"#, "x".repeat(padding));
    let (state, id) = match ask(world, client, "/insert", &body) {
        Answer::Accepted(response) => {
            let json = response.json();
            let id: u64 = json["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0);
            if id <= before || json["key"] != format!("{name}_v_{id}") {
                world.fail(format!("record {name} {number} was answered {json}, after {before} was acknowledged"));
            }
            (State::Acknowledged, Some(id))
        }
        Answer::Refused | Answer::Unsent => (State::Refused, None),
        Answer::Unknown => (State::Unknown, None),
    };
    settle(world, records, index, number, state, id);
    if state != State::Acknowledged {
        std::thread::sleep(RETRY);
    }
    id
}

fn settle(world: &World, records: &Records, index: usize, number: usize, state: State, id: Option<u64>) {
    let mut name = records.name(index);
    let record = &mut name.records[number - 1];
    record.state = state;
    if record.id.is_some() && (state == State::Refused || (id.is_some() && record.id != id)) {
        world.fail(format!("record {} {number} was settled as {id:?}, and was seen as {record:?}", text(index)));
    }
    record.id = record.id.or(id);
    if let Some(id) = id {
        world.ledger.note_id(id);
        world.counts.stored.fetch_add(1, Relaxed);
    }
}

/// Reads pages of random names at any broker until the soak is over, and compares them with what is known.
pub fn audit_steadily(world: &World, records: &Records) {
    let mut random = world.random("auditor");
    world.work(
        &mut world.reader(&world.cluster),
        |client| {
            let index = random.usize(..records.names.len());
            let after = {
                let name = records.name(index);
                let known = random.choice(name.records.iter()).and_then(|record| record.id);
                known.unwrap_or(0)
            };
            compare_page(world, records, client, index, after, random.usize(1..50));
            client.close();
            std::thread::sleep(PAUSE);
        },
        Client::close,
    );
}

fn compare_page(world: &World, records: &Records, client: &mut Client<'_>, index: usize, after: u64, limit: usize) {
    // What is acknowledged from now on need not be there.
    let due: Vec<(u32, u64)> = records.name(index).due(after, u64::MAX).collect();
    let quiet = world.cluster.quiet_generation();
    let page = match read_page(client, &text(index), after, limit) {
        Page::Read { records, is_last } => (records, is_last),
        Page::Refused => return,
        Page::Broken if world.cluster.may_break(quiet) => return,
        Page::Broken => return world.fail("an audit broke"),
        Page::Wrong(words) => return world.fail(words),
    };
    let (found, is_last) = page;
    let end = if is_last { u64::MAX } else { found.last().map_or(after, |(_, id)| *id) };
    for missing in due.iter().filter(|(_, id)| *id <= end).filter(|record| !found.contains(record)) {
        world.fail(format!("an audit of {} after {after} lacks {missing:?}, which was acknowledged", text(index)));
    }
    for (number, id) in found {
        if let Err(words) = records.name(index).note(number, id) {
            world.fail(format!("an audit has a record of {}: {words}", text(index)));
        }
    }
    world.counts.audits.fetch_add(1, Relaxed);
}

/// Checks at each broker that every record that was acknowledged or seen exists once, in order, and no refused one: those since
/// the last call, or all.
pub fn verify(world: &World, is_complete: bool) {
    let Some(records) = &world.records else { return };
    for index in 0..records.names.len() {
        let after = if is_complete { 0 } else { records.name(index).verified };
        let lists: Vec<_> = world.cluster.nodes.iter().map(|node| read_all(world, node, index, after)).collect();
        let lists = match lists.into_iter().collect::<Result<Vec<_>, String>>() {
            Ok(lists) => lists,
            Err(why) => return world.fail(format!("{} can't be audited: {why}", text(index))),
        };
        for (one, other) in lists.iter().zip(&lists[1..]).filter(|(one, other)| one != other) {
            let lacks =
                |list: &[(u32, u64)], of: &[(u32, u64)]| of.iter().find(|record| !list.contains(record)).copied();
            let (first, second) = (lacks(other, one), lacks(one, other));
            world.fail(format!("only one of two brokers has {first:?} or {second:?} of {}", text(index)));
        }
        let faults = lists.first().map_or(Vec::new(), |list| records.name(index).verify(list, after));
        faults.into_iter().for_each(|words| world.fail(format!("record {} {words}", text(index))));
    }
}

fn read_all(world: &World, peer: &dyn Peer, index: usize, after: u64) -> Result<Vec<(u32, u64)>, String> {
    let (mut client, mut all, begin) = (world.reader(peer), Vec::<(u32, u64)>::new(), Instant::now());
    loop {
        let after = all.last().map_or(after, |(_, id)| *id);
        match read_page(&mut client, &text(index), after, PAGE) {
            Page::Read { records, is_last } => {
                all.extend(records);
                if is_last {
                    return Ok(all);
                }
            }
            Page::Refused | Page::Broken if begin.elapsed() < PATIENCE => std::thread::sleep(RETRY),
            page => return Err(format!("{page:?}")),
        }
    }
}

impl Name {
    /// Compares all records after this id with what is known.
    fn verify(&mut self, list: &[(u32, u64)], after: u64) -> Vec<String> {
        let mut faults = Vec::new();
        for &(number, id) in list {
            faults.extend(self.note(number, id).err());
        }
        let known =
            self.records.iter().zip(1u32..).filter_map(|(record, number)| record.id.map(|id| (number, id, record)));
        for (number, id, record) in known.filter(|(_, id, _)| *id > after) {
            match list.iter().filter(|found| **found == (number, id)).count() {
                1 => {}
                count => faults.push(format!("{number} exists {count} times: {record:?}")),
            }
        }
        self.verified = list.last().map_or(after, |(_, id)| *id).max(self.verified);
        faults
    }
}
