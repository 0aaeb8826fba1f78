//! The broker of this tree, as a release build.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::redis::Redis;
use super::{Dialect, Failure, Running, Scratch, pinned, spawn_and_read_address};
use crate::load;

/// The binary of this tree.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_esker");

/// Returns the binary as a command.
pub fn program() -> Command {
    Command::new(PROGRAM)
}

/// Starts this binary on these cores, with one worker per core and an empty store.
pub fn start(program: &str, cores: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    start_in(scratch, program, &["--data".as_ref(), data.as_os_str()], cores)
}

/// Starts the broker of this tree with an empty store and these options.
pub fn start_with(options: &[&str], cores: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let data = scratch.path().join("data");
    let options: Vec<&OsStr> =
        ["--data".as_ref(), data.as_os_str()].into_iter().chain(options.iter().map(OsStr::new)).collect();
    start_in(scratch, PROGRAM, &options, cores)
}

/// Starts the broker of this tree with the store in this directory, and these options.
pub fn start_on(data: &Path, options: &[&str], cores: &str) -> Result<Running, Failure> {
    start_build_on(PROGRAM, data, options, cores)
}

/// Starts this binary with the store in this directory, and these options.
pub fn start_build_on(program: &str, data: &Path, options: &[&str], cores: &str) -> Result<Running, Failure> {
    let options = ["--data".as_ref(), data.as_os_str()].into_iter().chain(options.iter().map(OsStr::new));
    start_in(Scratch::new()?, program, &options.collect::<Vec<_>>(), cores)
}

/// Starts the broker of this tree on an engine, without records, with these options.
pub fn start_on_engine(engine: &Redis, options: &[&str], cores: &str) -> Result<Running, Failure> {
    let url = engine.url();
    let options = ["--engine", url.as_str()].into_iter().chain(options.iter().copied());
    let options: Vec<&OsStr> = options.map(OsStr::new).collect();
    start_in(Scratch::new()?, PROGRAM, &options, cores)
}

fn start_in(scratch: Scratch, program: &str, options: &[&OsStr], cores: &str) -> Result<Running, Failure> {
    let mut command = pinned(cores, program);
    command.args(["--no-auth", "--origin", "*", "--port", "0"]).args(options);
    let (root, address) = spawn_and_read_address(command)?;
    let version = concat!("esker ", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Running { version, root, scratch, subscribe_at: address, publish_at: address, dialect: dialect() })
}

/// Returns the broker's dialect.
pub fn dialect() -> Dialect {
    Dialect {
        prepare: None,
        subscribe: |topic| format!("GET /subscribe/{topic} HTTP/1.1\r\nHost: bench\r\n\r\n"),
        resume: Some(|topic| subscribe_after(topic, "0")),
        publish: |topic, data| post(&format!("/publish/{topic}"), &format!("data: {data}")),
        publish_many: Some(|topic, events| {
            let body: String = events.iter().map(|data| format!("data: {data}\n\n")).collect();
            post(&format!("/publish/{topic}"), &body)
        }),
        connecting: super::CONNECTING,
    }
}

/// Returns the request that opens a stream with the events after this id.
pub fn subscribe_after(topic: &str, id: &str) -> String {
    format!("GET /subscribe/{topic} HTTP/1.1\r\nHost: bench\r\nLast-Event-ID: {id}\r\n\r\n")
}

/// Returns the members of `/stats` by name.
pub fn stats(server: &Running) -> Result<impl Fn(&str) -> f64, Failure> {
    let response = load::send_request(server.publish_at, "GET /stats HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let body = response.split_once("\r\n\r\n").ok_or("no body")?.1;
    let members: serde_json::Value = serde_json::from_str(body)?;
    Ok(move |name: &str| members[name].as_f64().unwrap_or(f64::NAN))
}

/// Returns a complete POST request.
pub fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
