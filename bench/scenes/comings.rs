//! Subscribers that come: all at once with a position, after an outage; one after another in the place of those that go;
//! and those that come and never read.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Setting, fanout};
use crate::load::{Load, PATIENCE};
use crate::procs::{self, Spent, Stopwatch};
use crate::servers::{self, Failure, Running};

/// Events of this size fill the sockets of those that don't read.
const FILLING_SIZE: usize = 16 << 10;
const FILLING_EVENTS: usize = 128;
/// Between two looks at how many are stalled.
const PAUSE: Duration = Duration::from_millis(50);
/// Subscribers that are replaced at once.
const REPLACED: usize = 64;
/// An event for as many that came: there is something to lose, and what is measured is still the coming.
const PUBLISHED_EVERY: usize = 64 * REPLACED;

/// What a storm or a coming and going was like.
pub struct Comings {
    /// Streams that began.
    pub opened: u64,
    pub delivered: u64,
    pub spent: Spent,
    pub private_bytes: u64,
}

impl Comings {
    /// The server's processor time per stream, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.opened)
    }
}

/// All subscribers come at once and ask for all that is retained: `burst` events.
pub fn storm(name: &str, setting: &Setting) -> Result<Comings, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut load = Load::new(&server, setting.topics, setting.size)?;
    for topic in 0..load.topics() {
        for _ in 0..setting.burst {
            load.publish(topic, 1, Instant::now())?;
            load.turn_until("an answer", |load| load.outstanding() == 0)?;
        }
    }
    let stopwatch = Stopwatch::start(server.root.id());
    load.resume(setting.subscribers)?;
    let goal = setting.subscribers as u64 * u64::from(setting.burst);
    load.turn_until("all that was missed", |load| load.tally.delivered >= goal)?;
    finish(&load, stopwatch.spent(), &server)
}

/// Subscribers go and others come in their place, as fast as they can, while events are published.
pub fn churn(name: &str, setting: &Setting) -> Result<Comings, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut load = Load::new(&server, setting.topics, setting.size)?;
    load.subscribe(setting.subscribers)?;
    load.tally = Default::default();
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
        load.turn_until("streams to begin", |load| load.tally.opened >= replaced && load.outstanding() == 0)?;
    }
    finish(&load, stopwatch.spent(), &server)
}

fn finish(load: &Load<'_>, spent: Spent, server: &Running) -> Result<Comings, Failure> {
    load.tally.check()?;
    if load.tally.lost > 0 {
        return Err(format!("this should not be: {}", load.tally).into());
    }
    let (opened, delivered) = (load.tally.opened, load.tally.delivered);
    Ok(Comings { opened, delivered, spent, private_bytes: procs::private_bytes(server.root.id()) })
}

/// The latency of those that read, beside `stalled` that never do.
pub fn beside_stalled(name: &str, setting: &Setting, stalled: usize) -> Result<fanout::Fanout, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let mut mute = Load::new(&server, setting.topics, FILLING_SIZE)?;
    mute.stall(stalled)?;
    for _ in 0..FILLING_EVENTS {
        mute.publish(0, 1, Instant::now())?;
        mute.turn_until("an answer", |load| load.outstanding() == 0)?;
    }
    if name == "esker" {
        wait_for_stalled(&server, stalled)?;
    }
    fanout::measure(&server, setting)
}

/// Only the broker tells how many it has; the others' sockets are as full, for they get as many bytes.
fn wait_for_stalled(server: &Running, asked: usize) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        let stalled = servers::esker::stats(server)?("subscribers_stalled");
        if stalled == asked as f64 {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("{stalled} of {asked} are stalled").into());
        }
        sleep(PAUSE);
    }
}
