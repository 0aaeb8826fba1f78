//! How soon a broker with many records serves, after a clean stop and after a kill.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Setting;
use crate::procs;
use crate::servers::{Failure, Scratch, esker};

/// Distinct names of records.
const NAMES: usize = 1000;
/// The first record's id; any time in the past works.
const FIRST_ID: u64 = 1_700_000_000_000_000;

/// One start.
pub struct Start {
    /// Time from creating the process until it listens.
    pub elapsed: Duration,
    /// Private memory right after that.
    pub private_bytes: u64,
}

/// Loads records, and starts a broker with them: alternately after a clean stop and after a kill.
pub fn measure(setting: &Setting) -> Result<Vec<(&'static str, Start)>, Failure> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    load(&data, setting.records, NAMES, setting.size)?;
    let mut starts = Vec::new();
    for _ in 0..setting.rounds {
        starts.push(("clean", start(&data, setting, false)?));
        // The previous broker was stopped cleanly; this one is killed, and the next one starts from what it left.
        start(&data, setting, true)?;
        starts.push(("killed", start(&data, setting, false)?));
    }
    Ok(starts)
}

/// Loads records of this many names, with so many bytes of data, into a new store.
pub fn load(data: &Path, records: usize, names: usize, size: usize) -> Result<(), Failure> {
    let text = "x".repeat(size);
    load_lines(data, records, |number| format!(r#""event":"name{}","data":"{text}""#, number * 7919 % names))
}

/// Loads records into a new store. `members` returns a record's name and data as members of a JSON object.
pub fn load_lines(data: &Path, records: usize, members: impl Fn(usize) -> String) -> Result<(), Failure> {
    let mut command = esker::program();
    let mut loading = command.arg("load").arg(data).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let mut lines = BufWriter::new(loading.stdin.take().ok_or("no standard input")?);
    for number in 0..records {
        writeln!(lines, r#"{{"id":"{}",{}}}"#, FIRST_ID + number as u64, members(number))?;
    }
    drop(lines.into_inner()?);
    let status = loading.wait()?;
    if status.success() { Ok(()) } else { Err(format!("esker load: {status}").into()) }
}

fn start(data: &Path, setting: &Setting, kills: bool) -> Result<Start, Failure> {
    let begin = Instant::now();
    let mut server = esker::start_on(data, &[], &setting.server_cores)?;
    let elapsed = begin.elapsed();
    let private_bytes = procs::private_bytes(server.root.id());
    // Leaves something in the log that the next start finds.
    crate::load::send_request(server.publish_at, &esker::post("/insert", r#"{"event":"name0","data":1}"#))?;
    if kills {
        server.root.kill()?;
    }
    Ok(Start { elapsed, private_bytes })
}
