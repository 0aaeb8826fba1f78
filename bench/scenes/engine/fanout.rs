//! Events published at one broker after the other, to subscribers at all of them: each gets all events, in the same order.

use std::time::{Duration, Instant};

use super::{Cluster, SEVERAL, Setting};
use crate::load::Load;
use crate::servers::{self, Failure, Running};

/// Events per second, unless the command line says otherwise.
const RATE: f64 = 1.0;
/// Events at least, unless the command line says otherwise.
const EVENTS: f64 = 10.0;

/// The results of a round.
pub struct Fanout {
    pub delivered: u64,
    /// Nanoseconds from due to read.
    pub p50: u64,
    pub p99: u64,
}

/// Measures one broker without an engine, with the subscribers of all.
pub fn local(setting: &Setting) -> Result<Fanout, Failure> {
    drive(&[servers::start("esker", &setting.server_cores)?], setting)
}

/// Measures several brokers on one engine.
pub fn shared(setting: &Setting) -> Result<Fanout, Failure> {
    drive(&Cluster::start(SEVERAL, setting)?.brokers, setting)
}

fn drive(servers: &[Running], setting: &Setting) -> Result<Fanout, Failure> {
    let rate = setting.rate.unwrap_or(RATE);
    let events = setting.rate.map_or(EVENTS, |rate| rate * setting.duration.as_secs_f64()) as u32;
    let mut load = Load::across(servers, 1, setting.size)?;
    load.subscribe(SEVERAL * setting.subscribers)?;
    load.counters = Default::default();
    let begin = Instant::now();
    let mut goal = 0;
    for index in 0..events {
        let due = begin + Duration::from_secs_f64(f64::from(index) / rate);
        load.run_for(due.saturating_duration_since(Instant::now()))?;
        goal += load.publish(0, 1, due)?;
        // Only so is the order known in which the brokers publish.
        load.run_until("a response", |load| load.outstanding() == 0)?;
    }
    load.run_until("the last events", |load| load.counters.delivered + load.counters.lost >= goal)?;
    load.counters.check()?;
    if load.counters.lost > 0 {
        return Err(format!("unexpected: {}", load.counters).into());
    }
    let [p50, p99] = [0.5, 0.99].map(|share| load.counters.latency.quantile(share));
    Ok(Fanout { delivered: load.counters.delivered, p50, p99 })
}
