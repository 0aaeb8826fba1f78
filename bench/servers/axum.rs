//! A broker written by hand: `bench/axum`, axum with tokio's broadcast channels, one tokio worker per core. It retains nothing
//! for later subscribers.

use std::fs;
use std::path::Path;

use super::launch;
use super::{Dialect, Failure, Running, Scratch};

const DIALECT: Dialect =
    Dialect { prepare: None, subscribe, resume: None, publish, publish_many: None, connecting: super::CONNECTING };

/// Starts it on these cores.
pub fn start(core: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let [address] = launch::free_addresses()?;
    let root = launch::command(core, &scratch, &launch::built("build/release/broadcast"))?
        .arg(address.to_string())
        .env("TOKIO_WORKER_THREADS", launch::count_cores(core)?.to_string())
        .spawn()?;
    let version = version()?;
    launch::delivering(Running { version, root, scratch, subscribe_at: address, publish_at: address, dialect: DIALECT })
}

fn subscribe(topic: &str) -> String {
    format!("GET /subscribe/{topic} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
}

fn publish(topic: &str, data: &str) -> String {
    let length = data.len();
    format!("POST /publish/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{data}")
}

/// Returns the versions of its main dependencies, from its lock file.
fn version() -> Result<String, Failure> {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/axum/Cargo.lock"))?;
    let parts = ["axum", "tokio", "hyper"].map(|name| Some(format!("{name} {}", locked_version(&lock, name)?)));
    let parts = parts.into_iter().collect::<Option<Vec<_>>>().ok_or("bench/axum/Cargo.lock lacks a version")?;
    Ok(parts.join(", "))
}

fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}
