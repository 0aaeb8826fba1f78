//! A subscriber is a socket and a cursor; nothing is queued for it. What is half written when its
//! socket blocks is kept aside, as a stall, for as long as it blocks.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use crate::sse::{Frame, Framing};
use crate::stream::group::GroupKey;
use crate::stream::replica::{Replica, Source};

/// The seat of a subscriber that has none.
pub const NO_SEAT: u32 = u32::MAX;

/// What a stream is written to.
pub trait Socket: Write {
    /// The socket is full, or has room again. While it is full the kernel must not give the peer up by
    /// itself: its user time-out runs through a closed window even if the peer reads all the time. Who
    /// takes no byte is found by the sweep.
    fn set_patient(&self, is_patient: bool);
}

/// A socket in its stream. 24 bytes with a descriptor for a socket.
#[derive(Debug)]
pub struct Subscriber<S> {
    /// The socket.
    pub socket: S,
    /// Where it belongs.
    pub audience: GroupKey,
    /// The last id given to the socket.
    pub cursor: u64,
    /// Its seat in the audience, or [`NO_SEAT`].
    pub seat: u32,
    /// When the socket last took a byte: the low 32 bits of the worker's milliseconds.
    pub written_at: u32,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All of it.
    All,
    /// The socket's buffer is full after so many bytes; an edge will tell when there is room.
    Blocked(usize),
    /// The peer is gone.
    Gone,
}

impl<S: Socket> Subscriber<S> {
    /// ManualStore slices of `bytes` bytes in all to the socket, in one syscall.
    pub fn write(&mut self, slices: &[IoSlice<'_>], bytes: usize, now: u32) -> WriteOutcome {
        loop {
            // One frame is the usual case, and send(2) of it takes a twelfth less than writev(2).
            let result = match slices {
                [frame] => self.socket.write(frame),
                frames => self.socket.write_vectored(frames),
            };
            match result {
                Ok(0) => return WriteOutcome::Gone,
                Ok(written) => {
                    self.written_at = now;
                    return if written == bytes { WriteOutcome::All } else { WriteOutcome::Blocked(written) };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return WriteOutcome::Blocked(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return WriteOutcome::Gone,
            }
        }
    }
}

/// What is noted of a subscriber without a seat, if there is anything to note.
#[derive(Debug, Default)]
pub struct Backlog {
    /// What was half written.
    pub rest: PartialWrite,
    /// Per feed of its audience, the losses it was told of. Empty once its cursor is beyond them.
    /// With several feeds the cursor can't say it: after a gap it goes on from the oldest frame of
    /// all, which one feed may retain from before the other's losses.
    pub told: Box<[u64]>,
    /// Whether its socket takes no more until an edge tells of room.
    pub is_blocked: bool,
    /// Whether it is leaving.
    pub farewell: Closing,
    /// Whether its socket was told of being full, see [`Socket::set_patient`].
    pub is_patient: bool,
}

impl Backlog {
    /// The losses up to these marks, one per feed, are known; remembered if any is after `cursor`.
    pub fn begin(marks: impl Iterator<Item = u64> + Clone, cursor: u64) -> Self {
        let told = if marks.clone().any(|mark| mark > cursor) { marks.collect() } else { Box::default() };
        Self { told, ..Self::default() }
    }

    /// Whether events after `cursor` are gone from one of the feeds without a word.
    pub fn is_untold(&self, replica: &Replica, source: &Source, cursor: u64) -> bool {
        replica.windows(source).enumerate().any(|(index, window)| {
            let mark = window.evicted_through();
            mark > cursor && self.told.get(index).is_none_or(|&told| mark > told)
        })
    }
}

/// How far a subscriber has come in leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    /// It stays.
    #[default]
    None,
    /// The rest of a frame, and then a last word, are still to be written.
    Owed,
    /// The rest is that of the last word.
    Given,
}

/// The rest of what was half written when a socket blocked.
#[derive(Debug, Default)]
pub enum PartialWrite {
    /// Nothing: it blocked between two frames.
    #[default]
    Nothing,
    /// A frame from this byte on.
    Frame(Arc<Frame>, usize),
    /// Bytes for this socket alone, from this byte on.
    Own(Box<[u8]>, usize),
}

impl PartialWrite {
    /// The bytes still to be written.
    pub fn bytes(&self, framing: Framing) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Frame(frame, offset) => &frame.wire(framing)[*offset..],
            Self::Own(bytes, offset) => &bytes[*offset..],
        }
    }

    /// Whether nothing is half written.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// After `written` more bytes.
    #[must_use]
    pub fn advance(self, written: usize) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Frame(frame, offset) => Self::Frame(frame, offset + written),
            Self::Own(bytes, offset) => Self::Own(bytes, offset + written),
        }
    }
}
