//! Publishers at any broker. An event with an id of its own is repeated until its outcome is known. The ledger notes
//! everything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE, Response};
use crate::engine::ledger::{LARGE, State, TOPICS, topic};
use crate::engine::world::World;

pub const PUBLISHERS: usize = 8;
/// The mean interval between two bodies of a publisher.
const PAUSE: Duration = Duration::from_millis(60);
/// After a refusal or a broken connection.
const RETRY: Duration = Duration::from_millis(50);
/// The number of requests after which a client goes on at the next broker.
pub const PER_CONNECTION: u64 = 16;
/// Bytes of a large event. Together they are more than the kernel buffers for a subscriber that does not read.
const LARGE_BYTES: usize = 30_000;

/// The answer to a publish or an insert.
#[derive(Debug)]
pub enum Answer {
    Accepted(Response),
    /// Status 503: nothing came of it.
    Refused,
    /// Status 504, or no response.
    Unknown,
    /// It was never sent.
    Unsent,
}

/// Events that are sent together.
struct Body {
    topic: usize,
    count: u64,
    has_own_ids: bool,
    padding: usize,
}

/// Publishes until the soak is over. Odd ones use the balancer.
pub fn publish_steadily(world: &World, index: usize) {
    let mut random = world.random(&format!("publisher {index}"));
    let balanced = world.cluster.through_balancer();
    let mut sent = 0;
    world.work(
        &mut world.publisher((index % 2 == 1).then_some(&balanced)),
        |client| {
            let count = if random.u8(..) < 50 { random.u64(2..6) } else { 1 };
            let has_own_ids = index % 4 < 2;
            let body = Body { topic: random.usize(..LARGE), count, has_own_ids, padding: random.usize(..200) };
            publish(world, client, &body);
            sent += 1;
            if sent % PER_CONNECTION == 0 {
                client.close();
            }
            std::thread::sleep(PAUSE.mul_f64(random.f64() * 2.0));
        },
        Client::close,
    );
}

/// Publishes large events until the end of a phase.
pub fn flood(world: &World, until: Instant) {
    let mut client = world.publisher(None);
    while Instant::now() < until {
        publish(world, &mut client, &Body { topic: LARGE, count: 1, has_own_ids: false, padding: LARGE_BYTES });
        std::thread::sleep(PAUSE / 2);
    }
}

/// Publishes one more event on each topic, which must be accepted in the end. A follower that has it has everything.
pub fn publish_surely(world: &World) {
    let (begin, mut client) = (Instant::now(), world.publisher(None));
    for topic in 0..TOPICS {
        let accepted = loop {
            let body = Body { topic, count: 1, has_own_ids: false, padding: 0 };
            if let Some(number) = publish(world, &mut client, &body) {
                break number;
            }
            if begin.elapsed() > PATIENCE {
                return world.fail("the brokers do not accept events again");
            }
            std::thread::sleep(RETRY);
        };
        world.ledger.end_with(accepted);
    }
}

/// Publishes a body, and repeats it while its outcome is unknown if it has own ids. Returns the first number if it was accepted.
fn publish(world: &World, client: &mut Client<'_>, body: &Body) -> Option<u64> {
    let first = world.ledger.begin(body.topic, body.count, body.has_own_ids);
    let (text, begin) = (body.text(first), Instant::now());
    let (before, mut is_repeated) = (world.ledger.newest_id(), false);
    let (state, id) = loop {
        match ask(world, client, &format!("/publish/{}", topic(body.topic)), &text) {
            Answer::Accepted(response) => {
                let id = first_id(world, &response, body.count);
                // A repeated body may have been accepted long ago.
                if !is_repeated && id <= before {
                    world.fail(format!("event {first} was assigned the id {id}, after {before} was acknowledged"));
                }
                world.counts.accepted.fetch_add(1, Relaxed);
                break (State::Acknowledged, Some(id));
            }
            // After an attempt whose outcome is unknown, a refusal says nothing about that one.
            Answer::Refused | Answer::Unsent if !is_repeated => break (State::Refused, None),
            Answer::Unknown if !body.has_own_ids => break (State::Unknown, None),
            Answer::Refused | Answer::Unsent | Answer::Unknown => is_repeated = true,
        }
        if begin.elapsed() > 2 * PATIENCE {
            world.fail(format!("the outcome of event {first} is never known"));
            break (State::Unknown, None);
        }
        std::thread::sleep(RETRY);
    };
    if let Err(words) = world.ledger.settle(first, body.count, state, id) {
        world.fail(words);
    }
    if state == State::Refused {
        std::thread::sleep(RETRY);
    }
    (state == State::Acknowledged).then_some(first)
}

/// Sends a request, and counts how it ends. Reports what the contract does not allow.
pub fn ask(world: &World, client: &mut Client<'_>, target: &str, body: &str) -> Answer {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Relaxed);
    let quiet = world.cluster.quiet_generation();
    match client.post(target, body) {
        Outcome::Response(response) => match response.status {
            200 => return Answer::Accepted(response),
            503 => {
                if !response.head.contains("\r\nRetry-After: ") {
                    world.fail(format!("no Retry-After in {}", response.head));
                }
                count(&world.counts.refused);
                return Answer::Refused;
            }
            504 => count(&world.counts.timeouts),
            _ => {
                let text = String::from_utf8_lossy(&response.body).into_owned();
                world.fail(format!("the response to POST {target} was {} {text}", response.head));
                return Answer::Refused;
            }
        },
        Outcome::Unsent => return Answer::Unsent,
        Outcome::Broken(why) => {
            if !world.cluster.may_break(quiet) {
                world.fail(format!("POST {target} broke: {why}"));
            }
            count(&world.counts.broken)
        }
    };
    Answer::Unknown
}

/// Returns the id of the body's first event.
fn first_id(world: &World, response: &Response, count: u64) -> u64 {
    let json = response.json();
    let id: u64 = json["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0);
    // If the events are not new, the response has the first one's id, otherwise the last one's.
    if json["duplicate"] == true {
        world.counts.duplicates.fetch_add(1, Relaxed);
        return id;
    }
    if id < count || json["events"] != count {
        world.fail(format!("the response to {count} events was {json}"));
    }
    id.saturating_sub(count - 1)
}

impl Body {
    fn text(&self, first: u64) -> String {
        let padding = "x".repeat(self.padding);
        let event = |number| {
            let id = if self.has_own_ids { format!("id: own-{number}\n") } else { String::new() };
            format!("data: {number} {padding}\n{id}\n")
        };
        (first..first + self.count).map(event).collect()
    }
}
