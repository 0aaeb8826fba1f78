//! Who publishes: steadily on lanes that must never tell of a gap, and as fast as it goes on others. Everything goes through the ledger.

use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE};
use crate::ledger::Fate;
use crate::world::World;

/// Lanes from the first on whose events have ids of their publisher's.
const OWN_IDS: usize = 2;
/// Between two bodies of a steady lane.
const PAUSE: Duration = Duration::from_millis(50);
/// After a refusal or a broken connection.
const RETRY: Duration = Duration::from_millis(20);

/// Publishes now and then on a lane until the soak is over.
pub fn publish_steadily(world: &World, lane: usize) {
    let mut random = world.random(&format!("lane {lane}"));
    world.work(
        &mut world.publisher(),
        |client| {
            let (count, padding) = if random.u8(..) < 10 { (5, 2000) } else { (1, random.usize(..200)) };
            let aborts = if lane < OWN_IDS && random.u8(..) < 12 { random.u8(..3) } else { 0 };
            if !publish(world, client, lane, count, padding, aborts) {
                std::thread::sleep(RETRY);
            }
            std::thread::sleep(PAUSE.mul_f64(random.f64() * 2.0));
        },
        Client::close,
    );
}

/// Publishes on a lane as fast as it goes.
pub fn flood(world: &World, lane: usize, until: Instant, random: &mut fastrand::Rng) {
    let mut client = world.publisher();
    while Instant::now() < until {
        let (count, padding) = match random.u8(..) {
            0..2 => (1, 300_000),
            2..20 => (2, 20_000),
            20..80 => (64, 100),
            _ => (1, 10),
        };
        if !publish(world, &mut client, lane, count, padding, 0) {
            std::thread::sleep(RETRY);
        }
    }
}

/// One more event on each lane, which must be taken sooner or later: whoever gets it has everything.
pub fn publish_surely(world: &World) {
    let (begin, mut client) = (Instant::now(), world.publisher());
    for lane in 0..world.ledger.lanes().len() {
        while !publish(world, &mut client, lane, 1, 0, 0) {
            if begin.elapsed() > PATIENCE {
                return world.fail("the broker does not take events again");
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// Publishes one body; so many times the connection is reset first, before an answer could be read. Answers whether it was accepted.
pub fn publish(world: &World, client: &mut Client<'_>, lane: usize, count: u64, padding: usize, aborts: u8) -> bool {
    let (owner, has_own_ids) = (world.ledger.lane(lane), lane < OWN_IDS);
    let (target, generation) = (format!("/publish/{}", owner.topic), world.generation());
    let first = owner.begin(count);
    let padding = "x".repeat(padding);
    let event = |number| {
        let id = if has_own_ids { format!("id: own-{lane}-{number}\n") } else { String::new() };
        format!("data: {lane} {number} {padding}\n{id}\n")
    };
    let body: String = (first..first + count).map(event).collect();
    for _ in 0..aborts {
        client.close();
        // A broker that was started anew does not know the ids any more: what goes there must not have been elsewhere before.
        if !client.connect() || world.has_restarted_since(generation) {
            owner.settle(first, Fate::Unknown);
            return false;
        }
        client.post_and_reset(&target, &body, Duration::from_micros(200));
    }
    if !client.connect() || (aborts > 0 && world.has_restarted_since(generation)) {
        owner.settle(first, if aborts > 0 { Fate::Unknown } else { Fate::Refused });
        return false;
    }
    let before = world.ledger.newest_id();
    let outcome = client.post(&target, &body);
    let fate = judge(world, outcome, generation, before, has_own_ids);
    owner.settle(first, fate);
    let counter = match fate {
        Fate::Acknowledged(_) => &world.counts.accepted,
        Fate::Refused => &world.counts.refused,
        Fate::Sent | Fate::Unknown => &world.counts.unknown,
    };
    let counted = if matches!(fate, Fate::Acknowledged(_)) { count } else { 1 };
    counter.fetch_add(counted, std::sync::atomic::Ordering::Relaxed);
    matches!(fate, Fate::Acknowledged(_))
}

fn judge(world: &World, outcome: Outcome, generation: u32, before: u64, has_own_ids: bool) -> Fate {
    match outcome {
        Outcome::Answer(answer) if answer.status == 200 => {
            let id: Option<u64> = answer.json()["id"].as_str().and_then(|id| id.parse().ok());
            if has_own_ids {
                return Fate::Acknowledged(None);
            }
            match id {
                Some(id) if id > before => world.ledger.note_id(id),
                _ => {
                    world.ledger.fall_back_to(id.unwrap_or(0));
                    world.fail(format!("an event was given {id:?} after {before}"));
                }
            }
            Fate::Acknowledged(id)
        }
        Outcome::Answer(answer) => {
            if answer.status != 503 {
                world.fail(format!("an event was answered with {}", answer.head));
            }
            Fate::Refused
        }
        Outcome::Unsent => Fate::Refused,
        Outcome::Broken(why) => {
            if !world.has_restarted_since(generation) {
                world.fail(format!("a publish broke: {why}"));
            }
            Fate::Unknown
        }
    }
}
