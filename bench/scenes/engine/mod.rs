//! Brokers on one engine: what they append, follow and deliver, compared with one broker without an engine and with the bare
//! disk, and with another server's nodes. Each part starts an engine and brokers of its own.

pub mod append;
pub mod fanout;
pub mod follow;
pub mod kill;
pub mod latency;
pub mod memory;
pub mod rivals;
pub mod start;

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Setting;
use crate::load::{self, TIMEOUT};
use crate::procs::Stopwatch;
use crate::servers::redis::Redis;
use crate::servers::{Failure, Running, esker};

/// The parts of the scene, in this order. The part [`RIVALS`] runs only if the command line asks for it.
pub const PARTS: [&str; 6] = ["append", "latency", "follow", "start", "memory", "fanout"];

/// The part that needs a server that has to be installed first.
pub const RIVALS: &str = "rivals";
/// Brokers in the parts that compare several with one.
pub const SEVERAL: usize = 3;
/// Events in an entry of the log, where a part does not vary it.
pub const PER_ENTRY: usize = 64;
/// The topic of parts that need only one.
const TOPIC: &str = "benchmark0";
/// The name in `/stats` of the events that a broker retains or has retained: all that it has read from the log.
const FOLLOWED: &str = "events_published";
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(10);

/// Brokers, and the engine that they share.
pub struct Cluster {
    pub brokers: Vec<Running>,
    // Dropped after the brokers.
    pub engine: Redis,
}

impl Cluster {
    /// Starts the engine and this many brokers.
    pub fn start(brokers: usize, setting: &Setting) -> Result<Self, Failure> {
        Self::start_with(brokers, setting, |engine| esker::start_on_engine(engine, &[], &setting.server_cores))
    }

    /// Starts the engine and this many nodes of any server.
    pub fn start_with(
        nodes: usize,
        setting: &Setting,
        start: impl Fn(&Redis) -> Result<Running, Failure>,
    ) -> Result<Self, Failure> {
        let engine = Redis::start(&setting.engine_cores)?;
        let brokers = (0..nodes).map(|_| start(&engine)).collect::<Result<_, _>>()?;
        Ok(Self { brokers, engine })
    }

    /// Returns the addresses for publishing.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.brokers.iter().map(|broker| broker.publish_at).collect()
    }

    /// Starts measuring each broker.
    pub fn stopwatches(&self) -> Vec<Stopwatch> {
        self.brokers.iter().map(|broker| Stopwatch::start(broker.root.id())).collect()
    }

    /// Waits until all brokers have read the same number of events from the log, and returns it.
    pub fn followed(&self) -> Result<u64, Failure> {
        let begin = Instant::now();
        loop {
            let counts = self.brokers.iter().map(followed).collect::<Result<Vec<_>, _>>()?;
            if counts.iter().all(|count| *count == counts[0]) {
                return Ok(counts[0]);
            }
            if begin.elapsed() > TIMEOUT {
                return Err(format!("the brokers have followed {counts:?} events").into());
            }
            sleep(PAUSE);
        }
    }
}

/// Returns the number of events that a broker has read from the log.
fn followed(broker: &Running) -> Result<u64, Failure> {
    let count = esker::stats(broker)?(FOLLOWED);
    if count.is_nan() { Err(format!("/stats has no {FOLLOWED}").into()) } else { Ok(count as u64) }
}

/// Returns a request that publishes events, with these numbers as the publisher's ids or without ids.
fn body(topic: &str, events: std::ops::Range<usize>, size: usize, has_ids: bool) -> String {
    let data = load::data(0, size);
    let event = |number| match has_ids {
        true => format!("data: {data}\nid: {number:016x}\n\n"),
        false => format!("data: {data}\n\n"),
    };
    esker::post(&format!("/publish/{topic}"), &events.map(event).collect::<String>())
}

/// Publishes this many events, with this many in each entry.
fn fill(broker: &Running, events: usize, per_entry: usize, size: usize, has_ids: bool) -> Result<(), Failure> {
    let bodies = (0..events).step_by(per_entry);
    let requests = bodies.map(|first| body(TOPIC, first..events.min(first + per_entry), size, has_ids));
    load::send_requests(broker.publish_at, requests)
}
