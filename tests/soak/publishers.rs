//! Publishers: steady ones on lanes that must have no gap, and floods on others. The ledger notes everything.

use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE};
use crate::ledger::BodyState;
use crate::world::World;

/// The number of lanes whose events have publishers' ids, from the first lane on.
const OWN_IDS: usize = 2;
/// The mean interval between two bodies of a steady lane.
const PAUSE: Duration = Duration::from_millis(50);
/// After a refusal or a broken connection.
const RETRY: Duration = Duration::from_millis(20);

/// Publishes steadily on a lane until the soak is over.
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

/// Publishes on a lane as fast as possible.
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

/// Publishes one more event on each lane, which must be accepted in the end. A follower that has it has everything.
pub fn publish_surely(world: &World) {
    let (begin, mut client) = (Instant::now(), world.publisher());
    for lane in 0..world.ledger.lanes().len() {
        while !publish(world, &mut client, lane, 1, 0, 0) {
            if begin.elapsed() > PATIENCE {
                return world.fail("the broker does not accept events again");
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// Publishes one body, after `aborts` attempts whose connection is reset before the response. Returns whether it was accepted.
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
        // A restarted broker does not know the publishers' ids, so it must not get a body that its predecessor may have.
        if !client.connect() || world.has_restarted_since(generation) {
            owner.settle(first, BodyState::Unknown);
            return false;
        }
        client.post_and_reset(&target, &body, Duration::from_micros(200));
    }
    if !client.connect() || (aborts > 0 && world.has_restarted_since(generation)) {
        owner.settle(first, if aborts > 0 { BodyState::Unknown } else { BodyState::Refused });
        return false;
    }
    let before = world.ledger.newest_id();
    let outcome = client.post(&target, &body);
    let state = judge(world, outcome, generation, before, has_own_ids);
    owner.settle(first, state);
    let counter = match state {
        BodyState::Acknowledged(_) => &world.counts.accepted,
        BodyState::Refused => &world.counts.refused,
        BodyState::Sent | BodyState::Unknown => &world.counts.unknown,
    };
    let counted = if matches!(state, BodyState::Acknowledged(_)) { count } else { 1 };
    counter.fetch_add(counted, std::sync::atomic::Ordering::Relaxed);
    matches!(state, BodyState::Acknowledged(_))
}

fn judge(world: &World, outcome: Outcome, generation: u32, before: u64, has_own_ids: bool) -> BodyState {
    match outcome {
        Outcome::Response(response) if response.status == 200 => {
            let id: Option<u64> = response.json()["id"].as_str().and_then(|id| id.parse().ok());
            if has_own_ids {
                return BodyState::Acknowledged(None);
            }
            match id {
                Some(id) if id > before => world.ledger.note_id(id),
                _ => {
                    world.ledger.fall_back_to(id.unwrap_or(0));
                    world.fail(format!("an event was assigned {id:?} after {before}"));
                }
            }
            BodyState::Acknowledged(id)
        }
        Outcome::Response(response) => {
            if response.status != 503 {
                world.fail(format!("the response to an event was {}", response.head));
            }
            BodyState::Refused
        }
        Outcome::Unsent => BodyState::Refused,
        Outcome::Broken(why) => {
            if !world.has_restarted_since(generation) {
                world.fail(format!("a publish broke: {why}"));
            }
            BodyState::Unknown
        }
    }
}
