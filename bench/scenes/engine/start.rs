//! How soon a broker listens that starts with a long log.

use std::time::{Duration, Instant};

use super::{Cluster, PER_ENTRY, Setting, fill};
use crate::procs;
use crate::servers::{Failure, esker};

/// One start.
pub struct Start {
    /// Time from creating the process until it listens.
    pub elapsed: Duration,
    /// The broker's CPU time until then.
    pub cpu: Duration,
    /// Private memory right after that.
    pub private_bytes: u64,
}

/// Fills a log, and starts brokers with it, each of which retains all of it.
pub fn measure(setting: &Setting) -> Result<Vec<Start>, Failure> {
    let cluster = Cluster::start(1, setting)?;
    fill(&cluster.brokers[0], setting.events, PER_ENTRY, setting.size, false)?;
    (0..setting.rounds).map(|_| start(&cluster, setting)).collect()
}

fn start(cluster: &Cluster, setting: &Setting) -> Result<Start, Failure> {
    let history = setting.events.to_string();
    let options = ["--history", &history, "--history-bytes", "16G", "--history-age", "24h"];
    let begin = Instant::now();
    let broker = esker::start_on_engine(&cluster.engine, &options, &setting.server_cores)?;
    let elapsed = begin.elapsed();
    let root = broker.root.id();
    let (cpu, private_bytes) = (procs::cpu(root).total, procs::private_bytes(root));
    let retained = esker::stats(&broker)?("history_events");
    if retained != setting.events as f64 {
        return Err(format!("the broker retains {retained} of {} events", setting.events).into());
    }
    Ok(Start { elapsed, cpu, private_bytes })
}
