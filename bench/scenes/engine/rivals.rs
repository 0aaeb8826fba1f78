//! Three brokers on one engine, and three nginx with nchan on a redis-server that was started in the same way.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::latency::{self, Latency, RATE};
use super::{Cluster, SEVERAL, Setting};
use crate::load::{self, Histogram};
use crate::scenes::fanout::{self, Fanout};
use crate::servers::redis::Redis;
use crate::servers::{Failure, esker, nchan};

/// The servers that are compared, in this order.
pub const KINDS: [Kind; 2] = [Kind::Esker, Kind::Nchan];

/// A server whose nodes can share a redis-server.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Esker,
    Nchan,
}

impl Kind {
    /// Returns the name, as `--servers` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Esker => "esker",
            Self::Nchan => "nchan",
        }
    }

    /// Starts an engine and three nodes that retain this many events of a topic, or as many as Esker does by default.
    pub fn start(self, history: Option<usize>, setting: &Setting) -> Result<Cluster, Failure> {
        let options = history.map(|history| ["--history".to_owned(), history.to_string()]);
        let options: Vec<&str> = options.iter().flatten().map(String::as_str).collect();
        let cores = &setting.server_cores;
        Cluster::start_with(SEVERAL, setting, |engine| match self {
            Self::Esker => esker::start_on_engine(engine, &options, cores),
            Self::Nchan => nchan::start_on_redis(engine, history, cores),
        })
    }
}

/// Events that reach the subscribers of all nodes.
pub struct Delivery {
    /// The server's version.
    pub version: String,
    /// The CPU time in it is that of all nodes together.
    pub fanout: Fanout,
    /// The CPU time of the engine for an event, in microseconds.
    pub engine_micros: f64,
}

/// Measures one event at a time, each published at another node than the one before.
pub fn delivery(kind: Kind, setting: &Setting) -> Result<Delivery, Failure> {
    let setting =
        Setting { subscribers: SEVERAL * setting.subscribers, topics: Some(1), rate: None, ..setting.clone() };
    let cluster = kind.start(None, &setting)?;
    let mut load = fanout::warm(&cluster.brokers, &setting)?;
    let engine = cluster.engine.stopwatch();
    let fanout = fanout::measure_warm(&mut load, &cluster.brokers, &setting)?;
    let engine = engine.spent();
    if kind == Kind::Esker && fanout.lost > 0 {
        return Err(format!("{} of {} events were lost", fanout.lost, fanout.lost + fanout.delivered).into());
    }
    let events = (fanout.delivered + fanout.lost) / setting.subscribers as u64;
    Ok(Delivery { version: cluster.brokers[0].version.clone(), fanout, engine_micros: engine.micros_each(events) })
}

/// Measures latency from a publisher at one node to a single subscriber at another one.
pub fn latency(kind: Kind, setting: &Setting) -> Result<Latency, Failure> {
    latency::elsewhere(&mut kind.start(None, setting)?, setting)
}

/// Returns how long an engine without nodes takes to respond to a PING, and to an event that it appends and syncs, at the
/// same rate.
pub fn engine_alone(setting: &Setting) -> Result<[Latency; 2], Failure> {
    let engine = Redis::start(&setting.engine_cores)?;
    let (mut connection, data) = (engine.connect()?, load::data(0, setting.size));
    let commands: [&[&str]; 2] = [&["PING"], &["XADD", "events", "*", "b", &data]];
    let mut times = [Histogram::default(), Histogram::default()];
    let pause = Duration::from_secs_f64(0.5 / setting.rate.unwrap_or(RATE));
    let begin = Instant::now();
    while begin.elapsed() < setting.duration {
        for (words, time) in commands.iter().zip(&mut times) {
            sleep(pause);
            let sent = Instant::now();
            redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut connection)?;
            time.add(sent.elapsed().as_nanos() as u64);
        }
    }
    Ok(times.map(|time| [0.5, 0.99].map(|share| time.quantile(share))))
}
