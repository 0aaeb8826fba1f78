//! How far a command is, on standard error if that is a terminal.

use std::io::{self, BufRead, IsTerminal as _, Read, Write};
use std::time::{Duration, Instant};

/// The shortest time between two outputs.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows the number of records on one line, which is overwritten.
pub(super) struct Progress {
    /// When to show it again. `None` if nobody can see it.
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Shows nothing before the first pause is over.
    pub(super) fn new() -> Self {
        let is_visible = io::stderr().is_terminal();
        Self { next: is_visible.then(|| Instant::now() + PAUSE), is_shown: false }
    }

    /// Shows nothing if the output is a terminal, too, where the two would be mixed.
    pub(super) fn beside_output() -> Self {
        let all = Self::new();
        Self { next: all.next.filter(|_| !io::stdout().is_terminal()), ..all }
    }

    /// Notes the number of records, and shows it if it is time to.
    pub(super) fn tell(&mut self, records: u64) {
        if self.next.is_some_and(|next| Instant::now() >= next) {
            // Progress that can't be shown is no reason to stop.
            let _ = write!(io::stderr(), "\r{records} records");
            self.next = Some(Instant::now() + PAUSE);
            self.is_shown = true;
        }
    }
}

/// Clears the line, so that what follows has one of its own.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Counts the lines that are written or read.
pub(super) struct Counted<T> {
    pub(super) inner: T,
    pub(super) lines: u64,
    pub(super) progress: Progress,
}

impl<T> Counted<T> {
    /// Counts the lines of this input or output.
    pub(super) fn new(inner: T, progress: Progress) -> Self {
        Self { inner, lines: 0, progress }
    }

    fn count(&mut self, lines: usize) {
        self.lines += lines as u64;
        self.progress.tell(self.lines);
    }
}

fn lines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count(lines(&bytes[..written.min(bytes.len())]));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: BufRead> Read for Counted<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.count(lines(&bytes[..read.min(bytes.len())]));
        Ok(read)
    }
}

impl<T: BufRead> BufRead for Counted<T> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is consumed is in the buffer, so that this reads nothing.
        let consumed = self.inner.fill_buf().map_or(0, |bytes| lines(&bytes[..amount.min(bytes.len())]));
        self.inner.consume(amount);
        self.count(consumed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted() {
        let hidden = || Progress { next: None, is_shown: false };
        let mut output = Counted::new(Vec::new(), hidden());
        output.write_all(b"a\nb\nc").unwrap();
        assert_eq!((output.lines, output.inner.len()), (2, 5));
        let mut input = Counted::new(&b"a\nb\nc"[..], hidden());
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        assert_eq!((input.lines, line.as_str()), (1, "a\n"));
        input.read_to_string(&mut line).unwrap();
        assert_eq!((input.lines, line.as_str()), (2, "a\nb\nc"));
    }
}
