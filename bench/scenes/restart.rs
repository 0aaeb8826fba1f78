//! What a full history costs a clean restart: the stop that writes it and the start that reads it, next to the least that this
//! takes, writing the same bytes with an fsync and reading them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Setting;
use crate::load;
use crate::servers::{Failure, Scratch, esker};

/// The memory for history, in bytes: the default.
const HISTORY_BYTES: usize = 256 << 20;
/// The memory that an event takes beyond its data.
const EVENT_BYTES: usize = 170;
/// The data in one publish, in bytes.
const BODY_BYTES: usize = 900_000;
/// The most events in one publish.
const MAX_EVENTS: usize = 10_000;
/// Options that let only the memory limit the history.
const OPTIONS: [&str; 4] = ["--history", "100000000", "--history-age", "24h"];

/// One restart.
pub struct Restart {
    /// The events retained before and after it.
    pub events: [f64; 2],
    /// The size of the file.
    pub bytes: u64,
    /// Time from the signal until the process has exited.
    pub stop: Duration,
    /// Time for writing the same bytes to a file, with an fsync.
    pub write: Duration,
    /// Time from creating the process until it listens and has read the file.
    pub start: Duration,
    /// Time for reading the same bytes from a file.
    pub read: Duration,
}

/// Fills the history, and restarts the broker.
pub fn measure(setting: &Setting) -> Result<Vec<Restart>, Failure> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    let mut server = esker::start_on(&data, &OPTIONS, &setting.server_cores)?;
    let count = setting.records.min(HISTORY_BYTES / (setting.size + EVENT_BYTES) + 1);
    let text = "x".repeat(setting.size);
    let event = format!("data: {text}\n\n");
    let each = (BODY_BYTES / event.len()).clamp(1, MAX_EVENTS);
    let bodies = (0..count.div_ceil(each)).map(|_| esker::post("/publish/topicone1", &event.repeat(each)));
    load::send_requests(server.publish_at, bodies)?;
    let mut restarts = Vec::new();
    for _ in 0..setting.rounds {
        let before = esker::stats(&server)?("history_events");
        let begin = Instant::now();
        drop(server);
        let stop = begin.elapsed();
        let (bytes, write, read) = floor(&data.join("history.snapshot"), &scratch.path().join("copy"))?;
        let begin = Instant::now();
        server = esker::start_on(&data, &OPTIONS, &setting.server_cores)?;
        let start = begin.elapsed();
        let events = [before, esker::stats(&server)?("history_events")];
        restarts.push(Restart { events, bytes, stop, write, start, read });
    }
    Ok(restarts)
}

/// Reads a file, and writes its bytes to another one. Returns their number and both times.
fn floor(file: &Path, copy: &Path) -> Result<(u64, Duration, Duration), Failure> {
    let begin = Instant::now();
    let bytes = fs::read(file)?;
    let read = begin.elapsed();
    let begin = Instant::now();
    let mut output = File::create(copy)?;
    output.write_all(&bytes)?;
    output.sync_all()?;
    let write = begin.elapsed();
    fs::remove_file(copy)?;
    Ok((bytes.len() as u64, write, read))
}
