//! From a cursor to the slices of one vectored write: the frames after it, of one feed or several
//! merged by id. One gathering serves every seat that has the same cursor. Knows no socket.

use std::io::IoSlice;
use std::sync::Arc;

use crate::hub::Run;
use crate::sse::{Frame, Framing};
use crate::stream::replica::{Replica, Source};

/// At most so many slices go into one write.
pub const MAX_SLICES: usize = 256;
/// A write takes no further frame once it has so many bytes.
pub const MAX_BYTES: usize = 256 << 10;
/// No cursor: ids are microseconds.
const NOTHING: u64 = u64::MAX;

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
pub struct WriteBatch<'a> {
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

impl<'a> WriteBatch<'a> {
    /// Nothing is gathered yet. Four kilobytes: made once and filled in place.
    #[inline]
    pub fn of_nothing() -> Self {
        let slices = [IoSlice::new(&[]); MAX_SLICES];
        Self { slices, count: 0, prefix: 0, bytes: 0, from: NOTHING, to: NOTHING, is_truncated: false }
    }

    /// Gathers `prefix`, if it is not empty, and then the frames after `cursor`, in place of what was gathered.
    pub fn fill(&mut self, prefix: &'a [u8], frames: Merge<'a>, framing: Framing) {
        self.begin(prefix, frames.cursor);
        for frame in frames {
            if self.count == MAX_SLICES || self.bytes >= MAX_BYTES {
                self.is_truncated = true;
                break;
            }
            self.push(frame.wire(framing));
            self.to = frame.id();
        }
    }

    /// Gathers `prefix` alone, if it is not empty, in place of what was gathered.
    pub fn begin(&mut self, prefix: &'a [u8], cursor: u64) {
        (self.count, self.prefix, self.bytes, self.is_truncated) = (0, 0, 0, false);
        (self.from, self.to) = (cursor, cursor);
        if !prefix.is_empty() {
            self.push(prefix);
            self.prefix = 1;
        }
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
