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

/// Publishes to this many topics in turn, with a new server.
pub fn publish(name: &str, setting: &Setting, connections: usize, topics: usize) -> Result<Requests, Failure> {
    measure(&servers::start(name, &setting.server_cores)?, setting, connections, topics)
}

/// Publishes to this many topics in turn.
pub fn measure(server: &Running, setting: &Setting, connections: usize, topics: usize) -> Result<Requests, Failure> {
    let names = (0..topics).map(|index| load::make_topic(server, index)).collect::<Result<Vec<_>, _>>()?;
    let publish = server.dialect.publish;
    let data = load::data(0, setting.size);
    let request = |number| publish(&names[number as usize % topics], &data);
    drive(server, connections, setting.duration, topics as u64, request)
}

/// The results of a round of inserts, and of the disk alone.
pub struct Inserts {
    pub rate: f64,
    pub per_commit: f64,
    pub floor: f64,
}

/// Inserts with a new broker, and then appends on the same disk.
pub fn insert(setting: &Setting, connections: usize) -> Result<Inserts, Failure> {
    let versions = setting.versions.map(|versions| versions.to_string());
    let options: Vec<&str> = versions.iter().flat_map(|versions| ["--versions", versions.as_str()]).collect();
    let server = servers::esker::start_with(&options, &setting.server_cores)?;
    let data = "x".repeat(setting.size);
    let request = |number| {
        let name = number * 7919 % NAMES;
        servers::esker::post("/insert", &format!(r#"{{"event":"name{name}","data":"{data}"}}"#))
    };
    let requests = drive(&server, connections, setting.duration, 0, request)?;
    let stats = servers::esker::stats(&server)?;
    let per_commit = stats("records") / stats("store_commits");
    let batch = (per_commit * (setting.size + 30) as f64) as usize;
    let mut floor = disk::Appends::create(&server.scratch.path().join("floor"))?;
    floor.run(iter::repeat(batch), setting.duration / 2)?;
    Ok(Inserts { rate: requests.rate(), per_commit, floor: floor.rate() * per_commit })
}

/// Sends requests for this long, once the server has seen each of the `distinct` ones.
fn drive(
    server: &Running,
    connections: usize,
    duration: Duration,
    distinct: u64,
    request: impl FnMut(u64) -> String,
) -> Result<Requests, Failure> {
    let mut requesters = Requesters::connect(&[server.publish_at], connections, request)?;
    let mut warmed = requesters.run(WARMING)?;
    while warmed < distinct {
        warmed += requesters.run(WARMING)?;
    }
    let stopwatch = Stopwatch::start(server.root.id());
    let responses = requesters.run(duration)?;
    let spent = stopwatch.spent();
    if responses == 0 {
        return Err("no response arrived".into());
    }
    Ok(Requests { responses, spent })
}
