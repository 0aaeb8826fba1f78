//! What is left of a write that a full socket interrupted.

use std::borrow::Cow;
use std::sync::Arc;

use super::pinned::PinKey;
use crate::records::Record;
use crate::sse::{Frame, Framing, push_head, push_tail};

/// The bytes that must be written before anything else.
#[derive(Debug, Default)]
pub enum PartialWrite {
    /// None: the socket blocked between two frames.
    #[default]
    Nothing,
    /// A frame from this byte on.
    Frame(Arc<Frame>, usize),
    /// A record.
    Record {
        /// The record, which is usually in the hub as well. It is encoded again when the socket has room.
        record: Arc<Record>,
        /// The number of its bytes that are written.
        offset: usize,
        /// Whether the hub has it no longer.
        is_superseded: bool,
    },
    /// Bytes for this socket alone, from this byte on.
    Own(Box<[u8]>, usize),
}

impl PartialWrite {
    /// Returns what is left of a record that is the newest of its name.
    pub fn of_record(record: &Arc<Record>, offset: usize) -> Self {
        Self::Record { record: Arc::clone(record), offset, is_superseded: false }
    }

    /// Returns the bytes left.
    pub fn remaining(&self, framing: Framing) -> Remaining<'_> {
        match self {
            Self::Nothing => Remaining::default(),
            Self::Frame(frame, offset) => Remaining::of(&frame.wire(framing)[*offset..]),
            Self::Own(bytes, offset) => Remaining::of(&bytes[*offset..]),
            Self::Record { record, offset, .. } => Remaining::of_record(record, *offset, framing),
        }
    }

    /// Returns whether no bytes are left.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Returns the frame that is partly written, if it is one.
    pub fn frame(&self) -> Option<&Arc<Frame>> {
        match self {
            Self::Frame(frame, _) => Some(frame),
            Self::Nothing | Self::Own(..) | Self::Record { .. } => None,
        }
    }

    /// Returns the record that is partly written, if it is one.
    pub fn record(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Record { record, .. } => Some(record),
            Self::Nothing | Self::Frame(..) | Self::Own(..) => None,
        }
    }

    /// Returns what is kept in memory that others may share, and the bytes of memory that it takes.
    pub(super) fn pinned(&self) -> Option<(PinKey, usize)> {
        match self {
            Self::Frame(frame, _) => Some((PinKey::new(frame.id(), &**frame), frame.cost())),
            Self::Record { record, .. } => {
                Some((PinKey::new(record.id, &**record), record.name.len() + record.data.len()))
            }
            Self::Nothing | Self::Own(..) => None,
        }
    }

    /// Returns what is left after `written` more bytes.
    #[must_use]
    pub fn advance(self, written: usize) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Frame(frame, offset) => Self::Frame(frame, offset + written),
            Self::Record { record, offset, is_superseded } => {
                Self::Record { record, offset: offset + written, is_superseded }
            }
            Self::Own(bytes, offset) => Self::Own(bytes, offset + written),
        }
    }
}

/// The bytes left of a partial write. Those of a record are in three parts, so that its data need not be copied.
#[derive(Debug, Default)]
pub struct Remaining<'a> {
    head: Cow<'a, [u8]>,
    data: &'a [u8],
    tail: Vec<u8>,
}

impl<'a> Remaining<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { head: Cow::Borrowed(bytes), ..Self::default() }
    }

    fn of_record(record: &'a Record, offset: usize, framing: Framing) -> Self {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        push_head(record, framing, &mut head);
        push_tail(record, framing, &mut tail);
        let mut data = record.data.as_bytes();
        let in_head = offset.min(head.len());
        let in_data = (offset - in_head).min(data.len());
        head.drain(..in_head);
        data = &data[in_data..];
        tail.drain(..(offset - in_head - in_data).min(tail.len()));
        Self { head: Cow::Owned(head), data, tail }
    }

    /// Returns the parts; some may be empty.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.head, self.data, &self.tail]
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::encode_record;

    #[test]
    fn what_is_left_of_a_record_begins_at_any_byte() {
        let record = Record::shared("user", "{\"n\":1}", 77);
        for framing in [Framing::Chunked, Framing::Plain] {
            let mut all = Vec::new();
            encode_record(&record, framing, &mut all);
            for offset in 0..all.len() {
                let partial = PartialWrite::of_record(&record, 0).advance(offset);
                let remaining = partial.remaining(framing);
                assert_eq!((remaining.parts().concat(), remaining.len()), (all[offset..].to_vec(), all.len() - offset));
            }
        }
    }
}
