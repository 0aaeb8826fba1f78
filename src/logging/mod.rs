//! The binary's log. A log call formats its line and puts it into a bounded queue; one thread writes the queue to standard
//! error. So a log that nobody reads (a full pipe, a stopped terminal) never blocks a worker or the main thread: what the
//! queue has no room for is dropped and counted. A program that embeds the library chooses a logger of its own, whose calls
//! must not block either.

mod line;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use env_logger::Target;
use log::{Level, LevelFilter};

pub use line::LogFormat;
use queue::Queue;

/// How long the end of the process waits until the log is written; twice this if the queue is full.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// Lines dropped by this process because the queue was full.
static DROPPED_LINES: AtomicU64 = AtomicU64::new(0);

/// Returns how many lines were dropped because standard error took no more. 0 in programs with a logger of their own.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED_LINES.load(Ordering::Relaxed)
}

/// How the binary logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, in `env_logger`'s syntax; `info` for parts that it doesn't name.
    pub filters: String,
}

/// The running log of the process.
#[derive(Debug)]
pub struct Logging {
    queue: Queue,
    format: LogFormat,
}

impl Logging {
    /// Starts the log's thread, and directs log calls and panic messages to it.
    pub fn start(options: &LogOptions) -> io::Result<Self> {
        let LogOptions { format, filters } = options;
        let format = *format;
        let queue = Queue::start(io::stderr(), format, &DROPPED_LINES)?;
        let mut builder = env_logger::Builder::new();
        builder.filter_level(LevelFilter::Info);
        if !filters.is_empty() {
            builder.parse_filters(filters);
        }
        builder
            .format(move |out, record| {
                out.write_all(&format.line(record.level(), record.target(), &record.args().to_string()))
            })
            .target(Target::Pipe(Box::new(queue.clone())))
            .init();
        report_panics(queue.clone());
        Ok(Self { queue, format })
    }

    /// Reports why the process ends, whatever is logged otherwise.
    pub fn fail(&self, error: &dyn fmt::Display) {
        match self.format {
            LogFormat::Text => self.queue.push(format!("esker: {error}\n").as_bytes()),
            LogFormat::Json => self.queue.push(&self.format.line(Level::Error, "esker", &error.to_string())),
        }
    }

    /// Waits until everything is written, but no longer than half a second.
    pub fn finish(self) {
        self.queue.finish(FLUSH_TIMEOUT);
    }
}

/// Writes why the process ends to standard error before there is a log, and waits no longer than [`Logging::finish`] does.
pub fn write_error(error: &dyn fmt::Display) {
    match Queue::start(io::stderr(), LogFormat::Text, &DROPPED_LINES) {
        Ok(queue) => {
            queue.push(format!("esker: {error}\n").as_bytes());
            queue.finish(FLUSH_TIMEOUT);
        }
        // Better late than not at all.
        Err(_) => drop(writeln!(io::stderr(), "esker: {error}")),
    }
}

/// The standard library's own hook writes to standard error at once: with a full pipe a panic would hang instead of ending
/// the process.
fn report_panics(queue: Queue) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        log::error!("thread {} panicked: {panic}", thread.name().unwrap_or("(unnamed)"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            backtrace.to_string().lines().for_each(|line| log::error!("{line}"));
        }
        queue.finish(FLUSH_TIMEOUT);
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Becomes the process of [`a_panic_is_logged`].
    #[test]
    #[ignore = "panics"]
    fn panics() {
        let _logging = Logging::start(&LogOptions { format: LogFormat::Json, ..LogOptions::default() }).unwrap();
        panic!("for the test");
    }

    #[test]
    fn a_panic_is_logged() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "logging::tests::panics", "--ignored", "--nocapture"]).env("RUST_BACKTRACE", "1");
        let output = command.output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let first = log.lines().find(|line| line.starts_with('{')).expect("a line of the log");
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        let message = first["message"].as_str().unwrap();
        assert!(!output.status.success() && first["level"] == "error", "{log}");
        assert!(message.contains("src/logging/mod.rs") && message.ends_with("for the test"), "{log}");
        assert!(log.lines().filter(|line| line.starts_with('{')).count() > 2, "a backtrace: {log}");
    }
}
