//! The servers under load: how each is started, stopped and spoken to. Knows nothing of what is measured.

mod axum;
mod durable;
pub mod echo;
pub mod esker;
pub mod floor;
mod launch;
mod nchan;
mod pushpin;
mod scratch;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
pub use scratch::Scratch;

/// Words for whoever runs the bench.
pub type Failure = Box<dyn std::error::Error>;

/// What cargo says to a bench that is no test; so does this program when it starts itself as a server.
pub const IS_BENCH: &str = "--bench";
/// The names that `--servers` takes.
pub const NAMES: [&str; 7] = ["floor", "echo", "esker", "nchan", "pushpin", "durable", "axum"];
/// A broker from elsewhere, as `esker=PATH`: the build before a change, for one.
const ANOTHER_BUILD: &str = "esker=";
/// So many that wait for their stream to begin overflow no listen backlog.
const CONNECTING: usize = 256;

/// How a server is spoken to.
pub struct Dialect {
    /// The whole request that makes a topic, where topics must be made before they are used.
    pub prepare: Option<fn(topic: &str) -> String>,
    /// The whole request that opens a stream.
    pub subscribe: fn(topic: &str) -> String,
    /// The whole request that opens a stream with all that the topic retains, where there is one.
    pub resume: Option<fn(topic: &str) -> String>,
    /// The whole request that publishes one event with this data.
    pub publish: fn(topic: &str, data: &str) -> String,
    /// The whole request that publishes several events at once, where there is one.
    pub publish_many: Option<fn(topic: &str, events: &[String]) -> String>,
    /// Connections that may wait for their stream to begin at once.
    pub connecting: usize,
}

/// A server that runs, with all its processes; it ends when it is dropped.
pub struct Running {
    pub version: String,
    /// The process that all others descend from.
    pub root: Child,
    /// Its configuration, logs and data.
    pub scratch: Scratch,
    pub subscribe_at: SocketAddr,
    pub publish_at: SocketAddr,
    pub dialect: Dialect,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for, its id may be another process's.
        let Ok(None) = self.root.try_wait() else { return };
        // It may end by itself right now; there is nobody left to tell.
        let _ = kill_process(Pid::from_child(&self.root), Signal::TERM);
        let _ = self.root.wait();
    }
}

/// Starts the server of this name on these cores.
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

/// Starts a floor, which is this program again, called with the floor's name.
fn start_self(cores: &str, name: &str, what: &str) -> Result<Running, Failure> {
    let mut command = pinned(cores, std::env::current_exe()?);
    command.args([IS_BENCH, name]);
    let (root, address) = spawn_told(command)?;
    Ok(Running {
        version: what.to_owned(),
        root,
        scratch: Scratch::new()?,
        subscribe_at: address,
        publish_at: address,
        dialect: esker::dialect(),
    })
}

/// A command that runs on these cores.
pub fn pinned(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(cores).arg(program);
    command
}

/// Starts a server that says its address as `…http://IP:PORT…` in a line of its standard error, and reads that line.
pub fn spawn_told(mut command: Command) -> Result<(Child, SocketAddr), Failure> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        let told = line.split_once("http://").map(|(_, rest)| rest.trim_end());
        if let Some(address) = told.and_then(|text| text.split(['/', ' ', ',']).next()?.parse().ok()) {
            // Somebody must read on, or the server's log would fill the pipe.
            std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
            return Ok((child, address));
        }
        line.clear();
    }
    Err(format!("{command:?} ended without telling its address").into())
}
