//! Idle subscribers: what each costs in memory, and in processor time while nothing is published.

use std::time::Duration;

use super::Setting;
use crate::load::Load;
use crate::procs::{self, Stopwatch};
use crate::servers::{self, Failure};

/// After the last stream began, until buffers of the beginning have gone back.
const SETTLING: Duration = Duration::from_secs(1);

/// Whoever measures processor time for less meets no heartbeat: they begin with the streams.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// What idle subscribers cost a server.
pub struct Idle {
    /// Bytes that its processes share with nobody, for each subscriber beyond the first ones.
    pub bytes_each: f64,
    /// The share of a core that all of them cost, in percent.
    pub percent: f64,
}

/// The subscribers that are there before the counting begins, so that what a server needs for the first is not counted.
pub fn first(setting: &Setting) -> usize {
    setting.subscribers / 4
}

/// One round with a new server.
pub fn round(name: &str, setting: &Setting) -> Result<Idle, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let root = server.root.id();
    let mut load = Load::new(&server, setting.topics, setting.size)?;
    load.subscribe(first(setting))?;
    load.turn_for(SETTLING)?;
    let before = procs::private_bytes(root);
    let more = setting.subscribers - first(setting);
    load.subscribe(more)?;
    load.turn_for(SETTLING)?;
    let bytes_each = (procs::private_bytes(root) as f64 - before as f64) / more as f64;
    let stopwatch = Stopwatch::start(root);
    load.turn_for(setting.duration)?;
    let spent = stopwatch.spent();
    load.tally.check()?;
    Ok(Idle { bytes_each, percent: 100.0 * spent.cpu.total.as_secs_f64() / spent.elapsed.as_secs_f64() })
}
