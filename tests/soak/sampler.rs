//! Samples the broker's process once a second: memory, descriptors, threads, processor time, and the probes' latency.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::world::World;

/// The interval between two samples.
pub const EVERY: Duration = Duration::from_secs(1);
/// USER_HZ is 100 on every Linux.
pub const TICKS: f64 = 100.0;

/// The measurements of one second.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The time since the soak began.
    pub seconds: f64,
    pub memory: Memory,
    pub descriptors: u64,
    pub threads: u64,
    /// Percent of one core; `None` if the process was restarted since the last sample.
    pub cpu_percent: Option<f64>,
    /// The probes' latency: median, 99th percentile and maximum in milliseconds, if any arrived.
    pub latency: Option<[f64; 3]>,
    pub generation: u32,
}

/// In bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory {
    /// Private memory: what the kernel calls anonymous.
    pub private: u64,
    /// Resident memory, mapped files included.
    pub resident: u64,
}

/// Takes samples until the soak is over.
pub fn run(world: &World, samples: &Mutex<Vec<Sample>>) {
    let (mut due, mut before) = (Instant::now(), (0, 0));
    while !world.is_over() {
        due += EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let pid = world.pid.load(SeqCst);
        let ticks = ticks(pid);
        let cpu_percent = (before.0 == pid).then(|| ticks.saturating_sub(before.1) as f64 / TICKS * 100.0);
        before = (pid, ticks);
        let sample = Sample {
            seconds: world.began.elapsed().as_secs_f64(),
            memory: memory(pid),
            descriptors: descriptors(pid),
            threads: fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64),
            cpu_percent,
            latency: world.take_probes(),
            generation: world.generation(),
        };
        samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

/// Returns a process's memory, or 0 if it has ended.
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let sum = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix("kB"));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) << 10
    };
    Memory { private: sum("Anonymous:"), resident: sum("Rss:") }
}

/// Returns the number of a process's open descriptors.
pub fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |open| open.count() as u64)
}

/// Returns the processor time that a process has used, in ticks.
pub fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    // utime and stime, proc(5).
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
