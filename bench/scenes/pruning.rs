//! Inserts at a fixed rate, while the broker removes most of the versions that it finds when it starts.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Setting;
use crate::load::{Histogram, Requesters, TIMEOUT};
use crate::servers::{Failure, Running, Scratch, esker};

/// Inserts per second, unless the command line asks for others.
const RATE: f64 = 5000.0;
/// The largest number of versions that are loaded, unless it asks for fewer.
const RECORDS: usize = 1_000_000;
/// The largest number of names; each has at least this many versions.
const NAMES: usize = 1000;
const MIN_VERSIONS: usize = 100;
/// Versions that are kept of each name.
const KEPT: u64 = 10;
/// Keep-alive connections.
const CONNECTIONS: usize = 64;
/// After this time the broker is asked how many versions it has removed.
const PART: Duration = Duration::from_millis(500);
/// The time before the measurement.
const WARMING: Duration = Duration::from_millis(300);
/// The broker keeps this many bytes of its database free, and gives back the others.
const FREE_BYTES: f64 = 10e6;

/// The results of a round.
pub struct Round {
    pub latency: Histogram,
    pub inserts: f64,
    pub removed: f64,
    pub elapsed: Duration,
    /// The size of the database afterwards, when the broker has stopped.
    pub file_bytes: u64,
}

/// Loads versions, and measures inserts without a limit, and then with one until all that exceed it are removed.
pub fn measure(setting: &Setting) -> Result<[Round; 2], Failure> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    let records = setting.records.min(RECORDS);
    let names = NAMES.min(records / MIN_VERSIONS).max(1);
    super::start::load(&data, records, names, setting.size)?;
    let kept = setting.versions.unwrap_or(KEPT);
    let (server, limit) = (&setting.server_cores, kept.to_string());
    let without = run(esker::start_on(&data, &[], server)?, &data, setting, names, 0.0)?;
    let surplus = records.saturating_sub(names * usize::try_from(kept)?) as f64;
    let with = run(esker::start_on(&data, &["--versions", &limit], server)?, &data, setting, names, surplus)?;
    Ok([without, with])
}

/// Inserts at a fixed rate for the duration, and until this many versions are removed.
fn run(server: Running, data: &Path, setting: &Setting, names: usize, surplus: f64) -> Result<Round, Failure> {
    let text = "x".repeat(setting.size);
    let request = |number: u64| {
        let name = number * 7919 % names as u64;
        esker::post("/insert", &format!(r#"{{"event":"name{name}","data":"{text}"}}"#))
    };
    let rate = setting.rate.unwrap_or(RATE);
    let mut requesters = Requesters::connect(&[server.publish_at], CONNECTIONS, request)?;
    if surplus == 0.0 {
        requesters.run_at(rate, WARMING, &mut Histogram::default())?;
    }
    let (begin, mut latency) = (Instant::now(), Histogram::default());
    let (removed, inserts) = loop {
        requesters.run_at(rate, PART.min(setting.duration), &mut latency)?;
        let stats = esker::stats(&server)?;
        if begin.elapsed() >= setting.duration && stats("store_pruned") >= surplus {
            break (stats("store_pruned"), stats("records"));
        }
    };
    let elapsed = begin.elapsed();
    if surplus > 0.0 {
        wait_for_space(&server)?;
    }
    drop(server);
    let file_bytes = fs::metadata(data.join("records.db"))?.len();
    Ok(Round { latency, inserts, removed, elapsed, file_bytes })
}

/// Waits until the broker has given the space back.
fn wait_for_space(server: &Running) -> Result<(), Failure> {
    let begin = Instant::now();
    while esker::stats(server)?("store_free_bytes") > FREE_BYTES {
        if begin.elapsed() > TIMEOUT {
            return Err("the database does not get smaller".into());
        }
        sleep(PART);
    }
    Ok(())
}
