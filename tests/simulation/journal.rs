//! Reads the broker's log over its shoulder: tokens, secrets and payloads must never be in it (invariant 9).

use std::cell::RefCell;
use std::sync::Once;

/// What every token, secret and payload of the simulation has in it.
const MARKS: [&str; 2] = ["secret", "eyJ"];

thread_local! {
    static DIRT: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct Journal;

impl log::Log for Journal {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if MARKS.iter().any(|mark| line.contains(mark)) {
            DIRT.set(Some(line));
        }
    }

    fn flush(&self) {}
}

/// From now on every line is read.
pub fn open() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Journal).expect("there is no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

pub fn assert_clean() {
    if let Some(line) = DIRT.take() {
        panic!("in the log: {line}");
    }
}
