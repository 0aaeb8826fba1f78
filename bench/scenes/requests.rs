//! Requests on keep-alive connections, each sent as soon as the previous one has its response: publishes to topics without
//! subscribers, and inserts compared with a bare append and fdatasync of the same bytes in the same batches.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::Setting;
use crate::load::{self, Requester};
use crate::procs::{Spent, Stopwatch};
use crate::servers::{self, Failure, Running};

const WARMING: Duration = Duration::from_millis(300);
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
    let mut file = File::create(server.scratch.path().join("floor"))?;
    let batch = "x".repeat((per_commit * (setting.size + 30) as f64) as usize);
    let commits = append(&mut file, batch.as_bytes(), setting.duration / 2)?;
    let rate = requests.rate();
    Ok(Inserts { rate, per_commit, floor: commits * per_commit })
}

/// Returns appends with fdatasync per second.
fn append(file: &mut File, batch: &[u8], duration: Duration) -> io::Result<f64> {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < duration {
        file.write_all(batch)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

fn drive(
    server: &Running,
    connections: usize,
    duration: Duration,
    mut request: impl FnMut(u64) -> String,
) -> Result<Requests, Failure> {
    let mut poll = Poll::new()?;
    let mut requesters = Vec::new();
    for index in 0..connections {
        requesters.push(Requester::connect(server.publish_at, poll.registry(), Token(index))?);
    }
    let mut sent = 0;
    for requester in &mut requesters {
        requester.send(request(sent))?;
        sent += 1;
    }
    let mut run = |duration: Duration| -> Result<u64, Failure> {
        let mut events = Events::with_capacity(1024);
        let (begin, mut responses) = (Instant::now(), 0);
        while begin.elapsed() < duration {
            poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let requester = &mut requesters[event.token().0];
                requester.handle_readable()?;
                if requester.outstanding() == 0 {
                    responses += 1;
                    requester.send(request(sent))?;
                    sent += 1;
                }
            }
        }
        Ok(responses)
    };
    run(WARMING)?;
    let stopwatch = Stopwatch::start(server.root.id());
    let responses = run(duration)?;
    let spent = stopwatch.spent();
    if responses == 0 {
        return Err("no response arrived".into());
    }
    Ok(Requests { responses, spent })
}
