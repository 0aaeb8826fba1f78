//! The binary's access log: a bounded queue of lines, which one thread writes to standard output. If nothing reads it, lines are
//! dropped, counted, and reported in the log.

use std::io;

use super::FLUSH_TIMEOUT;
use super::queue::{DropReport, Queue};
use crate::config::Config;
use crate::http::access_log::AccessLogFormat;
use crate::metrics::DROPPED_ACCESS_LOG_LINES;

/// The maximum number of queued lines: about 1 MiB, or 32 MiB if all have the maximum length.
const MAX_QUEUED_LINES: usize = 4096;

/// The running access log of the process.
#[derive(Debug)]
pub struct AccessOutput {
    queue: Queue,
}

impl AccessOutput {
    /// Starts the thread that writes to standard output.
    pub fn start() -> io::Result<Self> {
        let (name, dropped) = ("esker-access", &DROPPED_ACCESS_LOG_LINES);
        let queue = Queue::start_with(name, io::stdout(), MAX_QUEUED_LINES, DropReport::InLog, dropped)?;
        Ok(Self { queue })
    }

    /// Has a broker write its access log here.
    pub fn connect(&self, config: Config, format: AccessLogFormat) -> Config {
        let queue = self.queue.clone();
        config.access_log(format, move |line| queue.push_owned(line.into_bytes()))
    }

    /// Waits until all lines are written, but no longer than half a second.
    pub fn finish(self) {
        self.queue.finish(FLUSH_TIMEOUT);
    }
}
