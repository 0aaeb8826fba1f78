//! CPU time and memory of a process and all its descendants, from /proc.

use std::fs;
use std::iter;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A tick of /proc/PID/stat: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    /// User and kernel time, in nanoseconds.
    pub total: Duration,
    /// User time, in ticks of 10 ms.
    pub user: Duration,
    /// Kernel time, in ticks of 10 ms.
    pub system: Duration,
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { total: self.total + other.total, user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// Measures wall time, the CPU time of one or several servers, and that of the load.
pub struct Stopwatch {
    roots: Vec<u32>,
    begin: Instant,
    before: Cpu,
    load_before: Duration,
}

impl Stopwatch {
    /// Starts measuring.
    pub fn start(root: u32) -> Self {
        Self::start_all(iter::once(root))
    }

    /// Starts measuring several servers together.
    pub fn start_all(roots: impl IntoIterator<Item = u32>) -> Self {
        let roots: Vec<u32> = roots.into_iter().collect();
        Self { begin: Instant::now(), before: cpu_of_all(&roots), load_before: of_load(), roots }
    }

    /// Returns the time spent so far.
    pub fn spent(&self) -> Spent {
        let load = of_load().saturating_sub(self.load_before);
        Spent { elapsed: self.begin.elapsed(), cpu: cpu_of_all(&self.roots) - self.before, load }
    }
}

/// Time spent.
pub struct Spent {
    /// Wall time.
    pub elapsed: Duration,
    /// The servers' CPU time.
    pub cpu: Cpu,
    /// The CPU time of this process, which is the load.
    pub load: Duration,
}

impl Spent {
    /// Returns the rate per second of this many operations.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the server's CPU time for each of this many operations, in microseconds.
    pub fn micros_each(&self, count: u64) -> f64 {
        self.cpu.total.as_secs_f64() * 1e6 / count as f64
    }
}

fn cpu_of_all(roots: &[u32]) -> Cpu {
    roots.iter().map(|root| cpu(*root)).fold(Cpu::default(), Cpu::add)
}

/// Returns the CPU time that a process and its descendants have used so far.
pub fn cpu(root: u32) -> Cpu {
    descendants(root).into_iter().fold(Cpu::default(), |sum, pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ticks = |index| after_name(&stat).nth(index).and_then(|field| field.parse().ok()).unwrap_or(0);
        Cpu {
            total: sum.total + scheduled(pid),
            user: sum.user + TICK * ticks(11),
            system: sum.system + TICK * ticks(12),
        }
    })
}

/// Returns the private dirty memory of a process and its descendants, in bytes.
pub fn private_bytes(root: u32) -> u64 {
    let rollups = descendants(root).into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")));
    let dirty = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    rollups.filter_map(|text| dirty(text.ok()?)).sum::<u64>() * 1024
}

/// Returns the names of the processes, for the results.
pub fn names(root: u32) -> Vec<String> {
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    descendants(root).into_iter().map(name).collect()
}

/// Returns the CPU time that this process has used so far, without its descendants.
fn of_load() -> Duration {
    scheduled(std::process::id())
}

fn scheduled(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn descendants(root: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![root];
    let mut index = 0;
    while index < family.len() {
        family.extend(
            parents.iter().filter(|(_, parent)| *parent == family[index]).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        index += 1;
    }
    family
}

fn parent(pid: u32) -> Option<u32> {
    after_name(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).nth(1)?.parse().ok()
}

/// Returns the fields after the name, which may contain spaces and parentheses: state, parent, …
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ')
}
