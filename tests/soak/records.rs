//! Records: who inserts them, what was acknowledged, and whether all of that is there and nothing that was refused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE};
use crate::world::World;

/// Who inserts all the time, and who comes for a flood.
pub const STEADY: usize = 4;
const WRITERS: usize = 12;
/// Names that one writer has for itself.
const NAMES: usize = 40;
/// Between two records of a steady writer.
const PAUSE: Duration = Duration::from_millis(100);
/// Records in a page of an audit.
const PAGE: usize = 10_000;

/// A record that was acknowledged.
#[derive(Clone, Copy)]
struct Stored {
    id: u64,
    name: u32,
    number: u32,
}

/// What was inserted, and what became of it.
pub struct Records {
    names: Vec<Name>,
    stored: Mutex<Vec<Stored>>,
    /// Name and number.
    refused: Mutex<Vec<(u32, u32)>>,
}

struct Name {
    text: String,
    /// The number given last; they begin with 1.
    given: AtomicU32,
    acknowledged: AtomicU32,
}

impl Records {
    pub fn new() -> Self {
        let name = |index: usize| Name {
            text: format!("w{}/{}", index / NAMES, index % NAMES),
            given: AtomicU32::new(0),
            acknowledged: AtomicU32::new(0),
        };
        let names = (0..WRITERS * NAMES).map(name).collect();
        Self { names, stored: Mutex::default(), refused: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The index of a name.
    pub fn find(&self, text: &str) -> Option<usize> {
        let (writer, nth) = text.strip_prefix('w')?.split_once('/')?;
        let index = writer.parse::<usize>().ok()? * NAMES + nth.parse::<usize>().ok()?;
        self.names.get(index).filter(|name| name.text == text).map(|_| index)
    }

    /// The number of the name's newest record that was acknowledged.
    pub fn newest(&self, name: usize) -> u32 {
        self.names[name].acknowledged.load(SeqCst)
    }
}

/// The number in a record's data.
pub fn number(data: &str) -> Option<u32> {
    data.strip_prefix("{\"n\":")?.split([',', '}']).next()?.parse().ok()
}

/// Inserts now and then until the soak is over.
pub fn insert_steadily(world: &World, writer: usize) {
    let mut random = world.random(&format!("writer {writer}"));
    world.work(
        &mut world.publisher(),
        |client| {
            insert(world, client, &mut random, writer);
            std::thread::sleep(PAUSE.mul_f64(random.f64() * 2.0));
        },
        Client::close,
    );
}

/// Inserts as fast as it goes.
pub fn flood(world: &World, writer: usize, until: Instant) {
    let writer = STEADY + writer % (WRITERS - STEADY);
    let (mut client, mut random) = (world.publisher(), world.random(&format!("writer {writer}")));
    while Instant::now() < until {
        insert(world, &mut client, &mut random, writer);
    }
}

/// Each name once, so that what the broker keeps for names is there from the beginning on.
pub fn insert_all(world: &World) {
    let mut client = world.publisher();
    for name in 0..world.records.count() {
        insert_as(world, &mut client, name, 10);
    }
}

/// A record of each steady writer must be taken now, sooner or later.
pub fn insert_surely(world: &World) {
    let (begin, mut client) = (Instant::now(), world.publisher());
    for writer in 0..STEADY {
        while !insert_as(world, &mut client, writer * NAMES, 10) {
            if begin.elapsed() > PATIENCE {
                return world.fail("the store does not take records again");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn insert(world: &World, client: &mut Client<'_>, random: &mut fastrand::Rng, writer: usize) {
    let padding = if random.u8(..) < 8 { 20_000 } else { random.usize(..300) };
    if !insert_as(world, client, writer * NAMES + random.usize(..NAMES), padding) {
        // As a client that heeds Retry-After, if one with little patience.
        std::thread::sleep(PAUSE);
    }
}

fn insert_as(world: &World, client: &mut Client<'_>, index: usize, padding: usize) -> bool {
    let (name, generation) = (&world.records.names[index], world.generation());
    let number = name.given.fetch_add(1, SeqCst) + 1;
    let body = format!(r#"{{"event":"{}","data":{{"n":{number},"x":"{}"}}}}"#, name.text, "x".repeat(padding));
    match client.post("/insert", &body) {
        Outcome::Answer(answer) if answer.status == 200 => {
            let id = answer.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0);
            lock(&world.records.stored).push(Stored { id, name: index as u32, number });
            name.acknowledged.fetch_max(number, SeqCst);
            world.counts.stored.fetch_add(1, SeqCst);
            world.ledger.note_id(id);
            return true;
        }
        // A failed disk, or one that takes too long: whether it is stored nobody knows, and the answer says so.
        Outcome::Answer(answer) if answer.status == 503 && is_open(&answer.json()) => {}
        Outcome::Answer(answer) if answer.status == 503 => lock(&world.records.refused).push((index as u32, number)),
        Outcome::Answer(answer) => world.fail(format!("a record was answered with {}", answer.head)),
        Outcome::Broken(why) if !world.has_restarted_since(generation) => world.fail(format!("an insert broke: {why}")),
        Outcome::Broken(_) | Outcome::Unsent => {}
    }
    false
}

fn is_open(problem: &serde_json::Value) -> bool {
    problem["detail"].as_str().is_some_and(|detail| detail.contains("has failed") || detail.contains("in time"))
}

/// Looks into histories of names until the soak is over.
pub fn audit_steadily(world: &World) {
    let mut random = world.random("auditor");
    world.work(
        &mut world.reader(),
        |client| {
            let (index, after) =
                (random.usize(..world.records.count()), world.ledger.newest_id().saturating_sub(1 << 25));
            let limit = random.usize(1..100);
            // Whether it is all there is looked at when it is quiet.
            let outcome = client.get(&format!("/audit/{}?after={after}&limit={limit}", encoded(world, index)));
            if let Outcome::Answer(answer) = outcome
                && answer.status != 200
            {
                world.fail(format!("an audit was answered with {}", answer.head));
            }
            std::thread::sleep(PAUSE);
        },
        Client::close,
    );
}

/// Whether all that was acknowledged before now is there, and nothing of what was refused.
pub fn verify(world: &World) {
    let (stored, refused) = (lock(&world.records.stored).clone(), lock(&world.records.refused).clone());
    let generation = world.generation();
    match (0..world.records.count()).map(|name| versions(world, name)).collect::<Result<Vec<_>, _>>() {
        Ok(found) => compare(world, &found, &stored, &refused),
        Err(_) if world.has_restarted_since(generation) => {}
        Err(why) => world.fail(why),
    }
}

fn compare(world: &World, found: &[BTreeMap<u64, u32>], stored: &[Stored], refused: &[(u32, u32)]) {
    let lost = stored.iter().filter(|record| found[record.name as usize].get(&record.id) != Some(&record.number));
    for Stored { id, name, number } in lost {
        world.fail(format!(
            "record {id} ({} {number}) was acknowledged and is gone",
            world.records.names[*name as usize].text
        ));
    }
    let numbers: Vec<Vec<u32>> = found.iter().map(|versions| versions.values().copied().collect()).collect();
    for (name, numbers) in
        numbers.iter().enumerate().filter(|(_, numbers)| !numbers.is_sorted_by(|one, next| one < next))
    {
        world.fail(format!(
            "the versions of {} are not as they were written: {numbers:?}",
            world.records.names[name].text
        ));
    }
    for (name, number) in refused {
        if numbers[*name as usize].binary_search(number).is_ok() {
            world.fail(format!("{} {number} was refused and is there", world.records.names[*name as usize].text));
        }
    }
}

/// Numbers by ids.
fn versions(world: &World, index: usize) -> Result<BTreeMap<u64, u32>, String> {
    let (mut client, mut found) = (world.reader(), BTreeMap::new());
    loop {
        let after = found.keys().next_back().copied().unwrap_or(0);
        let target = format!("/audit/{}?after={after}&limit={PAGE}", encoded(world, index));
        let Outcome::Answer(answer) = client.get(&target) else { return Err("an audit broke".to_owned()) };
        let page: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(&answer.body).map_err(|error| format!("{error} in {}", answer.head))?;
        // A page has a bound in bytes as well.
        let is_last = !answer.head.contains("\r\nLink: ");
        for (key, data) in page {
            let id = key.rsplit_once("_v_").and_then(|(_, id)| id.parse().ok()).ok_or("a key without an id")?;
            found.insert(id, number(data.get()).ok_or("a record without a number")?);
        }
        if is_last {
            return Ok(found);
        }
    }
}

fn encoded(world: &World, index: usize) -> String {
    world.records.names[index].text.replace('/', "%2F")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
