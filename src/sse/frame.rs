//! The wire bytes of one event, encoded once as a complete HTTP chunk and then shared by the sockets of all workers.
//! [`UnsequencedFrame`] reserves room at both ends of the buffer for the chunk's framing and the id, so that
//! [`UnsequencedFrame::assign_id`] turns it into a [`Frame`] without copying:
//!
//! ```text
//! chunk size CRLF | comments, retry, event, data lines | id line LF | CRLF
//! room reserved   | written by the publisher's worker  | room reserved
//! ```

use std::io::Write as _;
use std::sync::Arc;

use super::lines::{LinesError, check_lines};
use super::position::position;
use crate::records::Record;

/// The memory of a retained frame beyond its bytes: the shared allocation and its entries in feeds and inboxes.
pub const FRAME_OVERHEAD: usize = 128;
/// The memory of a publisher id beyond its length and its bytes on the wire: an allocation, its entry in the topic's index, and
/// the allocator's overhead for both.
const PUBLISHER_ID_OVERHEAD: usize = 110;

/// Room for the chunk-size line (RFC 9112 section 7.1): eight hexadecimal digits and CRLF.
const HEADER_ROOM: usize = 10;
/// Room for `id: ` and 20 digits, LF, the blank line, and the CRLF that ends the chunk.
const TRAILER_ROOM: usize = 4 + 20 + 1 + 1 + 2;
/// The most bytes of lines for which there is room for the chunk's size.
const MAX_LINES: usize = u32::MAX as usize - TRAILER_ROOM;

/// How the body of a stream's response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// HTTP/1.1: `Transfer-Encoding: chunked`.
    Chunked,
    /// HTTP/1.0: the bytes without framing; the body ends when the connection is closed.
    Plain,
}

/// An event's immutable wire bytes, and its id.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// The index in `bytes` of the first digit of the chunk's size.
    start: u8,
    id: u64,
    label: Label,
}

/// What identifies an event besides its broker id.
#[derive(Debug)]
pub(super) enum Label {
    /// Nothing.
    None,
    /// The id that the publisher assigned.
    PublisherId(Arc<str>),
    /// The event is this version of a record.
    Record(Arc<Record>),
    /// The record's name; the event says that its newest version was erased.
    Erased(Arc<str>),
}

impl Frame {
    /// Returns the id that the broker assigned, which defines the order of events.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the id that the publisher assigned, without surrounding whitespace. It replaces the broker's id on the wire.
    pub fn publisher_id(&self) -> Option<&Arc<str>> {
        match &self.label {
            Label::PublisherId(id) => Some(id),
            Label::None | Label::Record(_) | Label::Erased(_) => None,
        }
    }

    /// Returns the name of the record of which the event is a version, or of which it says that the newest was erased.
    pub fn name(&self) -> Option<&Arc<str>> {
        match &self.label {
            Label::Record(record) => Some(&record.name),
            Label::Erased(name) => Some(name),
            Label::None | Label::PublisherId(_) => None,
        }
    }

    /// Returns the record of which the event is a version.
    pub fn record(&self) -> Option<&Arc<Record>> {
        match &self.label {
            Label::Record(record) => Some(record),
            Label::None | Label::PublisherId(_) | Label::Erased(_) => None,
        }
    }

    /// Returns whether the event says that the newest version of a record was erased.
    pub fn is_erasure(&self) -> bool {
        matches!(self.label, Label::Erased(_))
    }

    /// Returns the bytes to write to a stream.
    pub fn wire(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.bytes[usize::from(self.start)..],
            Framing::Plain => &self.bytes[HEADER_ROOM..self.bytes.len() - 2],
        }
    }

    /// Returns the lines without the broker's id, as [`UnsequencedFrame::lines`] returned them before it was assigned.
    pub fn lines(&self) -> &[u8] {
        let id_line = match &self.label {
            Label::PublisherId(_) => 0,
            Label::None | Label::Record(_) | Label::Erased(_) => {
                "id: \n".len() + itoa::Buffer::new().format(self.id).len()
            }
        };
        // The blank line and the end of the chunk follow.
        &self.bytes[HEADER_ROOM..self.bytes.len() - 3 - id_line]
    }

    /// Returns the memory that the frame uses, in bytes.
    pub fn cost(&self) -> usize {
        let publisher_id = self.publisher_id().map_or(0, |id| id.len() + PUBLISHER_ID_OVERHEAD);
        self.bytes.capacity() + FRAME_OVERHEAD + publisher_id
    }
}

/// A frame whose id is not assigned yet.
#[derive(Debug)]
pub struct UnsequencedFrame(Arc<Frame>);

impl UnsequencedFrame {
    /// Starts to encode an event whose lines take about `capacity` bytes.
    pub fn writer(capacity: usize) -> FrameWriter {
        let mut bytes = Vec::with_capacity(HEADER_ROOM + capacity + TRAILER_ROOM);
        bytes.resize(HEADER_ROOM, 0);
        FrameWriter { bytes }
    }

    /// Encodes an event from its parts, in the order of the wire. `first_lines` and `data_lines` are complete lines.
    pub fn assemble(first_lines: &[u8], name: Option<&str>, data_lines: &[u8], publisher_id: Option<&str>) -> Self {
        let name_len = name.map_or(0, |name| "event: \n".len() + name.len());
        let id_len = publisher_id.map_or(0, str::len);
        let mut writer = Self::writer(first_lines.len() + name_len + data_lines.len() + id_len);
        writer.bytes.extend_from_slice(first_lines);
        if let Some(name) = name {
            writer.field("event", name);
        }
        writer.bytes.extend_from_slice(data_lines);
        writer.finish(publisher_id)
    }

    /// Creates a frame from what [`UnsequencedFrame::lines`] and [`UnsequencedFrame::publisher_id`] returned. The bytes may come
    /// from anywhere: those that would break the framing of a stream are refused.
    pub fn from_lines(lines: &[u8], publisher_id: Option<&str>) -> Result<Self, LinesError> {
        check_lines(lines, publisher_id, MAX_LINES)?;
        // With a publisher's id among the lines, only the blank line and the end of the chunk follow.
        let room = if publisher_id.is_some() { lines.len().saturating_sub(TRAILER_ROOM - 3) } else { lines.len() };
        let mut writer = Self::writer(room);
        writer.bytes.extend_from_slice(lines);
        Ok(writer.label(publisher_label(publisher_id)))
    }

    /// Creates a frame as [`UnsequencedFrame::from_lines`] does. If there is a publisher id, the last line is taken for it.
    pub fn restore(lines: &[u8], has_publisher_id: bool) -> Result<Self, LinesError> {
        if !has_publisher_id {
            return Self::from_lines(lines, None);
        }
        let terminated = lines.strip_suffix(b"\n").ok_or(LinesError::Unterminated)?;
        let last = memchr::memrchr(b'\n', terminated).map_or(terminated, |end| &terminated[end + 1..]);
        let id = last.strip_prefix(b"id: ").ok_or(LinesError::Id)?;
        Self::from_lines(lines, Some(std::str::from_utf8(id).map_err(|_| LinesError::Encoding)?))
    }

    /// Returns the encoded lines, of which the publisher's id, if there is one, is the last.
    pub fn lines(&self) -> &[u8] {
        &self.0.bytes[HEADER_ROOM..]
    }

    /// Returns the id that the publisher assigned.
    pub fn publisher_id(&self) -> Option<&str> {
        self.0.publisher_id().map(|id| &**id)
    }

    /// Returns the memory that the frame will use, in bytes.
    pub fn cost(&self) -> usize {
        self.0.cost()
    }

    /// Returns the frame with this id. Neither allocates nor copies, because it is called while the hub's lock is held.
    pub fn assign_id(mut self, id: u64) -> Arc<Frame> {
        debug_assert_eq!(Arc::strong_count(&self.0), 1, "an unsequenced frame is shared");
        // Always succeeds: an unsequenced frame is never shared.
        if let Some(frame) = Arc::get_mut(&mut self.0) {
            let capacity = frame.bytes.capacity();
            frame.id = id;
            if frame.publisher_id().is_none() {
                push_id(&mut frame.bytes, id);
            }
            frame.close();
            debug_assert_eq!(frame.bytes.capacity(), capacity, "assigning an id reallocated");
        }
        self.0
    }
}

impl Frame {
    /// Ends the event and the chunk, and writes the chunk's size immediately before the payload.
    fn close(&mut self) {
        self.bytes.push(b'\n');
        let size = self.bytes.len() - HEADER_ROOM;
        debug_assert!(u32::try_from(size).is_ok(), "the size has more than eight hexadecimal digits");
        self.bytes.extend_from_slice(b"\r\n");
        let mut digits = size;
        let mut start = HEADER_ROOM - 2;
        self.bytes[start..HEADER_ROOM].copy_from_slice(b"\r\n");
        loop {
            start -= 1;
            self.bytes[start] = b"0123456789abcdef"[digits & 15];
            digits >>= 4;
            if digits == 0 {
                break;
            }
        }
        self.start = start as u8;
    }
}

/// Writes an event's lines one after the other. The id is written last, by [`FrameWriter::finish`] or when it is assigned.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
}

impl FrameWriter {
    /// Writes a field. Every parser drops the one space after the colon, and some naive parsers require it.
    pub fn field(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    /// Returns the frame. The publisher id, if there is one, replaces the broker's id on the wire.
    pub fn finish(mut self, publisher_id: Option<&str>) -> UnsequencedFrame {
        if let Some(id) = publisher_id {
            self.field("id", id);
        }
        self.label(publisher_label(publisher_id))
    }

    /// Returns the frame of what was written.
    pub(super) fn label(self, label: Label) -> UnsequencedFrame {
        UnsequencedFrame(Arc::new(Frame { bytes: self.bytes, start: 0, id: 0, label }))
    }
}

fn publisher_label(publisher_id: Option<&str>) -> Label {
    publisher_id.map_or(Label::None, |id| Label::PublisherId(position(id).into()))
}

fn push_id(bytes: &mut Vec<u8>, id: u64) {
    bytes.extend_from_slice(b"id: ");
    bytes.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    bytes.push(b'\n');
}

/// Appends bytes that the broker itself sends, such as a gap event, as one chunk (RFC 9112 section 7.1) or without framing.
pub fn chunk(payload: &[u8], framing: Framing, out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        // Writing to a vector never fails.
        let _ = write!(out, "{:x}\r\n", payload.len());
    }
    out.extend_from_slice(payload);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unsequenced(data: &str, publisher_id: Option<&str>) -> UnsequencedFrame {
        let id_len = publisher_id.map_or(0, str::len);
        let mut writer = UnsequencedFrame::writer(data.len() + 7 + id_len);
        writer.field("data", data);
        writer.finish(publisher_id)
    }

    #[test]
    fn a_frame_is_one_chunk_that_ends_with_the_id() {
        let frame = unsequenced("hello", None).assign_id(1_763_000_000_000_000);
        assert_eq!(frame.wire(Framing::Plain), b"data: hello\nid: 1763000000000000\n\n");
        assert_eq!(frame.wire(Framing::Chunked), b"22\r\ndata: hello\nid: 1763000000000000\n\n\r\n");
    }

    #[test]
    fn a_publisher_id_replaces_the_brokers_id_on_the_wire() {
        let frame = unsequenced("x", Some("mine")).assign_id(7);
        assert_eq!(frame.wire(Framing::Plain), b"data: x\nid: mine\n\n");
        assert_eq!((frame.id(), frame.publisher_id().map(|id| &**id)), (7, Some("mine")));
    }

    #[test]
    fn a_frame_survives_the_way_through_a_log() {
        for (data, publisher_id) in [("hello", None), ("", Some(" mine\t")), ("a\0b", Some("7")), ("é", None)] {
            let original = unsequenced(data, publisher_id);
            let copy = UnsequencedFrame::from_lines(original.lines(), original.publisher_id()).unwrap();
            assert_eq!((copy.lines(), copy.publisher_id()), (original.lines(), original.publisher_id()));
            let before = copy.cost();
            let restored = UnsequencedFrame::restore(original.lines(), publisher_id.is_some()).unwrap();
            assert_eq!((restored.lines(), restored.publisher_id()), (original.lines(), original.publisher_id()));
            let lines = original.lines().to_vec();
            let (original, copy) = (original.assign_id(u64::MAX), copy.assign_id(u64::MAX));
            assert_eq!(original.lines(), lines, "the lines are still there");
            assert_eq!(copy.wire(Framing::Chunked), original.wire(Framing::Chunked));
            assert_eq!((copy.publisher_id(), copy.cost()), (original.publisher_id(), before), "not reallocated");
        }
    }

    #[test]
    fn lines_that_would_break_the_framing_are_refused() {
        for (lines, publisher_id, error) in [
            (&b""[..], None, LinesError::Unterminated),
            (b"data: x", None, LinesError::Unterminated),
            (b"\n", None, LinesError::EmptyLine),
            (b"\ndata: x\n", None, LinesError::EmptyLine),
            (b"data: x\n\n", None, LinesError::EmptyLine),
            (b"data: x\n\ndata: y\n", None, LinesError::EmptyLine),
            (b"data: x\r\n", None, LinesError::CarriageReturn),
            (b"data: x\rid: 5\n", None, LinesError::CarriageReturn),
            (b"data: \xFF\n", None, LinesError::Encoding),
            (b"data: x\n", Some("own"), LinesError::Id),
            (b"id: own\ndata: x\n", Some("own"), LinesError::Id),
            (b"data: x\nid: other\n", Some("own"), LinesError::Id),
        ] {
            assert_eq!(UnsequencedFrame::from_lines(lines, publisher_id).unwrap_err(), error, "{lines:?}");
        }
    }

    proptest! {
        /// Lines are accepted if and only if a client sees one event in them.
        #[test]
        fn accepted_lines_are_one_event(pieces in prop::collection::vec(prop::sample::select(
            vec![&b"data: x"[..], b"id: 7", b":", b"\n", b"\n", b"\r", b"\0", b"\xC3", b"\xA9"],
        ), 0..8)) {
            let lines = pieces.concat();
            let is_one = String::from_utf8(lines.clone()).is_ok_and(|text| {
                let (mut rest, is_ended) = (text.split('\n').collect::<Vec<_>>(), text.ends_with('\n'));
                rest.pop();
                is_ended && rest.iter().all(|line| !line.is_empty() && !line.contains('\r'))
            });
            let frame = UnsequencedFrame::from_lines(&lines, None);
            prop_assert_eq!(frame.is_ok(), is_one);
            if let Ok(frame) = frame {
                let wire = [&lines[..], b"id: 5\n\n"].concat();
                let frame = frame.assign_id(5);
                prop_assert_eq!(frame.wire(Framing::Plain), &wire[..]);
            }
        }
    }

    #[test]
    fn chunk_sizes_are_exact_and_assigning_an_id_does_not_reallocate() {
        for len in [0, 1, 15, 16, 255, 256, 4095, 4096, 70_000, 1 << 20] {
            let unsequenced = unsequenced(&"x".repeat(len), None);
            let before = unsequenced.cost();
            let frame = unsequenced.assign_id(u64::MAX);
            let text = String::from_utf8(frame.wire(Framing::Chunked).to_vec()).unwrap();
            let (size, rest) = text.split_once("\r\n").unwrap();
            assert_eq!(usize::from_str_radix(size, 16).unwrap(), rest.len() - 2);
            assert!(!size.starts_with('0') && rest.ends_with("\n\n\r\n"));
            assert_eq!(frame.cost(), before);
        }
    }
}
