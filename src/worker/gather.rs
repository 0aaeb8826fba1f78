//! From a cursor to the slices of one vectored write: the frames after it, of one feed or several
//! merged by id. One gathering serves every seat that has the same cursor. Knows no socket.

use std::io::IoSlice;
use std::sync::Arc;

use super::replica::{Replica, Source};
use crate::hub::Run;
use crate::sse::{Frame, Framing};

/// At most so many slices go into one write.
pub const MAX_SLICES: usize = 256;
/// A write takes no further frame once it has so many bytes.
pub const MAX_BYTES: usize = 256 << 10;

/// The frames after a cursor that an audience hears, ascending by id.
pub struct Merge<'a> {
    replica: &'a Replica,
    source: &'a Source,
    cursor: u64,
    /// The rest of the only feed's frames, if there is but one: found once, and then walked.
    run: Option<Run<'a>>,
}

impl<'a> Merge<'a> {
    /// Begins after `cursor`.
    pub fn new(replica: &'a Replica, source: &'a Source, cursor: u64) -> Self {
        Self { replica, source, cursor, run: replica.run_after(source, cursor) }
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = &'a Arc<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.run {
            Some(run) => run.next()?,
            None => self.replica.next(self.source, self.cursor)?,
        };
        self.cursor = next.id();
        Some(next)
    }
}

/// Slices ready to be written.
pub struct Gathering<'a> {
    slices: [IoSlice<'a>; MAX_SLICES],
    count: usize,
    prefix: usize,
    /// The sum of the slices' lengths.
    pub bytes: usize,
    /// The cursor that was gathered from.
    pub from: u64,
    /// The cursor once all is written.
    pub to: u64,
    /// Whether more frames follow.
    pub is_truncated: bool,
}

impl<'a> Gathering<'a> {
    /// Gathers `prefix`, if it is not empty, and then the frames after `cursor`.
    pub fn new(prefix: &'a [u8], frames: Merge<'a>, framing: Framing) -> Self {
        let mut gathering = Self::of(prefix, frames.cursor);
        for frame in frames {
            if gathering.count == MAX_SLICES || gathering.bytes >= MAX_BYTES {
                gathering.is_truncated = true;
                break;
            }
            gathering.push(frame.wire(framing));
            gathering.to = frame.id();
        }
        gathering
    }

    /// Gathers `prefix` alone, if it is not empty.
    pub fn of(prefix: &'a [u8], cursor: u64) -> Self {
        let mut gathering = Self {
            slices: [IoSlice::new(&[]); MAX_SLICES],
            count: 0,
            prefix: 0,
            bytes: 0,
            from: cursor,
            to: cursor,
            is_truncated: false,
        };
        if !prefix.is_empty() {
            gathering.push(prefix);
            gathering.prefix = 1;
        }
        gathering
    }

    fn push(&mut self, bytes: &'a [u8]) {
        self.slices[self.count] = IoSlice::new(bytes);
        self.count += 1;
        self.bytes += bytes.len();
    }

    /// What to hand to `write_vectored`.
    pub fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of frames, the prefix not counted.
    pub fn frames(&self) -> usize {
        self.count - self.prefix
    }

    /// Where a short write of `written` bytes stopped.
    pub fn stop_at(&self, written: usize) -> Stop {
        let mut left = written;
        for (index, slice) in self.slices().iter().enumerate() {
            if left < slice.len() {
                return match index.checked_sub(self.prefix) {
                    Some(frames) => Stop::InFrame { frames, offset: left },
                    None => Stop::InPrefix { offset: left },
                };
            }
            left -= slice.len();
        }
        Stop::InFrame { frames: self.frames(), offset: 0 }
    }
}

/// Where a short write stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Within the prefix.
    InPrefix {
        /// So many of its bytes are written.
        offset: usize,
    },
    /// Within a frame, or right before it.
    InFrame {
        /// So many frames are written whole.
        frames: usize,
        /// So many bytes of the next one are.
        offset: usize,
    },
}
