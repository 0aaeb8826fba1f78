//! The servers under load: how to start and stop each, and its dialect. Independent of what is measured.

mod axum;
mod durable;
pub mod echo;
pub mod esker;
pub mod floor;
mod launch;
pub mod nchan;
mod pushpin;
pub mod redis;
mod scratch;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
pub use scratch::Scratch;

/// An error for the user of the bench.
pub type Failure = Box<dyn std::error::Error>;

/// Cargo passes this argument to benches but not to tests. This program also passes it when it starts itself as a server.
pub const IS_BENCH: &str = "--bench";
/// The names that `--servers` accepts.
pub const NAMES: [&str; 7] = ["floor", "echo", "esker", "nchan", "pushpin", "durable", "axum"];
/// Another build of the broker, as `esker=PATH`.
const ANOTHER_BUILD: &str = "esker=";
/// Streams opening at once; few enough for every listen backlog.
const CONNECTING: usize = 256;

/// The requests that a server understands.
pub struct Dialect {
    /// Returns the request that creates a topic, if topics must be created before use.
    pub prepare: Option<fn(topic: &str) -> String>,
    /// Returns the request that opens a stream.
    pub subscribe: fn(topic: &str) -> String,
    /// Returns the request that opens a stream with everything that the topic retains, if there is one.
    pub resume: Option<fn(topic: &str) -> String>,
    /// Returns the request that publishes one event with this data.
    pub publish: fn(topic: &str, data: &str) -> String,
    /// Returns the request that publishes several events at once, if there is one.
    pub publish_many: Option<fn(topic: &str, events: &[String]) -> String>,
    /// Streams that may be opening at once.
    pub connecting: usize,
}

/// A running server with all its processes; stopped when dropped.
pub struct Running {
    pub version: String,
    /// The ancestor of all its processes.
    pub root: Child,
    /// The directory of its configuration, logs and data.
    pub scratch: Scratch,
    pub subscribe_at: SocketAddr,
    pub publish_at: SocketAddr,
    pub dialect: Dialect,
}

impl Drop for Running {
    fn drop(&mut self) {
        stop(&mut self.root);
    }
}

fn stop(process: &mut Child) {
    // Once the process has been waited for, its id may belong to another process.
    let Ok(None) = process.try_wait() else { return };
    // The process may exit by itself at this moment, and then the error doesn't matter.
    let _ = kill_process(Pid::from_child(process), Signal::TERM);
    let _ = process.wait();
}

/// Starts the server with this name on these cores.
pub fn start(name: &str, cores: &str) -> Result<Running, Failure> {
    match name {
        "floor" => floor::start(cores),
        "echo" => echo::start(cores),
        "esker" => esker::start(esker::PROGRAM, cores),
        "nchan" => nchan::start(cores),
        "pushpin" => pushpin::start(cores),
        "durable" => durable::start(cores),
        "axum" => axum::start(cores),
        other if other.starts_with(ANOTHER_BUILD) => esker::start(&other[ANOTHER_BUILD.len()..], cores),
        _ => Err(format!("there is no server {name:?}; there are {}", NAMES.join(", ")).into()),
    }
}

/// Returns the path of the broker's build with this name.
pub fn build(name: &str) -> Result<&str, Failure> {
    match name.strip_prefix(ANOTHER_BUILD) {
        Some(path) => Ok(path),
        None if name == "esker" => Ok(esker::PROGRAM),
        None => Err(format!("this scene measures only builds of the broker, not {name:?}").into()),
    }
}

/// Starts this program again as one of the floors.
fn start_self(cores: &str, name: &str, what: &str) -> Result<Running, Failure> {
    let mut command = pinned(cores, std::env::current_exe()?);
    command.args([name, IS_BENCH]);
    let (root, address) = spawn_and_read_address(command)?;
    Ok(Running {
        version: what.to_owned(),
        root,
        scratch: Scratch::new()?,
        subscribe_at: address,
        publish_at: address,
        dialect: esker::dialect(),
    })
}

/// Returns a command that runs on these cores.
pub fn pinned(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cores).arg(program);
    command
}

/// Starts a server that prints its address as `…http://IP:PORT…` in a line of its standard error, and reads that line.
pub fn spawn_and_read_address(mut command: Command) -> Result<(Child, SocketAddr), Failure> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let (mut text, mut line) = (String::new(), String::new());
    while log.read_line(&mut line)? > 0 {
        let address = line.split_once("http://").map(|(_, rest)| rest.trim_end());
        if let Some(address) = address.and_then(|text| text.split(['/', ' ', ',']).next()?.parse().ok()) {
            // Keeps reading, or the server's log would fill the pipe.
            std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
            return Ok((child, address));
        }
        text.push_str(&line);
        line.clear();
    }
    Err(format!("{command:?} exited without printing its address:\n{text}").into())
}
