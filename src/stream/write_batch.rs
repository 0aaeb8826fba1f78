//! Collects the frames after a cursor, of one feed or of several merged by id, into the slices of one vectored write. One
//! batch serves every ready subscriber with the same cursor. Independent of sockets.

use std::io::IoSlice;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::hub::Run;
use crate::sse::{Frame, Framing};
use crate::stream::replica::{Replica, Source};
use crate::stream::subscriber::PartialWrite;

/// The slices of one write.
const MAX_SLICES: usize = 256;
/// Once a batch has this many bytes, no further frame is added.
const MAX_BYTES: usize = 256 << 10;
/// Not a cursor: ids are microseconds.
const NO_CURSOR: u64 = u64::MAX;

/// The frames of a source after a cursor, ascending by id.
pub struct Merge<'a> {
    replica: &'a Replica,
    source: &'a Source,
    cursor: u64,
    /// The cursor before the first frame, to which the frames' ids are added.
    base: u64,
    /// The remaining frames if the source is a single feed: found once, and then iterated.
    run: Option<Run<'a>>,
}

impl<'a> Merge<'a> {
    /// Creates an iterator that begins after `cursor`.
    pub fn new(replica: &'a Replica, source: &'a Source, cursor: u64) -> Self {
        Self { replica, source, cursor, base: replica.cursor(source, 0), run: replica.run_after(source, cursor) }
    }
}

impl Merge<'_> {
    /// Returns what is left of one of the frames. Of a record's, only the record is kept, as the hub has it as well.
    fn partial(&self, frame: &Arc<Frame>, offset: usize) -> PartialWrite {
        let Some(record) = frame.record() else { return PartialWrite::Frame(Arc::clone(frame), offset) };
        let is_superseded = self.replica.records().is_superseded(frame);
        PartialWrite::Record { record: Arc::clone(record), offset, is_superseded }
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = &'a Arc<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.run {
            Some(run) => run.next()?,
            None => self.replica.next(self.source, self.cursor)?,
        };
        debug_assert!(self.base + next.id() > self.cursor, "frames ascend");
        self.cursor = self.base + next.id();
        Some(next)
    }
}

/// Slices for one write: an optional prefix, then frames, then the stream's end if the write is its last.
pub struct WriteBatch<'a> {
    slices: ArrayVec<IoSlice<'a>, { MAX_SLICES + 1 }>,
    /// The number of slices that are the prefix.
    prefix: usize,
    bytes: usize,
    /// The last slice, if it is the stream's end; otherwise empty.
    end: &'a [u8],
    from: u64,
    to: u64,
    is_truncated: bool,
}

impl<'a> WriteBatch<'a> {
    /// Creates an empty batch that belongs to no cursor. It takes four kilobytes, so it is refilled in place.
    #[inline]
    pub fn new() -> Self {
        let slices = ArrayVec::new_const();
        Self { slices, prefix: 0, bytes: 0, end: &[], from: NO_CURSOR, to: NO_CURSOR, is_truncated: false }
    }

    /// Replaces the content with `prefix`, except for empty parts, and then as many of the frames as fit.
    pub fn fill(&mut self, prefix: &[&'a [u8]], mut frames: Merge<'a>, framing: Framing) {
        self.fill_with_prefix(prefix, frames.cursor);
        while let Some(frame) = frames.next() {
            if self.slices.len() >= MAX_SLICES || self.bytes >= MAX_BYTES {
                self.is_truncated = true;
                break;
            }
            self.push(frame.wire(framing));
            self.to = frames.cursor;
        }
    }

    /// Replaces the content with `prefix` alone, except for empty parts.
    pub fn fill_with_prefix(&mut self, prefix: &[&'a [u8]], cursor: u64) {
        self.slices.clear();
        (self.prefix, self.bytes, self.is_truncated) = (0, 0, false);
        (self.from, self.to, self.end) = (cursor, cursor, &[]);
        for part in prefix.iter().filter(|part| !part.is_empty()) {
            self.push(part);
            self.prefix += 1;
        }
    }

    /// Adds the stream's end, unless it is empty. Nothing else may be added then.
    pub fn end_with(&mut self, end: &'a [u8]) {
        if !end.is_empty() {
            self.push(end);
            self.end = end;
        }
    }

    fn push(&mut self, bytes: &'a [u8]) {
        self.slices.push(IoSlice::new(bytes));
        self.bytes += bytes.len();
    }

    /// Returns the slices to write.
    #[inline]
    pub fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices
    }

    /// Returns the sum of the slices' lengths.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the cursor after which the frames begin.
    #[inline]
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Returns the cursor once everything is written.
    #[inline]
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Returns whether more frames follow that did not fit.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Returns whether there is nothing to write.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Returns the number of frames, without the prefix and the stream's end.
    #[inline]
    pub fn frames(&self) -> usize {
        self.slices.len() - self.prefix - usize::from(!self.end.is_empty())
    }

    /// Returns where a write of only `written` bytes stopped.
    pub fn stop_at(&self, written: usize) -> Stop {
        let (mut left, mut before) = (written, 0);
        for (index, slice) in self.slices().iter().enumerate() {
            if left < slice.len() {
                return match index.checked_sub(self.prefix) {
                    Some(frames) if frames == self.frames() => Stop::End { frames, offset: left },
                    Some(frames) => Stop::Frame { frames, offset: left },
                    None => Stop::Prefix { offset: before + left },
                };
            }
            left -= slice.len();
            before += slice.len();
        }
        Stop::Frame { frames: self.frames(), offset: 0 }
    }
}

/// Where a full socket interrupted the write of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Within the prefix.
    Prefix {
        /// The number of its bytes that are written.
        offset: usize,
    },
    /// Within a frame, or right before it.
    Frame {
        /// The number of frames that are completely written.
        frames: usize,
        /// The number of bytes of the next frame that are written.
        offset: usize,
    },
    /// Within the stream's end, or right before it.
    End {
        /// The number of frames, all of which are written.
        frames: usize,
        /// The number of bytes of the end that are written.
        offset: usize,
    },
}

/// What an interrupted write leaves behind.
#[derive(Debug)]
pub struct Remainder {
    /// The bytes to write next.
    pub partial: PartialWrite,
    /// The number of frames written. A frame that is partly written counts, because its remaining bytes are kept.
    pub frames: usize,
    /// The cursor after the last of these frames, or that before the write.
    pub cursor: u64,
}

impl Stop {
    /// Returns the remainder of a batch that was filled with `prefix`, `frames` and the stream's `end`.
    pub fn remainder(self, prefix: PartialWrite, mut frames: Merge<'_>, end: &[u8]) -> Remainder {
        let (count, offset) = match self {
            Self::Prefix { offset } => {
                return Remainder { partial: prefix.advance(offset), frames: 0, cursor: frames.cursor };
            }
            Self::Frame { frames, offset } => (frames, offset),
            Self::End { frames: count, offset } => {
                frames.by_ref().take(count).for_each(drop);
                let partial = PartialWrite::Own(end.into(), offset);
                return Remainder { partial, frames: count, cursor: frames.cursor };
            }
        };
        frames.by_ref().take(count).for_each(drop);
        let cut = if offset > 0 { frames.next() } else { None };
        Remainder {
            partial: cut.map_or(PartialWrite::Nothing, |frame| frames.partial(frame, offset)),
            frames: count + usize::from(cut.is_some()),
            cursor: frames.cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{JoinedTopic, TopicId};
    use crate::sse::UnsequencedFrame;

    /// A replica with one topic of three events, with the ids 1 to 3, and the topic's source.
    fn three_events() -> (Replica, Source) {
        let frame = |id: u64| {
            let mut writer = UnsequencedFrame::writer(9);
            writer.field("data", &"x".repeat(id as usize));
            writer.finish(None).assign_id(id)
        };
        let topic = TopicId { serial: 1, slot: 0 };
        let mut replica = Replica::new(9);
        replica.open_feed(JoinedTopic { id: topic, evicted_through: 0, backlog: Some((1..=3).map(frame).collect()) });
        let source = replica.topics_source(&[topic]);
        (replica, source)
    }

    #[test]
    fn an_interrupted_write_continues_at_the_next_byte_wherever_it_stopped() {
        let (replica, source) = three_events();
        for prefix in ["", "prefix"] {
            let frames = |cursor| Merge::new(&replica, &source, cursor);
            let mut batch = WriteBatch::new();
            batch.fill(&[prefix.as_bytes()], frames(0), Framing::Chunked);
            let all: Vec<u8> = batch.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!((batch.frames(), batch.bytes(), batch.to()), (3, all.len(), 3));
            for written in 0..all.len() {
                let partial = PartialWrite::Own(prefix.as_bytes().into(), 0);
                let remainder = batch.stop_at(written).remainder(partial, frames(0), &[]);
                let mut rest = remainder.partial.remaining(Framing::Chunked).parts().concat();
                frames(remainder.cursor).for_each(|frame| rest.extend_from_slice(frame.wire(Framing::Chunked)));
                assert_eq!(rest, all[written..], "after {written} bytes");
                assert_eq!(remainder.frames, remainder.cursor as usize, "after {written} bytes");
                assert!(written >= prefix.len() || remainder.frames == 0, "after {written} bytes");
            }
        }
    }
}
