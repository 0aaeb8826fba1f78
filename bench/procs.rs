//! What /proc tells of a server: the processor time and the memory of a process and all that descend from it.

use std::fs;
use std::ops::Sub;
use std::time::{Duration, Instant};

/// A tick of /proc/PID/stat: USER_HZ is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Processor time.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    /// In all, to the nanosecond.
    pub total: Duration,
    /// Outside the kernel, in ticks of 10 ms.
    pub user: Duration,
    /// In the kernel, in ticks of 10 ms.
    pub system: Duration,
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

/// Time that begins to be counted, by the clock and of a server.
pub struct Stopwatch {
    root: u32,
    begin: Instant,
    before: Cpu,
}

impl Stopwatch {
    /// Begins now.
    pub fn start(root: u32) -> Self {
        Self { root, begin: Instant::now(), before: cpu(root) }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        Spent { elapsed: self.begin.elapsed(), cpu: cpu(self.root) - self.before }
    }
}

/// Time that was spent.
pub struct Spent {
    /// By the clock.
    pub elapsed: Duration,
    /// Of the server's processor.
    pub cpu: Cpu,
}

impl Spent {
    /// Things per second, of so many.
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }

    /// The server's processor time for each of so many, in microseconds.
    pub fn micros_each(&self, count: u64) -> f64 {
        self.cpu.total.as_secs_f64() * 1e6 / count as f64
    }
}

/// The processor time that a process and its descendants have used so far.
fn cpu(root: u32) -> Cpu {
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

/// Bytes of memory that a process and its descendants share with nobody.
pub fn private_bytes(root: u32) -> u64 {
    let rollups = descendants(root).into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")));
    let dirty = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    rollups.filter_map(|text| dirty(text.ok()?)).sum::<u64>() * 1024
}

/// The names of the processes, as the results tell them.
pub fn names(root: u32) -> Vec<String> {
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    descendants(root).into_iter().map(name).collect()
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

/// The fields after the name, which may hold spaces and brackets: state, parent, …
fn after_name(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ')
}
