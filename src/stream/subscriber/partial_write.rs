//! What is left of a write that a full socket interrupted.

use std::sync::Arc;

use crate::sse::{Frame, Framing};

/// The bytes that must be written before anything else.
#[derive(Debug, Default)]
pub enum PartialWrite {
    /// None: the socket blocked between two frames.
    #[default]
    Nothing,
    /// A frame from this byte on.
    Frame(Arc<Frame>, usize),
    /// Bytes for this socket alone, from this byte on.
    Own(Box<[u8]>, usize),
}

impl PartialWrite {
    /// Returns the bytes left.
    pub fn bytes(&self, framing: Framing) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Frame(frame, offset) => &frame.wire(framing)[*offset..],
            Self::Own(bytes, offset) => &bytes[*offset..],
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
            Self::Nothing | Self::Own(..) => None,
        }
    }

    /// Returns what is left after `written` more bytes.
    #[must_use]
    pub fn advance(self, written: usize) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Frame(frame, offset) => Self::Frame(frame, offset + written),
            Self::Own(bytes, offset) => Self::Own(bytes, offset + written),
        }
    }
}
