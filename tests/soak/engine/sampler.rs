//! Samples the brokers and Redis once a second, and what the chart shows of them.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::chart::{Curve, Panel, Sampled};
use crate::client::Peer;
use crate::engine::cluster::BROKERS;
use crate::engine::world::World;
use crate::sampler::{EVERY, TICKS, descriptors, memory, ticks};
use crate::summary::or_nothing;

/// Processes that are sampled: the brokers, and Redis as the last.
const PROCESSES: usize = BROKERS + 1;
const REDIS: usize = BROKERS;
const MIB: f64 = 1024.0 * 1024.0;

/// The measurements of one second.
pub struct Sample {
    seconds: f64,
    generation: u32,
    /// `None` for a process that doesn't run.
    usage: [Option<Usage>; PROCESSES],
    /// Percent of one core; `None` if the process is not the one of the last sample.
    cpu_percent: [Option<f64>; PROCESSES],
    latency: Option<[f64; 3]>,
}

/// What a process uses.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Private memory in bytes.
    pub private: u64,
    pub descriptors: u64,
}

impl Sampled for Sample {
    fn seconds(&self) -> f64 {
        self.seconds
    }

    fn generation(&self) -> u32 {
        self.generation
    }
}

impl Sample {
    fn mebibytes(&self, process: usize) -> Option<f64> {
        self.usage[process].map(|usage| usage.private as f64 / MIB)
    }

    fn descriptors(&self, process: usize) -> Option<f64> {
        self.usage[process].map(|usage| usage.descriptors as f64)
    }
}

/// Takes samples until the soak is over.
pub fn run(world: &World, samples: &Mutex<Vec<Sample>>) {
    let (mut due, mut before) = (Instant::now(), [(0, 0); PROCESSES]);
    while !world.is_over() {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = pids(world).map(|pid| (pid, ticks(pid)));
        let share = |process: usize| {
            let ((pid, ticks), (last_pid, last_ticks)) = (now[process], before[process]);
            (pid == last_pid).then(|| ticks.saturating_sub(last_ticks) as f64 / TICKS * 100.0)
        };
        let sample = Sample {
            seconds: world.began.elapsed().as_secs_f64(),
            generation: world.cluster.generation(),
            usage: measure(world),
            cpu_percent: std::array::from_fn(share),
            latency: world.take_probes(),
        };
        before = now;
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

/// Measures the brokers and Redis.
pub fn measure(world: &World) -> [Option<Usage>; PROCESSES] {
    pids(world).map(|pid| {
        let usage = Usage { private: memory(pid).private, descriptors: descriptors(pid) };
        // A process that has just ended has no memory.
        (usage.private > 0).then_some(usage)
    })
}

fn pids(world: &World) -> [u32; PROCESSES] {
    let cluster = &world.cluster;
    std::array::from_fn(|process| {
        let pid = cluster.nodes.get(process).map_or(&cluster.redis_pid, |node| &node.pid);
        pid.load(SeqCst)
    })
}

const MEMORY: &[Curve<'_, Sample>] = &[
    ("broker 0", "#0b7a75", |sample| sample.mebibytes(0)),
    ("broker 1", "#c4512d", |sample| sample.mebibytes(1)),
    ("broker 2", "#5b6abf", |sample| sample.mebibytes(2)),
    ("Redis", "#222222", |sample| sample.mebibytes(REDIS)),
];
const DESCRIPTORS: &[Curve<'_, Sample>] = &[
    ("broker 0", "#0b7a75", |sample| sample.descriptors(0)),
    ("broker 1", "#c4512d", |sample| sample.descriptors(1)),
    ("broker 2", "#5b6abf", |sample| sample.descriptors(2)),
];
const CPU: &[Curve<'_, Sample>] = &[
    ("broker 0", "#0b7a75", |sample| sample.cpu_percent[0]),
    ("broker 1", "#c4512d", |sample| sample.cpu_percent[1]),
    ("broker 2", "#5b6abf", |sample| sample.cpu_percent[2]),
    ("Redis", "#222222", |sample| sample.cpu_percent[REDIS]),
];
const LATENCY: &[Curve<'_, Sample>] = &[
    ("maximum", "#e0b7ac", |sample| sample.latency.map(|latency| latency[2])),
    ("p99", "#c4512d", |sample| sample.latency.map(|latency| latency[1])),
    ("p50", "#0b7a75", |sample| sample.latency.map(|latency| latency[0])),
];

/// The panels of the chart.
pub const PANELS: [Panel<'_, Sample>; 4] = [
    Panel { title: "private memory, MiB", curves: MEMORY, baseline: None, is_logarithmic: false },
    Panel { title: "descriptors", curves: DESCRIPTORS, baseline: None, is_logarithmic: false },
    Panel { title: "latency of probes, ms", curves: LATENCY, baseline: None, is_logarithmic: true },
    Panel { title: "processor time, % of one core", curves: CPU, baseline: None, is_logarithmic: false },
];

/// Returns the samples as CSV.
pub fn table(samples: &[Sample]) -> Result<String, fmt::Error> {
    let mut text = "seconds".to_owned();
    for process in ["broker0", "broker1", "broker2", "redis"] {
        write!(text, ",{process}_private_bytes,{process}_descriptors,{process}_cpu_percent")?;
    }
    writeln!(text, ",p50_ms,p99_ms,max_ms,restarts")?;
    for sample in samples {
        write!(text, "{:.1}", sample.seconds)?;
        for (usage, cpu) in sample.usage.iter().zip(sample.cpu_percent) {
            match usage {
                Some(usage) => write!(text, ",{},{}", usage.private, usage.descriptors)?,
                None => text.push_str(",,"),
            }
            write!(text, ",{}", or_nothing(cpu))?;
        }
        (0..3).try_for_each(|index| write!(text, ",{}", or_nothing(sample.latency.map(|latency| latency[index]))))?;
        writeln!(text, ",{}", sample.generation)?;
    }
    Ok(text)
}
