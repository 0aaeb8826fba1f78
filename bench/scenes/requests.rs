//! Requests on keep-alive connections, each sent as soon as the previous one has its response: publishes to topics without
//! subscribers, and inserts compared with a bare append and fdatasync of the same bytes in the same batches.

use std::iter;
use std::time::Duration;

use super::Setting;
use crate::disk;
use crate::load::{self, Requesters};
use crate::procs::{Spent, Stopwatch};
use crate::servers::{self, Failure, Running};

/// The time before the measurement.
pub const WARMING: Duration = Duration::from_millis(300);
/// Names of records.
const NAMES: u64 = 1000;

/// The results of a round.
pub struct Requests {
    pub responses: u64,
    pub spent: Spent,
}

impl Requests {
    /// Returns requests per second.
    pub fn rate(&self) -> f64 {
        self.spent.rate(self.responses)
    }

    /// Returns the server's CPU time per request, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.responses)
    }
}

/// Publishes to one topic per connection, with a new server.
pub fn publish(name: &str, setting: &Setting, connections: usize) -> Result<Requests, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    let topics = (0..connections).map(|index| load::make_topic(&server, index)).collect::<Result<Vec<_>, _>>()?;
    let publish = server.dialect.publish;
    let data = load::data(setting.size);
    drive(&server, connections, setting.duration, |number| publish(&topics[number as usize % connections], &data))
}

/// The results of a round of inserts, and of the disk alone.
pub struct Inserts {
    pub rate: f64,
    pub per_commit: f64,
    pub floor: f64,
}

/// Inserts with a new broker, and then appends on the same disk.
pub fn insert(setting: &Setting, connections: usize) -> Result<Inserts, Failure> {
    let server = servers::start("esker", &setting.server_cores)?;
    let data = "x".repeat(setting.size);
    let request = |number| {
        let name = number * 7919 % NAMES;
        servers::esker::post("/insert", &format!(r#"{{"event":"name{name}","data":"{data}"}}"#))
    };
    let requests = drive(&server, connections, setting.duration, request)?;
    let stats = servers::esker::stats(&server)?;
    let per_commit = stats("records") / stats("store_commits");
    let batch = (per_commit * (setting.size + 30) as f64) as usize;
    let mut floor = disk::Appends::create(&server.scratch.path().join("floor"))?;
    floor.run(iter::repeat(batch), setting.duration / 2)?;
    Ok(Inserts { rate: requests.rate(), per_commit, floor: floor.rate() * per_commit })
}

fn drive(
    server: &Running,
    connections: usize,
    duration: Duration,
    request: impl FnMut(u64) -> String,
) -> Result<Requests, Failure> {
    let mut requesters = Requesters::connect(&[server.publish_at], connections, request)?;
    requesters.run(WARMING)?;
    let stopwatch = Stopwatch::start(server.root.id());
    let responses = requesters.run(duration)?;
    let spent = stopwatch.spent();
    if responses == 0 {
        return Err("no response arrived".into());
    }
    Ok(Requests { responses, spent })
}
