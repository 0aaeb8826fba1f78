//! Subscribers that connect: all at once after an outage, with a position; one after another in place of others; and some that
//! never read.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Setting, fanout};
use crate::load::{Load, TIMEOUT};
use crate::procs::{self, Spent, Stopwatch};
use crate::servers::{self, Failure, Running};

/// Events of this size fill the sockets of subscribers that don't read.
const FILLING_SIZE: usize = 16 << 10;
const FILLING_EVENTS: usize = 128;
/// The pause between two checks of how many are stalled.
const PAUSE: Duration = Duration::from_millis(50);
/// Subscribers replaced at once.
const REPLACED: usize = 64;
/// One event is published per this many replacements, so that there is something to lose, but connecting still dominates.
const PUBLISHED_EVERY: usize = 64 * REPLACED;

/// The results of a storm or of churn.
pub struct Arrivals {
    /// Streams that began.
    pub opened: u64,
    pub delivered: u64,
    pub spent: Spent,
    pub private_bytes: u64,
}

impl Arrivals {
    /// Returns the server's CPU time per stream, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.opened)
    }
}

/// All subscribers connect at once and request everything that is retained: `burst` events.
pub fn storm(name: &str, setting: &Setting) -> Result<Arrivals, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut load = Load::new(&server, setting.topics(), setting.size)?;
    for topic in 0..load.topics() {
        for _ in 0..setting.burst {
            load.publish(topic, 1, Instant::now())?;
            load.run_until("a response", |load| load.outstanding() == 0)?;
        }
    }
    let stopwatch = Stopwatch::start(server.root.id());
    load.resume(setting.subscribers)?;
    let goal = setting.subscribers as u64 * u64::from(setting.burst);
    load.run_until("all that was missed", |load| load.counters.delivered >= goal)?;
    finish(&load, stopwatch.spent(), &server)
}

/// Subscribers are replaced by others as fast as possible, while events are published.
pub fn churn(name: &str, setting: &Setting) -> Result<Arrivals, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut load = Load::new(&server, setting.topics(), setting.size)?;
    load.subscribe(setting.subscribers)?;
    load.counters = Default::default();
    let (begin, stopwatch) = (Instant::now(), Stopwatch::start(server.root.id()));
    let mut places = (0..setting.subscribers).cycle();
    let mut replaced = 0;
    while begin.elapsed() < setting.duration {
        for place in places.by_ref().take(REPLACED.min(setting.subscribers)) {
            load.replace(place)?;
            replaced += 1;
        }
        if (replaced as usize).is_multiple_of(PUBLISHED_EVERY) {
            load.publish(0, 1, Instant::now())?;
        }
        load.run_until("streams to begin", |load| load.counters.opened >= replaced && load.outstanding() == 0)?;
    }
    finish(&load, stopwatch.spent(), &server)
}

fn finish(load: &Load<'_>, spent: Spent, server: &Running) -> Result<Arrivals, Failure> {
    load.counters.check()?;
    if load.counters.lost > 0 {
        return Err(format!("unexpected: {}", load.counters).into());
    }
    let (opened, delivered) = (load.counters.opened, load.counters.delivered);
    Ok(Arrivals { opened, delivered, spent, private_bytes: procs::private_bytes(server.root.id()) })
}

/// Measures the latency of subscribers that read, next to `stalled` others that never do.
pub fn beside_stalled(name: &str, setting: &Setting, stalled: usize) -> Result<fanout::Fanout, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut mute = Load::new(&server, setting.topics(), FILLING_SIZE)?;
    mute.stall(stalled)?;
    for _ in 0..FILLING_EVENTS {
        mute.publish(0, 1, Instant::now())?;
        mute.run_until("a response", |load| load.outstanding() == 0)?;
    }
    if name == "esker" {
        wait_for_stalled(&server, stalled)?;
    }
    fanout::measure(&server, setting)
}

/// Only the broker reports its stalled subscribers. The other servers' sockets are as full, because they get as many bytes.
fn wait_for_stalled(server: &Running, asked: usize) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let stalled = servers::esker::stats(server)?("subscribers_stalled");
        if stalled == asked as f64 {
            return Ok(());
        }
        if begin.elapsed() > TIMEOUT {
            return Err(format!("{stalled} of {asked} are stalled").into());
        }
        sleep(PAUSE);
    }
}
