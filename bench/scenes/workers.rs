//! What a second worker adds: the same load on a broker with one worker and with two. The broker and the load share all cores,
//! so that operations per second depend on both; the broker's CPU time per operation shows what sharing costs.

use super::{Setting, fanout, requests};
use crate::procs::Spent;
use crate::servers::{self, Failure, Running, Scratch, esker};

/// Subscribers of each topic, if events are published to several.
const PER_TOPIC: usize = 10;

/// What is done to the broker.
#[derive(Clone, Copy)]
pub enum Part {
    /// Events to one topic with all subscribers. An operation is a delivery.
    Fanout,
    /// Publishes without a subscriber, on this many connections.
    Publish(usize),
    /// This many publishes in flight, to topics with few subscribers. An operation is a publish with its deliveries.
    Mixed(usize),
}

impl Part {
    /// Returns all parts: the fan-out, and the others once for each number of connections.
    pub fn all(setting: &Setting) -> Vec<Self> {
        let connections = || setting.connections.iter().copied();
        [Self::Fanout]
            .into_iter()
            .chain(connections().map(Self::Publish))
            .chain(connections().map(Self::Mixed))
            .collect()
    }

    /// Returns its name.
    pub fn name(self) -> String {
        match self {
            Self::Fanout => "fan-out".to_owned(),
            Self::Publish(connections) => format!("publish {connections}"),
            Self::Mixed(connections) => format!("mixed {connections}"),
        }
    }
}

/// The results of a round.
pub struct Round {
    pub operations: u64,
    pub spent: Spent,
    /// How often threads waited for the hub's lock, for 1 000 requests since the start.
    pub lock_waits: f64,
    /// How often workers were woken, for 1 000 requests since the start.
    pub wakeups: f64,
}

impl Round {
    /// Returns operations per second.
    pub fn rate(&self) -> f64 {
        self.spent.rate(self.operations)
    }

    /// Returns the broker's CPU time per operation, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.operations)
    }
}

/// Runs one round with a new broker that has this many workers.
pub fn round(part: Part, name: &str, workers: usize, setting: &Setting) -> Result<Round, Failure> {
    let (program, scratch) = (servers::build(name)?, Scratch::new()?);
    let options = ["--threads", &workers.to_string()];
    let server = esker::start_build_on(program, &scratch.path().join("data"), &options, &setting.server_cores)?;
    let (operations, spent) = measure(part, &server, setting)?;
    let stats = esker::stats(&server)?;
    let [lock_waits, wakeups] = ["hub_lock_waits", "worker_wakeups"].map(|name| stats(name) * 1e3 / stats("requests"));
    Ok(Round { operations, spent, lock_waits, wakeups })
}

fn measure(part: Part, server: &Running, setting: &Setting) -> Result<(u64, Spent), Failure> {
    match part {
        Part::Fanout => {
            let fanout::Fanout { delivered, spent, .. } = fanout::measure_lossless(server, setting)?;
            Ok((delivered, spent))
        }
        Part::Publish(connections) => {
            let requests::Requests { responses, spent } =
                requests::measure(server, setting, connections, setting.topics.unwrap_or(connections))?;
            Ok((responses, spent))
        }
        Part::Mixed(connections) => {
            let topics = setting.subscribers.div_ceil(PER_TOPIC);
            let subscribers = topics * PER_TOPIC;
            let mixed = Setting { topics: Some(topics), subscribers, window: connections as u64, ..setting.clone() };
            let fanout::Fanout { delivered, spent, .. } = fanout::measure_lossless(server, &mixed)?;
            Ok((delivered / PER_TOPIC as u64, spent))
        }
    }
}
