//! The CPU time of a broker for events that were published at another one and that nobody subscribes to here, compared with a
//! publish of the same events at a broker without an engine.

use super::{Cluster, PER_ENTRY, Setting, TOPIC, body};
use crate::load::Requesters;
use crate::procs::Stopwatch;
use crate::scenes::requests::WARMING;
use crate::servers::{self, Failure};

/// CPU time per event, in microseconds.
pub struct Following {
    /// A broker without an engine.
    pub local: f64,
    /// The broker that publishes.
    pub publishing: f64,
    /// The broker that only follows.
    pub following: f64,
    pub engine: f64,
    /// Events per second of the brokers with an engine.
    pub rate: f64,
}

/// Runs one round with new servers.
pub fn round(setting: &Setting) -> Result<Following, Failure> {
    let request = |_| body(TOPIC, 0..PER_ENTRY, setting.size, false);
    let local = local(setting, request)?;
    let cluster = Cluster::start(2, setting)?;
    let mut requesters = Requesters::connect(&cluster.addresses()[..1], 1, request)?;
    requesters.run(WARMING)?;
    let (engine, stopwatches) = (cluster.engine.stopwatch(), cluster.stopwatches());
    let events = requesters.run(setting.duration)? * PER_ENTRY as u64;
    let (engine, spent) = (engine.spent(), stopwatches.iter().map(Stopwatch::spent).collect::<Vec<_>>());
    // The follower must have done the work that was measured.
    cluster.followed()?;
    Ok(Following {
        local,
        publishing: spent[0].micros_each(events),
        following: spent[1].micros_each(events),
        engine: engine.micros_each(events),
        rate: engine.rate(events),
    })
}

fn local(setting: &Setting, request: impl FnMut(u64) -> String) -> Result<f64, Failure> {
    let server = servers::start("esker", &setting.server_cores)?;
    let mut requesters = Requesters::connect(&[server.publish_at], 1, request)?;
    requesters.run(WARMING)?;
    let stopwatch = Stopwatch::start(server.root.id());
    let events = requesters.run(setting.duration)? * PER_ENTRY as u64;
    Ok(stopwatch.spent().micros_each(events))
}
