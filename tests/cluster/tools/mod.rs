//! The commands on an engine: records are exported, imported and checked, and the state of the log is shown and raised.

mod check;
mod format;
mod transfer;

use std::process::Stdio;

use super::redis_server::RedisServer;
use super::support::command;

/// A key of the log.
fn key(name: &str) -> String {
    format!("{{esker}}:1:{name}")
}

/// How a command has ended.
struct End {
    code: Option<i32>,
    output: String,
    errors: String,
}

/// Runs a command with an empty input.
fn run(arguments: &[&str]) -> End {
    run_with(arguments, "")
}

/// Runs a command with this input.
fn run_with(arguments: &[&str], input: &str) -> End {
    run_in(arguments, &[], input)
}

/// Runs a command with these environment variables and this input.
fn run_in(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> End {
    let file = super::redis_server::new_directory();
    let path = file.join("input");
    std::fs::write(&path, input).expect("a file can be written");
    let input = std::fs::File::open(&path).expect("it can be read");
    let output = command(environment).args(arguments).stdin(Stdio::from(input)).output().expect("it runs");
    std::fs::remove_dir_all(&file).expect("it can be removed");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    End { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
}

/// Runs a command that succeeds, and returns its output.
fn output_of(arguments: &[&str], input: &str) -> String {
    let End { code, output, errors } = run_with(arguments, input);
    assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    output
}

/// Loads records into an engine.
fn load(redis: &RedisServer, lines: &str) {
    output_of(&["load", &redis.url()], lines);
}

/// Returns lines of records, whose ids begin with 1.
fn lines(count: u64) -> String {
    (1..=count).map(|id| format!("{{\"id\":\"{id}\",\"event\":\"n{}\",\"data\":{id}}}\n", id % 3)).collect()
}

/// Lets nobody know any more of brokers that have ended. Otherwise they count for some seconds.
fn forget_brokers(redis: &RedisServer) {
    redis.command::<u32>(&["DEL", &key("brokers")]);
}
