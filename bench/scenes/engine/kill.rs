//! The engine is killed while events are published at all nodes, and is started again: what becomes of the events, and how long
//! the subscribers wait.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, sleep};
use std::time::{Duration, Instant};

use super::rivals::Kind;
use super::{Cluster, SEVERAL, Setting, TOPIC};
use crate::load::{self, Browser, Received, TIMEOUT};
use crate::servers::redis::Redis;
use crate::servers::{Dialect, Failure};

/// Subscribers at each node.
pub const SUBSCRIBERS: usize = 30;
/// Events per second.
pub const RATE: f64 = 200.0;
/// The time from the first event until the engine is killed, how long it is away, and how long events are published after that.
const BEFORE: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(2);
/// With its default settings, nchan gives up its first attempt to connect only after 10 s.
const AFTER: Duration = Duration::from_secs(15);
/// Events that a topic retains: more than are published, so that only a bug can lose one.
const HISTORY: usize = 10_000;
/// The wait after the last stream has begun: some servers send the response head before they subscribe.
const SETTLING: Duration = Duration::from_millis(500);
/// The stack of a thread that publishes one event.
const STACK: usize = 128 << 10;
/// The pause between two checks, each of which takes milliseconds.
const PAUSE: Duration = Duration::from_millis(200);

/// What became of the events.
pub struct Toll {
    pub acknowledged: usize,
    /// Acknowledged events that at least one subscriber has never got.
    pub lost: usize,
    /// Deliveries of an event to a subscriber that already had it.
    pub duplicated: u64,
    /// Publishes with a response other than success, or without one.
    pub refused: usize,
    /// Refused events that at least one subscriber got.
    pub delivered_anyway: usize,
    /// Gaps that were reported to subscribers.
    pub gaps: u64,
    /// Streams that ended and were opened again.
    pub reopened: u64,
    /// The longest time that a subscriber spent without an event.
    pub silence: Duration,
}

/// Runs one round with a new engine and new nodes.
pub fn round(kind: Kind, setting: &Setting) -> Result<Toll, Failure> {
    let Cluster { brokers, mut engine } = kind.start(Some(HISTORY), setting)?;
    let dialect = &brokers[0].dialect;
    let all: Vec<Mutex<Received>> = (0..SEVERAL * SUBSCRIBERS).map(|_| Mutex::default()).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (received, node) in all.iter().zip(brokers.iter().cycle()) {
            let mut browser = Browser::new(node.subscribe_at, (dialect.subscribe)(TOPIC), received);
            let stop = &stop;
            scope.spawn(move || browser.run(stop));
        }
        let nodes: Vec<SocketAddr> = brokers.iter().map(|node| node.publish_at).collect();
        let toll = measure(&mut engine, &nodes, dialect, &all, setting.size);
        stop.store(true, Ordering::Relaxed);
        toll
    })
}

fn measure(
    engine: &mut Redis,
    nodes: &[SocketAddr],
    dialect: &Dialect,
    all: &[Mutex<Received>],
    size: usize,
) -> Result<Toll, Failure> {
    if !wait(|| all.iter().all(|received| lock(received).opened > 0)) {
        return Err("not all streams have begun".into());
    }
    sleep(SETTLING);
    let published = (RATE * (BEFORE + AWAY + AFTER).as_secs_f64()) as u32;
    let (acknowledged, end) = thread::scope(|scope| {
        let outage = scope.spawn(|| outage(engine).map_err(|failure| failure.to_string()));
        let (acknowledge, acknowledged) = mpsc::channel();
        let begin = Instant::now();
        for number in 0..published {
            let due = begin + Duration::from_secs_f64(f64::from(number) / RATE);
            sleep(due.saturating_duration_since(Instant::now()));
            let node = nodes[number as usize % nodes.len()];
            let request = (dialect.publish)(TOPIC, &load::data(number, size));
            publish(scope, node, request, number, acknowledge.clone())?;
        }
        drop(acknowledge);
        let end = Instant::now();
        outage.join().map_err(|_| "a thread panicked")??;
        // Ends when all threads have.
        Ok::<_, Failure>((acknowledged.iter().collect::<HashSet<u32>>(), end))
    })?;
    // What is missing after that is lost.
    wait(|| all.iter().all(|received| has_all(&lock(received), &acknowledged)));
    Ok(count(published, &acknowledged, all, end))
}

/// Publishes an event on a new connection, in a new thread, so that a server that takes its time does not delay the next event.
fn publish<'scope>(
    scope: &'scope Scope<'scope, '_>,
    node: SocketAddr,
    request: String,
    number: u32,
    acknowledge: mpsc::Sender<u32>,
) -> Result<(), Failure> {
    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
        if load::send_request(node, &request).is_ok() {
            // The receiver is gone only if the measurement has failed.
            let _ = acknowledge.send(number);
        }
    })?;
    Ok(())
}

fn outage(engine: &mut Redis) -> Result<(), Failure> {
    sleep(BEFORE);
    engine.kill()?;
    sleep(AWAY);
    engine.restart()
}

/// Waits until the condition is true, for at most [`TIMEOUT`]. Returns whether it became true.
fn wait(mut is_true: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT {
        if is_true() {
            return true;
        }
        sleep(PAUSE);
    }
    false
}

fn has(received: &Received, number: u32) -> bool {
    received.times.get(number as usize).is_some_and(|times| *times > 0)
}

fn has_all(received: &Received, numbers: &HashSet<u32>) -> bool {
    numbers.iter().all(|number| has(received, *number))
}

/// Counts what became of the events, of which the last was published at `end`.
fn count(published: u32, acknowledged: &HashSet<u32>, all: &[Mutex<Received>], end: Instant) -> Toll {
    let all: Vec<_> = all.iter().map(lock).collect();
    let lost = acknowledged.iter().filter(|number| !all.iter().all(|received| has(received, **number)));
    let refused = (0..published).filter(|number| !acknowledged.contains(number));
    let delivered_anyway = refused.clone().filter(|number| all.iter().any(|received| has(received, *number)));
    let again = all.iter().flat_map(|received| &received.times).map(|times| u64::from(times.saturating_sub(1)));
    let silence = |received: &Received| match received.newest {
        Some(newest) => received.silence.max(end.saturating_duration_since(newest)),
        None => BEFORE + AWAY + AFTER,
    };
    Toll {
        acknowledged: acknowledged.len(),
        lost: lost.count(),
        duplicated: again.sum(),
        refused: refused.count(),
        delivered_anyway: delivered_anyway.count(),
        gaps: all.iter().map(|received| received.gaps).sum(),
        reopened: all.iter().map(|received| received.opened.saturating_sub(1)).sum(),
        silence: all.iter().map(|received| silence(received)).max().unwrap_or_default(),
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}
