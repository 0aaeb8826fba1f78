//! Runs the inputs stored in `tests/fuzz`: seeds, corpora, which together reach every edge of the code found so far, and inputs
//! that once revealed a bug. Independent of what the inputs contain.

use std::fs;
use std::path::{Path, PathBuf};

use super::corpus;

/// An input, and the shell command that runs it alone.
struct Input {
    bytes: Vec<u8>,
    command: String,
}

fn files(name: &str, directory: &Path) -> Vec<Input> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    paths.sort_unstable();
    let read = |path: PathBuf| Input {
        bytes: fs::read(&path).expect("an input can be read"),
        command: format!("scripts/fuzz {name} {}", path.display()),
    };
    paths.into_iter().map(read).collect()
}

fn lines(name: &str, file: &Path) -> Vec<Input> {
    let file_name = file.display();
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file_name}: {error}"));
    let inputs = corpus::parse(&text).unwrap_or_else(|error| panic!("{file_name}: {error}"));
    let unpack = |number| format!("printf %b \"$(sed -n {number}p {file_name})\" >/tmp/input");
    let command = |number| format!("{}; scripts/fuzz {name} /tmp/input", unpack(number));
    inputs.into_iter().zip(1..).map(|(bytes, number)| Input { bytes, command: command(number) }).collect()
}

/// Runs all inputs of a target. The published package has no tests; the repository must have inputs.
fn replay(name: &str, target: fn(&[u8])) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    if !tests.exists() {
        return;
    }
    let fuzz = tests.join("fuzz");
    let seeds = files(name, &fuzz.join("seeds").join(name));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let corpus = lines(name, &fuzz.join("corpus").join(format!("{name}.txt")));
    let found = files(name, &fuzz.join("found").join(name));
    for Input { bytes, command } in [seeds, corpus, found].into_iter().flatten() {
        let outcome = std::panic::catch_unwind(|| target(&bytes));
        assert!(outcome.is_ok(), "an input fails; to run it alone: {command}");
    }
}

#[test]
fn heads() {
    replay("head", super::head);
}

#[test]
fn bodies() {
    replay("body", super::body);
}

#[test]
fn publishes() {
    replay("publish", super::publish);
}

#[test]
fn queries() {
    replay("query", super::query);
}

#[test]
fn tokens() {
    replay("token", super::token);
}

#[test]
fn json() {
    replay("json", super::json);
}

#[test]
fn records() {
    replay("records", super::records);
}

#[test]
fn exchanges() {
    replay("exchange", super::exchange);
}
