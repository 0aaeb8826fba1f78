//! Publishes at one or several brokers, compared with a bare append and fdatasync of exactly the entries that they became.

use std::time::Duration;

use super::{Cluster, Setting, body};
use crate::disk::Appends;
use crate::load::Requesters;
use crate::scenes::requests::WARMING;
use crate::servers::Failure;

/// Publishing and the disk alone take turns this often in a round, because the speed of a disk changes from second to second.
const TURNS: u32 = 8;

/// What is published where.
#[derive(Clone, Copy)]
pub struct Publishing {
    pub brokers: usize,
    /// Connections that publish, spread over the brokers.
    pub publishers: usize,
    /// Events in a request.
    pub per_request: usize,
}

/// The results of a round.
#[derive(Default)]
pub struct Appending {
    events: u64,
    entries: u64,
    elapsed: Duration,
    brokers: Duration,
    engine: Duration,
    floor_events: u64,
    floor_elapsed: Duration,
}

impl Appending {
    /// Returns events per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the number of events per entry.
    pub fn per_entry(&self) -> f64 {
        self.events as f64 / self.entries as f64
    }

    /// Returns the events per second that the disk alone can take in the same entries.
    pub fn floor(&self) -> f64 {
        self.floor_events as f64 / self.floor_elapsed.as_secs_f64()
    }

    /// Returns the CPU time per event of all brokers and of the engine, in microseconds.
    pub fn micros_each(&self) -> [f64; 2] {
        [self.brokers, self.engine].map(|cpu| cpu.as_secs_f64() * 1e6 / self.events as f64)
    }
}

/// Runs one round with a new engine and new brokers, in turns with the disk alone.
pub fn round(publishing: Publishing, setting: &Setting) -> Result<Appending, Failure> {
    let Publishing { brokers, publishers, per_request } = publishing;
    let cluster = Cluster::start(brokers, setting)?;
    let request = |number: u64| {
        let topic = format!("benchmark{}", number as usize % publishers);
        body(&topic, 0..per_request, setting.size, false)
    };
    let mut requesters = Requesters::connect(&cluster.addresses(), publishers, request)?;
    requesters.run(WARMING)?;
    let mut disk = Appends::create(&cluster.engine.scratch.path().join("floor"))?;
    let mut round = Appending::default();
    for _ in 0..TURNS {
        turn(&cluster, &mut requesters, &mut disk, setting.duration / TURNS, &mut round)?;
    }
    Ok(round)
}

fn turn(
    cluster: &Cluster,
    requesters: &mut Requesters<impl FnMut(u64) -> String>,
    disk: &mut Appends,
    duration: Duration,
    round: &mut Appending,
) -> Result<(), Failure> {
    let newest = cluster.engine.newest()?;
    let (stopwatches, engine) = (cluster.stopwatches(), cluster.engine.stopwatch());
    requesters.run(duration)?;
    let engine = engine.spent();
    round.elapsed += engine.elapsed;
    round.engine += engine.cpu.total;
    round.brokers += stopwatches.iter().map(|stopwatch| stopwatch.spent().cpu.total).sum::<Duration>();
    let entries = cluster.engine.entries_after(&newest)?;
    round.entries += entries.len() as u64;
    round.events += entries.iter().map(|entry| entry.events).sum::<u64>();
    let (elapsed, count) = (disk.elapsed, disk.count);
    disk.run(entries.iter().map(|entry| entry.bytes).cycle(), duration / 2)?;
    let appended = entries.iter().cycle().take(disk.count - count);
    round.floor_events += appended.map(|entry| entry.events).sum::<u64>();
    round.floor_elapsed += disk.elapsed - elapsed;
    Ok(())
}
