//! The inputs that are kept in `tests/fuzz`, run once: those written by hand, those that go along every edge of the code, and
//! those that broke something once. Refuses to know what is in them.

use std::fs;
use std::path::{Path, PathBuf};

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    files.sort_unstable();
    files
}

/// The published package comes without tests; in the repository there is something to run.
fn replay(name: &str, target: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let kept = ["seeds", "corpus", "found"].map(|kind| files(&root.join("fuzz").join(kind).join(name)));
    let is_there = kept[..2].iter().all(|files| !files.is_empty());
    assert!(is_there || !root.exists(), "no input is kept for {name}");
    for file in kept.iter().flatten() {
        let bytes = fs::read(file).expect("an input can be read");
        let held = std::panic::catch_unwind(|| target(&bytes));
        assert!(held.is_ok(), "{} fails; run it alone with: scripts/fuzz {name} {0}", file.display());
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
