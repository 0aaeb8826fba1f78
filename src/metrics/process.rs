//! What the system says of the whole process: read only when somebody asks, and where the system does not say it, left
//! out. Bounded: a process with a million descriptors is not made to list them.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::family::Family;
use crate::clock;

/// Where a kernel does not tell their number, at most so many descriptors are counted one by one.
const MAX_LISTED: usize = 4096;

/// The rows of the process.
pub fn families() -> Vec<Family> {
    let cpu = clock::cpu_time().as_secs_f64();
    let memory = resident_bytes()
        .map(|bytes| Family::gauge("process_resident_memory_bytes", "Resident memory of the process.", bytes));
    let open = open_descriptors()
        .map(|count| Family::gauge("process_open_fds", "Open file descriptors of the process.", count));
    let max = getrlimit(Resource::Nofile)
        .current
        .map(|limit| Family::gauge("process_max_fds", "Maximum number of open file descriptors.", limit));
    let cpu = Family::counter("process_cpu_seconds_total", "Total user and system CPU time of the process.", cpu);
    [Some(cpu), memory, open, max].into_iter().flatten().collect()
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? << 10)
}

/// Linux from 6.2 on tells it as the directory's size.
fn open_descriptors() -> Option<u64> {
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told);
    }
    // One of them is the directory itself.
    let listed = fs::read_dir("/proc/self/fd").ok()?.take(MAX_LISTED + 1).count() - 1;
    (listed < MAX_LISTED).then_some(listed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{Number, Samples};

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_seen() {
        let table = families();
        let number = |name: &str| match table.iter().find(|family| family.name == name).map(|family| &family.samples) {
            Some(Samples::One(Number::Whole(number))) => *number as f64,
            Some(Samples::One(Number::Real(number))) => *number,
            other => panic!("{name}: {other:?}"),
        };
        assert!(number("process_cpu_seconds_total") > 0.0);
        assert!(number("process_resident_memory_bytes") > 1e6);
        assert!(number("process_open_fds") >= 3.0 && number("process_open_fds") <= number("process_max_fds"));
    }
}
