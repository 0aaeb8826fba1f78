//! What an event costs the engine: memory, disk, and CPU time.

use super::{Cluster, Setting, fill};
use crate::servers::Failure;

/// The cost of an event; bytes each.
pub struct Cost {
    /// As the broker encodes it.
    pub encoded: f64,
    /// In the engine's memory.
    pub memory: f64,
    /// In its append-only file.
    pub file: f64,
    /// CPU time of the engine per entry, in microseconds.
    pub micros_per_entry: f64,
}

/// Publishes events with this many in each entry, with or without ids of the publisher.
pub fn measure(setting: &Setting, events: usize, per_entry: usize, has_ids: bool) -> Result<Cost, Failure> {
    let cluster = Cluster::start(1, setting)?;
    let engine = &cluster.engine;
    let (newest, stopwatch) = (engine.newest()?, engine.stopwatch());
    let [memory, file] = ["used_memory", "aof_current_size"].map(|name| engine.info(name));
    let (memory, file) = (memory?, file?);
    fill(&cluster.brokers[0], events, per_entry, setting.size, has_ids)?;
    let spent = stopwatch.spent();
    let each = |before: f64, name| Ok::<_, Failure>((engine.info(name)? - before) / events as f64);
    let (memory, file) = (each(memory, "used_memory")?, each(file, "aof_current_size")?);
    let entries = engine.entries_after(&newest)?;
    let appended: u64 = entries.iter().map(|entry| entry.events).sum();
    if appended != events as u64 {
        return Err(format!("the log has {appended} of {events} events").into());
    }
    let encoded = entries.iter().map(|entry| entry.bytes).sum::<usize>() as f64 / events as f64;
    Ok(Cost { encoded, memory, file, micros_per_entry: spent.micros_each(entries.len() as u64) })
}
