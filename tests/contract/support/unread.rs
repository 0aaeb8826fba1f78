//! A log that is not read: standard error is a full pipe.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};

/// The reading end of a program's standard error.
pub struct UnreadLog {
    reader: BufReader<PipeReader>,
    writer: Option<PipeWriter>,
}

impl UnreadLog {
    /// Starts the command with standard error as a pipe that has room.
    pub fn spawn(command: &mut Command) -> (Child, Self) {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let child = command.stderr(writer.try_clone().expect("it can be cloned")).spawn();
        (child.expect("the binary starts"), Self { reader: BufReader::new(reader), writer: Some(writer) })
    }

    /// Starts the command with standard error as a full pipe.
    pub fn spawn_full(command: &mut Command) -> (Child, Self) {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        fill(&writer);
        let child = command.stderr(writer).spawn().expect("the binary starts");
        (child, Self { reader: BufReader::new(reader), writer: None })
    }

    /// Fills the pipe.
    pub fn fill(&mut self) {
        fill(&self.writer.take().expect("it is filled once"));
    }
}

impl Iterator for UnreadLog {
    type Item = String;

    /// Makes room: returns the next line that is not empty, or `None` once the program has exited.
    fn next(&mut self) -> Option<String> {
        let mut lines = self.reader.by_ref().lines().map(|line| line.expect("the log is UTF-8"));
        lines.find(|line| !line.is_empty())
    }
}

/// Writes empty lines until the pipe is full, through an open file description of its own: only this one is non-blocking.
pub fn fill(writer: &PipeWriter) {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let mut filler = OpenOptions::new().write(true).custom_flags(flags).open(path).expect("it can be opened again");
    for size in [4096, 1] {
        let full = std::iter::repeat_with(|| filler.write(&vec![b'\n'; size])).find_map(Result::err);
        assert_eq!(full.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    }
}
