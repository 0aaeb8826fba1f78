//! The log's queue, and the thread that writes it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::Level;

use super::LogFormat;

/// The maximum number of queued lines: 4 MiB with messages of maximum length.
const MAX_QUEUED_LINES: usize = 1024;
/// The pause before the next attempt to write, if standard error is a full pipe in non-blocking mode.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How a log reports that lines were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum DropReport {
    /// By a line of its own, in place of those that were dropped.
    InPlace(LogFormat),
    /// By a line of the process's log, once nothing is queued: a line of its own would not have its format.
    InLog,
}

/// A handle to the log's thread. Each write is one line. Writing never blocks; if the queue is full, the line is dropped and
/// counted.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    items: Sender<Item>,
    /// Dropped lines that the log has not reported yet.
    unreported: Arc<AtomicU64>,
    dropped: &'static AtomicU64,
}

#[derive(Debug)]
enum Item {
    Line {
        /// Lines dropped since the previous line.
        dropped_before: u64,
        text: Vec<u8>,
    },
    /// Asks the thread to reply once all previous items are written.
    Flush(Sender<()>),
}

impl Queue {
    /// Starts the thread that writes to `out`. `dropped` counts the dropped lines.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        format: LogFormat,
        dropped: &'static AtomicU64,
    ) -> io::Result<Self> {
        Self::start_with("esker-log", out, MAX_QUEUED_LINES, DropReport::InPlace(format), dropped)
    }

    /// Starts a thread with this name that writes to `out`, and queues up to `max_lines` lines for it.
    pub(super) fn start_with(
        name: &str,
        out: impl Write + Send + 'static,
        max_lines: usize,
        report: DropReport,
        dropped: &'static AtomicU64,
    ) -> io::Result<Self> {
        let (items, queued) = bounded(max_lines);
        let unreported = Arc::new(AtomicU64::new(0));
        let mut writer = Writer { out, report, unreported: Arc::clone(&unreported) };
        std::thread::Builder::new().name(name.into()).spawn(move || writer.run(&queued))?;
        Ok(Self { items, unreported, dropped })
    }

    /// Queues one line, which must include its line end.
    pub(super) fn push(&self, text: &[u8]) {
        self.push_owned(text.to_owned());
    }

    /// Queues one line like [`Queue::push`], without copying it.
    pub(super) fn push_owned(&self, text: Vec<u8>) {
        let dropped_before = self.unreported.swap(0, Ordering::Relaxed);
        if self.items.try_send(Item::Line { dropped_before, text }).is_err() {
            self.unreported.fetch_add(dropped_before + 1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all queued lines are written. Waits up to `timeout` for space in the queue, and again for the writing.
    pub(super) fn finish(&self, timeout: Duration) {
        let (done, is_done) = bounded(1);
        if self.items.send_timeout(Item::Flush(done), timeout).is_ok() {
            let _ = is_done.recv_timeout(timeout);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    /// Does nothing, because log calls never wait.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    out: W,
    report: DropReport,
    unreported: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(&mut self, queued: &Receiver<Item>) {
        for item in queued {
            match item {
                Item::Line { dropped_before, text } => {
                    self.report_before(dropped_before);
                    self.write(&text);
                }
                Item::Flush(done) => {
                    self.report_rest();
                    let _ = done.send(());
                }
            }
            // The next line, which would report them, may be hours away.
            if queued.is_empty() {
                self.report_rest();
            }
        }
    }

    /// Reports lines that were dropped before the next one, or leaves that until nothing is queued.
    fn report_before(&mut self, dropped: u64) {
        match self.report {
            DropReport::InPlace(_) => self.report(dropped),
            DropReport::InLog => {
                self.unreported.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }

    fn report_rest(&mut self) {
        let dropped = self.unreported.swap(0, Ordering::Relaxed);
        self.report(dropped);
    }

    fn report(&mut self, dropped: u64) {
        match self.report {
            _ if dropped == 0 => {}
            DropReport::InPlace(format) => {
                let message = format!("{dropped} log lines were dropped here because nothing read the log fast enough");
                let line = format.line(Level::Warn, "esker::logging", &message);
                self.write(&line);
            }
            DropReport::InLog => log::warn!(
                "{dropped} lines of the access log were dropped because nothing read standard output fast enough"
            ),
        }
    }

    /// Writes all bytes, however long that takes. Gives up on errors such as a closed pipe, which has no reader.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return,
                Ok(count) => bytes = &bytes[count..],
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
                    _ => return,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts one write for each token in the channel, and forwards what was written.
    struct Gate {
        tokens: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.tokens.recv() {
                Ok(()) => {
                    let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
                    Ok(bytes.len())
                }
                Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Queue, &'static AtomicU64, Sender<()>, Receiver<String>) {
        let dropped: &'static AtomicU64 = Box::leak(Box::default());
        let (token, tokens) = crossbeam_channel::unbounded();
        let (written, lines) = crossbeam_channel::unbounded();
        (Queue::start(Gate { tokens, written }, LogFormat::Text, dropped).unwrap(), dropped, token, lines)
    }

    #[test]
    fn a_full_queue_drops_lines_and_reports_how_many() {
        let (queue, dropped, token, lines) = gated();
        queue.push(b"held\n");
        // Wait until the thread has removed it, so that the queue is empty.
        while !queue.items.is_empty() {
            std::thread::yield_now();
        }
        let excess = 7;
        (0..MAX_QUEUED_LINES + excess).for_each(|number| queue.push(format!("{number}\n").as_bytes()));
        assert_eq!(dropped.load(Ordering::Relaxed), excess as u64);
        (0..2).for_each(|_| token.send(()).unwrap());
        assert_eq!([lines.recv().unwrap(), lines.recv().unwrap()], ["held\n", "0\n"]);
        queue.push(b"fits\n");
        (0..MAX_QUEUED_LINES + 1).for_each(|_| token.send(()).unwrap());
        queue.finish(Duration::from_secs(60));
        let rest: Vec<_> = lines.try_iter().collect();
        assert_eq!(rest.len(), MAX_QUEUED_LINES + 1, "{rest:?}");
        assert!(rest[MAX_QUEUED_LINES - 1].contains(" 7 log lines were dropped"), "{rest:?}");
        assert_eq!(rest[MAX_QUEUED_LINES], "fits\n");
    }

    #[test]
    fn dropped_lines_are_reported_even_if_no_line_follows() {
        let (queue, _, token, lines) = gated();
        (0..2 * MAX_QUEUED_LINES).for_each(|_| queue.push(b"x\n"));
        (0..2 * MAX_QUEUED_LINES).for_each(|_| token.send(()).unwrap());
        let report = lines.iter().find(|line| line != "x\n").unwrap();
        assert!(report.contains("were dropped"), "{report}");
    }

    #[test]
    fn finishing_does_not_wait_for_a_blocked_log() {
        let (queue, dropped, token, lines) = gated();
        (0..2 * MAX_QUEUED_LINES).for_each(|_| queue.push(b"x\n"));
        queue.finish(Duration::from_millis(10));
        assert!(dropped.load(Ordering::Relaxed) >= MAX_QUEUED_LINES as u64 - 1 && lines.is_empty());
        // It does not wait for a closed one either.
        drop(token);
        queue.finish(Duration::from_secs(60));
        assert!(queue.items.is_empty());
    }
}
