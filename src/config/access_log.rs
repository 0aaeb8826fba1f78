//! The access log's format, and where its lines go.

use std::fmt;
use std::sync::Arc;

use super::Config;
use crate::http::access_log::AccessLogFormat;

/// The access log.
#[derive(Clone)]
pub struct AccessLog {
    /// The format of its lines.
    pub format: AccessLogFormat,
    /// Receives a line, including its newline. Called by workers, so it must not block.
    pub write: Arc<dyn Fn(String) + Send + Sync>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessLog({:?})", self.format)
    }
}

impl Config {
    /// Passes a line for each response to `write`, except for those to the address for [administration](Config::admin). A
    /// stream has a line when it opens. Each line ends with a line feed. `write` is called by the threads that serve all
    /// clients, so it must not block: a channel with a bound, whose excess is dropped, is a good choice. Default: none. The
    /// binary writes the lines to standard output.
    ///
    /// ```
    /// use esker::{AccessLogFormat, Config};
    ///
    /// let (lines, log) = std::sync::mpsc::sync_channel(1000);
    /// let config = Config::new().access_log(AccessLogFormat::Json, move |line| drop(lines.try_send(line)));
    /// std::thread::spawn(move || log.iter().for_each(|line| print!("{line}")));
    /// # drop(config);
    /// ```
    #[must_use]
    pub fn access_log(mut self, format: AccessLogFormat, write: impl Fn(String) + Send + Sync + 'static) -> Self {
        self.access_log = Some(AccessLog { format, write: Arc::new(write) });
        self
    }
}
