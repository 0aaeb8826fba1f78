//! Checks every line of the broker's log: tokens, secrets and payloads must never be in it (invariant 9).

use std::cell::RefCell;
use std::sync::Once;

/// Every token, secret and payload of the simulation contains one of these.
const MARKS: [&str; 2] = ["secret", "eyJ"];

thread_local! {
    static LEAK: RefCell<Option<String>> = const { RefCell::new(None) };
}

struct LogCheck;

impl log::Log for LogCheck {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if MARKS.iter().any(|mark| line.contains(mark)) {
            LEAK.set(Some(line));
        }
    }

    fn flush(&self) {}
}

/// Checks every line from now on.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LogCheck).expect("there is no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

pub fn assert_clean() {
    if let Some(line) = LEAK.take() {
        panic!("the log has a secret or a payload: {line}");
    }
}
