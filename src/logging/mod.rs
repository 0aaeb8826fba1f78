//! The binary's log. A log call formats its line and adds it to a bounded queue, which one thread writes to standard error. So
//! a log that is not read (a full pipe, a stopped terminal) never blocks a worker or the main thread; lines that don't fit
//! into the queue are dropped and counted. A program that embeds the library chooses its own logger, whose calls must not
//! block either.

mod access;
mod journal;
mod line;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use env_logger::Target;
use log::LevelFilter;

use crate::metrics::DROPPED_LOG_LINES;
pub use access::AccessOutput;
pub use line::LogFormat;
pub(crate) use line::rfc3339;
use queue::Queue;

/// How long the process waits for the log to be written when it exits; twice this if the queue is full.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// How the binary logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The format of lines. [`LogFormat::Text`] becomes [`LogFormat::Journal`] if standard error is journald's.
    pub format: LogFormat,
    /// The filters, in `env_logger`'s syntax. The level of targets that they don't name is `info`.
    pub filters: String,
}

/// The running log of the process.
#[derive(Debug)]
pub struct Logging {
    queue: Queue,
    format: LogFormat,
}

impl Logging {
    /// Starts the log's thread, and sends log calls and panic messages to it.
    pub fn start(options: &LogOptions) -> io::Result<Self> {
        let LogOptions { format, filters } = options;
        let format = journal::adapt(*format);
        let queue = Queue::start(io::stderr(), format, &DROPPED_LOG_LINES)?;
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

    /// Reports why the process exits, regardless of the filters.
    pub fn fail(&self, error: &dyn fmt::Display) {
        self.queue.push(&self.format.exit_reason(error));
    }

    /// Waits until all lines are written, but no longer than half a second.
    pub fn finish(self) {
        self.queue.finish(FLUSH_TIMEOUT);
    }
}

/// Reports why the process exits, if the log has not been started. Waits no longer than [`Logging::finish`].
pub fn write_error(error: &dyn fmt::Display) {
    let format = journal::adapt(LogFormat::Text);
    match Queue::start(io::stderr(), format, &DROPPED_LOG_LINES) {
        Ok(queue) => {
            queue.push(&format.exit_reason(error));
            queue.finish(FLUSH_TIMEOUT);
        }
        // Without a thread the message may block, but it is not lost.
        Err(_) => drop(writeln!(io::stderr(), "esker: {error}")),
    }
}

/// Logs panics. The standard library's hook writes directly to standard error: if that is a full pipe, a panic would hang
/// instead of ending the process.
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

    /// Runs in a process of its own, which [`a_panic_is_logged`] starts.
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
