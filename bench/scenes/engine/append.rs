//! Publishes at one or several brokers, compared with a bare append and fdatasync of exactly the entries that they became.

use super::{Cluster, Setting, body};
use crate::disk;
use crate::load::Requesters;
use crate::procs::Stopwatch;
use crate::scenes::requests::WARMING;
use crate::servers::Failure;

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
pub struct Appending {
    /// Events per second.
    pub rate: f64,
    pub per_entry: f64,
    /// Events per second that the disk alone can take in the same entries.
    pub floor: f64,
    /// CPU time of all brokers per event, in microseconds.
    pub broker_micros: f64,
    /// CPU time of the engine per event, in microseconds.
    pub engine_micros: f64,
}

/// Runs one round with a new engine and new brokers, and then the disk alone.
pub fn round(publishing: Publishing, setting: &Setting) -> Result<Appending, Failure> {
    let Publishing { brokers, publishers, per_request } = publishing;
    let cluster = Cluster::start(brokers, setting)?;
    let request = |number: u64| {
        let topic = format!("benchmark{}", number as usize % publishers);
        body(&topic, 0..per_request, setting.size, false)
    };
    let mut requesters = Requesters::start(&cluster.addresses(), publishers, request)?;
    requesters.run(WARMING)?;
    let before = cluster.engine.newest()?;
    let (engine, stopwatches) = (Stopwatch::start(cluster.engine.root.id()), cluster.stopwatches());
    let events = requesters.run(setting.duration)? * per_request as u64;
    let (engine, spent) = (engine.spent(), stopwatches.iter().map(Stopwatch::spent).collect::<Vec<_>>());
    let entries = cluster.engine.entries_after(&before)?;
    if events == 0 || entries.is_empty() {
        return Err("no response arrived".into());
    }
    let sizes = entries.iter().map(|entry| entry.bytes).cycle();
    let floor = disk::append(&cluster.engine.scratch.path().join("floor"), sizes, setting.duration / 2)?;
    let floor_events: u64 = entries.iter().map(|entry| entry.events).cycle().take(floor.count).sum();
    let appended: u64 = entries.iter().map(|entry| entry.events).sum();
    Ok(Appending {
        rate: engine.rate(events),
        per_entry: appended as f64 / entries.len() as f64,
        floor: floor_events as f64 / floor.elapsed.as_secs_f64(),
        broker_micros: spent.iter().map(|spent| spent.micros_each(events)).sum(),
        engine_micros: engine.micros_each(events),
    })
}
