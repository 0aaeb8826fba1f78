//! durable-streams-server: one process, one tokio worker per core, streams in memory, which is its default and its fastest
//! storage. A stream must be created before it is read.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::launch;
use super::{Dialect, Failure, Running, Scratch};

const DIALECT: Dialect = Dialect {
    prepare: Some(prepare),
    subscribe,
    resume: Some(resume),
    publish,
    publish_many: None,
    connecting: super::CONNECTING,
};

/// Starts it on these cores.
pub fn start(core: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let [address] = launch::free_addresses()?;
    let program = launch::built("bin/durable-streams-server");
    let version = launch::output(Command::new(&program).arg("--version"))?;
    let file = scratch.path().join("config.toml");
    fs::write(&file, configuration(address))?;
    let root = launch::command(core, &scratch, &program)?
        .arg("--config")
        .arg(file)
        .current_dir(scratch.path())
        .env("TOKIO_WORKER_THREADS", launch::count_cores(core)?.to_string())
        .spawn()?;
    launch::delivering(Running { version, root, scratch, subscribe_at: address, publish_at: address, dialect: DIALECT })
}

fn prepare(topic: &str) -> String {
    format!(
        "PUT /v1/stream/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
    )
}

fn subscribe(topic: &str) -> String {
    format!(
        "GET /v1/stream/{topic}?offset=now&live=sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    )
}

fn resume(topic: &str) -> String {
    subscribe(topic).replacen("offset=now", "offset=-1", 1)
}

/// The response is 204, which has neither a body nor a length.
fn publish(topic: &str, data: &str) -> String {
    let length = data.len();
    format!(
        "POST /v1/stream/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         \r\n{data}"
    )
}

/// Its defaults, except for: the limits of its profile `prod`, because a stream never evicts events and refuses more than its
/// limits; streams without an idle timeout (the default is one minute); and no log line per request.
fn configuration(address: SocketAddr) -> String {
    format!(
        r#"
[server]
bind_address = "{address}"

[limits]
max_memory_bytes = 536870912
max_stream_bytes = 268435456

[storage]
mode = "memory"

[transport.connection]
sse_reconnect_interval_secs = 0

[observability]
rust_log = "warn"
"#
    )
}
