//! Metrics of the process: CPU time, memory and file descriptors. They are read on request, and omitted where the system does
//! not provide them. The work is bounded: a process with a million descriptors does not list them all.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::family::Family;
use crate::clock;

/// The maximum number of descriptors that are counted one by one, if the kernel does not report their number.
const MAX_LISTED: usize = 4096;

/// Returns the metrics of the process.
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

/// Returns the number of open file descriptors, unless there are too many to count. Since version 6.2, Linux reports it as the
/// size of a directory.
fn open_descriptors() -> Option<u64> {
    let reported = fs::metadata("/proc/self/fd").ok()?.len();
    if reported > 0 {
        return Some(reported);
    }
    // One of them is the descriptor of the directory itself.
    let listed = fs::read_dir("/proc/self/fd").ok()?.take(MAX_LISTED + 1).count() - 1;
    (listed < MAX_LISTED).then_some(listed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{Number, Samples};

    #[test]
    #[cfg(target_os = "linux")]
    fn process_metrics_are_plausible() {
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
