//! The time from when an event was due at a publisher until a subscriber has read it: at a broker without an engine, at the
//! broker that published it, and at another broker.

use std::iter;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Cluster, Setting};
use crate::disk;
use crate::scenes::fanout;
use crate::servers::{self, Failure, Scratch};

/// Events per second, unless the command line says otherwise.
pub const RATE: f64 = 100.0;

/// Nanoseconds: median and 99th percentile.
pub type Latency = [u64; 2];

/// Returns the time of an append and fdatasync of one event, at the same rate.
pub fn disk(setting: &Setting) -> Result<Latency, Failure> {
    let scratch = Scratch::new()?;
    let mut appends = disk::Appends::create(&scratch.path().join("floor"))?;
    let pause = Duration::from_secs_f64(1.0 / setting.rate.unwrap_or(RATE));
    let begin = Instant::now();
    while begin.elapsed() < setting.duration {
        appends.run(iter::once(setting.size), setting.duration)?;
        sleep(pause);
    }
    Ok([0.5, 0.99].map(|share| appends.latency.quantile(share)))
}

/// Measures at a broker without an engine.
pub fn local(setting: &Setting) -> Result<Latency, Failure> {
    let server = servers::start("esker", &setting.server_cores)?;
    measured(&fanout::measure(&server, &calm(setting))?)
}

/// Measures at one of two brokers, where the event was published or at the other one.
pub fn shared(setting: &Setting, is_other: bool) -> Result<Latency, Failure> {
    let mut cluster = Cluster::start(2, setting)?;
    if is_other {
        return elsewhere(&mut cluster, setting);
    }
    measured(&fanout::measure(&cluster.brokers[0], &calm(setting))?)
}

/// Measures at the first node of a cluster, with events that are published at the second one.
pub fn elsewhere(cluster: &mut Cluster, setting: &Setting) -> Result<Latency, Failure> {
    cluster.brokers[0].publish_at = cluster.brokers[1].publish_at;
    measured(&fanout::measure(&cluster.brokers[0], &calm(setting))?)
}

fn measured(round: &fanout::Fanout) -> Result<Latency, Failure> {
    if round.lost > 0 {
        return Err(format!("{} of {} events were lost", round.lost, round.lost + round.delivered).into());
    }
    Ok([round.p50, round.p99])
}

/// One subscriber, and events so rare that none waits for another.
fn calm(setting: &Setting) -> Setting {
    Setting { subscribers: 1, topics: Some(1), burst: 1, rate: setting.rate.or(Some(RATE)), ..setting.clone() }
}
