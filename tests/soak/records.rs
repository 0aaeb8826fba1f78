//! Inserts records, notes which were acknowledged, and checks that exactly those exist, apart from unknown outcomes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE};
use crate::world::World;

/// The number of steady writers, and of all writers including those of a flood.
pub const STEADY: usize = 4;
const WRITERS: usize = 12;
/// The number of names that each writer has for itself.
const NAMES: usize = 40;
/// The mean interval between two records of a steady writer.
const PAUSE: Duration = Duration::from_millis(100);
/// The number of records per audit page.
const PAGE: usize = 10_000;

/// A record that was acknowledged.
#[derive(Clone, Copy)]
struct Stored {
    id: u64,
    name: u32,
    number: u32,
}

/// What was inserted, and with what outcome.
pub struct Records {
    names: Vec<Name>,
    stored: Mutex<Vec<Stored>>,
    /// Name and number.
    refused: Mutex<Vec<(u32, u32)>>,
}

struct Name {
    text: String,
    /// Held during an insert, so that the versions' order is known even if two writers insert the name.
    turn: Mutex<()>,
    /// The last number used. Numbers begin with 1.
    given: AtomicU32,
    acknowledged: AtomicU32,
}

impl Records {
    pub fn new() -> Self {
        let name = |index: usize| Name {
            text: format!("w{}/{}", index / NAMES, index % NAMES),
            turn: Mutex::default(),
            given: AtomicU32::new(0),
            acknowledged: AtomicU32::new(0),
        };
        let names = (0..WRITERS * NAMES).map(name).collect();
        Self { names, stored: Mutex::default(), refused: Mutex::default() }
    }

    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Returns the index of a name.
    pub fn find(&self, text: &str) -> Option<usize> {
        let (writer, nth) = text.strip_prefix('w')?.split_once('/')?;
        let index = writer.parse::<usize>().ok()? * NAMES + nth.parse::<usize>().ok()?;
        self.names.get(index).filter(|name| name.text == text).map(|_| index)
    }

    /// Returns the number of the name's newest acknowledged record.
    pub fn newest(&self, name: usize) -> u32 {
        self.names[name].acknowledged.load(SeqCst)
    }
}

/// Returns the number in a record's data.
pub fn number(data: &str) -> Option<u32> {
    data.strip_prefix("{\"n\":")?.split([',', '}']).next()?.parse().ok()
}

/// Inserts steadily until the soak is over.
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

/// Inserts as fast as possible.
pub fn flood(world: &World, writer: usize, until: Instant) {
    let writer = STEADY + writer % (WRITERS - STEADY);
    let (mut client, mut random) = (world.publisher(), world.random(&format!("writer {writer}")));
    while Instant::now() < until {
        insert(world, &mut client, &mut random, writer);
    }
}

/// Inserts each name once, so that the baseline includes the broker's memory for names.
pub fn insert_all(world: &World) {
    let mut client = world.publisher();
    for name in 0..world.records.count() {
        insert_as(world, &mut client, name, 10);
    }
}

/// Inserts a record for each steady writer, which must succeed in the end.
pub fn insert_surely(world: &World) {
    let (begin, mut client) = (Instant::now(), world.publisher());
    for writer in 0..STEADY {
        while !insert_as(world, &mut client, writer * NAMES, 10) {
            if begin.elapsed() > PATIENCE {
                return world.fail("the store does not accept records again");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn insert(world: &World, client: &mut Client<'_>, random: &mut fastrand::Rng, writer: usize) {
    let padding = if random.u8(..) < 8 { 20_000 } else { random.usize(..300) };
    if !insert_as(world, client, writer * NAMES + random.usize(..NAMES), padding) {
        // Back off, though for less than Retry-After asks.
        std::thread::sleep(PAUSE);
    }
}

fn insert_as(world: &World, client: &mut Client<'_>, index: usize, padding: usize) -> bool {
    let name = &world.records.names[index];
    let _turn = lock(&name.turn);
    let generation = world.generation();
    let number = name.given.fetch_add(1, SeqCst) + 1;
    let body = format!(r#"{{"event":"{}","data":{{"n":{number},"x":"{}"}}}}"#, name.text, "x".repeat(padding));
    match client.post("/insert", &body) {
        Outcome::Response(response) if response.status == 200 => {
            let id = response.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0);
            lock(&world.records.stored).push(Stored { id, name: index as u32, number });
            name.acknowledged.fetch_max(number, SeqCst);
            world.counts.stored.fetch_add(1, SeqCst);
            world.ledger.note_id(id);
            return true;
        }
        // A failed or slow disk: the response says that the outcome is unknown.
        Outcome::Response(response) if response.status == 503 && is_open(&response.json()) => {}
        Outcome::Response(response) if response.status == 503 => {
            lock(&world.records.refused).push((index as u32, number));
        }
        Outcome::Response(response) => world.fail(format!("the response to an insert was {}", response.head)),
        Outcome::Broken(why) if !world.has_restarted_since(generation) => world.fail(format!("an insert broke: {why}")),
        Outcome::Broken(_) | Outcome::Unsent => {}
    }
    false
}

fn is_open(problem: &serde_json::Value) -> bool {
    problem["detail"].as_str().is_some_and(|detail| detail.contains("has failed") || detail.contains("in time"))
}

/// Reads audits of random names until the soak is over.
pub fn audit_steadily(world: &World) {
    let mut random = world.random("auditor");
    world.work(
        &mut world.reader(),
        |client| {
            let (index, after) =
                (random.usize(..world.records.count()), world.ledger.newest_id().saturating_sub(1 << 25));
            let limit = random.usize(1..100);
            // Completeness is checked after each phase.
            let outcome = client.get(&format!("/audit/{}?after={after}&limit={limit}", encoded(world, index)));
            if let Outcome::Response(response) = outcome
                && response.status != 200
            {
                world.fail(format!("the response to an audit was {}", response.head));
            }
            std::thread::sleep(PAUSE);
        },
        Client::close,
    );
}

/// Checks that every acknowledged record exists, and no refused one.
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
            "record {id} ({} {number}) was acknowledged and is missing",
            world.records.names[*name as usize].text
        ));
    }
    let numbers: Vec<Vec<u32>> = found.iter().map(|versions| versions.values().copied().collect()).collect();
    for (name, numbers) in
        numbers.iter().enumerate().filter(|(_, numbers)| !numbers.is_sorted_by(|one, next| one < next))
    {
        world.fail(format!(
            "the versions of {} are not in the order of their inserts: {numbers:?}",
            world.records.names[name].text
        ));
    }
    for (name, number) in refused {
        if numbers[*name as usize].binary_search(number).is_ok() {
            world.fail(format!("{} {number} was refused and exists", world.records.names[*name as usize].text));
        }
    }
}

/// Returns a name's numbers by id.
fn versions(world: &World, index: usize) -> Result<BTreeMap<u64, u32>, String> {
    let (mut client, mut found) = (world.reader(), BTreeMap::new());
    loop {
        let after = found.keys().next_back().copied().unwrap_or(0);
        let target = format!("/audit/{}?after={after}&limit={PAGE}", encoded(world, index));
        let Outcome::Response(response) = client.get(&target) else { return Err("an audit broke".to_owned()) };
        let page: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(&response.body).map_err(|error| format!("{error} in {}", response.head))?;
        // A page is also limited in bytes.
        let is_last = !response.head.contains("\r\nLink: ");
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
