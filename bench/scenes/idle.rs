//! Idle subscribers: memory and CPU time of each while nothing is published.

use std::time::Duration;

use super::Setting;
use crate::load::Load;
use crate::procs::{self, Stopwatch};
use crate::servers::{self, Failure};

/// Time after the last stream began, until buffers used during connecting are released.
const SETTLING: Duration = Duration::from_secs(1);

/// The shortest time for measuring CPU time: it contains one heartbeat per subscriber, counted from the start of its stream.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// The cost of idle subscribers.
pub struct Idle {
    /// Private bytes for each subscriber beyond the first ones.
    pub bytes_each: f64,
    /// CPU time of all of them, in percent of a core.
    pub percent: f64,
}

/// Returns the number of subscribers before counting begins, so that a server's initial allocations don't count.
pub fn first(setting: &Setting) -> usize {
    setting.subscribers / 4
}

/// Runs one round with a new server.
pub fn round(name: &str, setting: &Setting) -> Result<Idle, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let root = server.root.id();
    let mut load = Load::new(&server, setting.topics(), setting.size)?;
    load.subscribe(first(setting))?;
    load.run_for(SETTLING)?;
    let before = procs::private_bytes(root);
    let more = setting.subscribers - first(setting);
    load.subscribe(more)?;
    load.run_for(SETTLING)?;
    let bytes_each = (procs::private_bytes(root) as f64 - before as f64) / more as f64;
    let stopwatch = Stopwatch::start(root);
    load.run_for(setting.duration)?;
    let spent = stopwatch.spent();
    load.counters.check()?;
    Ok(Idle { bytes_each, percent: 100.0 * spent.cpu.total.as_secs_f64() / spent.elapsed.as_secs_f64() })
}
