//! The wire bytes of one event: encoded once as a complete HTTP chunk, then shared by every socket
//! of every worker. A [`UnsequencedFrame`] has room at both ends; [`UnsequencedFrame::assign_id`]
//! makes it a [`Frame`].

use std::io::Write as _;
use std::sync::Arc;

use super::position::position;

/// What a retained frame costs beyond its bytes: the shared allocation, its place in feeds and inboxes.
pub const FRAME_OVERHEAD: usize = 128;
/// What a publisher's own id costs beside the wire and beyond its length: an allocation, its place among its topic's, and what
/// the allocator adds to both.
const OWN_ID_OVERHEAD: usize = 110;

/// Room for the chunk-size line: eight hexadecimal digits and CRLF.
const HEADER_ROOM: usize = 10;
/// Room for `id: ` and 20 digits, LF, the blank line, and the CRLF that ends the chunk.
const TRAILER_ROOM: usize = 4 + 20 + 1 + 1 + 2;

/// How a stream's bytes are delimited on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// HTTP/1.1: `Transfer-Encoding: chunked`.
    Chunked,
    /// HTTP/1.0: the bytes as they are, ended by the end of the connection.
    Plain,
}

/// An event's immutable wire bytes.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    start: u8,
    id: u64,
    label: Label,
}

/// What an event is told from others by, beside its id.
#[derive(Debug)]
enum Label {
    Nothing,
    /// The id that the publisher gave it.
    OwnId(Arc<str>),
    /// The name that a record has versions of.
    Name(Arc<str>),
}

impl Frame {
    /// The event's id in the broker's order.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The id that the publisher gave it, which is the one on the wire, but without white space around it.
    pub fn publisher_id(&self) -> Option<&Arc<str>> {
        match &self.label {
            Label::OwnId(id) => Some(id),
            Label::Nothing | Label::Name(_) => None,
        }
    }

    /// The name of a record.
    pub fn name(&self) -> Option<&Arc<str>> {
        match &self.label {
            Label::Name(name) => Some(name),
            Label::Nothing | Label::OwnId(_) => None,
        }
    }

    /// The bytes to write to a stream.
    pub fn wire(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.bytes[usize::from(self.start)..],
            Framing::Plain => &self.bytes[HEADER_ROOM..self.bytes.len() - 2],
        }
    }

    /// What it costs in memory.
    pub fn cost(&self) -> usize {
        let publisher_id = self.publisher_id().map_or(0, |id| id.len() + OWN_ID_OVERHEAD);
        self.bytes.capacity() + FRAME_OVERHEAD + publisher_id
    }
}

/// A frame without its id.
#[derive(Debug)]
pub struct UnsequencedFrame(Arc<Frame>);

impl UnsequencedFrame {
    /// Starts to encode an event whose lines take about `capacity` bytes.
    pub fn writer(capacity: usize) -> FrameWriter {
        let mut bytes = Vec::with_capacity(HEADER_ROOM + capacity + TRAILER_ROOM);
        bytes.resize(HEADER_ROOM, 0);
        FrameWriter { bytes }
    }

    /// Puts an event together: whole lines that come first, its name, whole `data` lines, and the publisher's own id.
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

    /// The id that the publisher gave it.
    pub fn publisher_id(&self) -> Option<&str> {
        self.0.publisher_id().map(|id| &**id)
    }

    /// What it will cost in memory.
    pub fn cost(&self) -> usize {
        self.0.cost()
    }

    /// Returns the frame with this id. Neither allocates nor copies, because it is called inside the hub's lock.
    pub fn assign_id(mut self, id: u64) -> Arc<Frame> {
        // A draft is never shared, so this always succeeds; without it the frame would merely lack its id.
        if let Some(frame) = Arc::get_mut(&mut self.0) {
            frame.id = id;
            if frame.publisher_id().is_none() {
                push_id(&mut frame.bytes, id);
            }
            frame.close();
        }
        self.0
    }
}

impl Frame {
    /// Ends the event and the chunk, and writes the chunk's size right before the payload.
    fn close(&mut self) {
        self.bytes.push(b'\n');
        let size = self.bytes.len() - HEADER_ROOM;
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

/// Writes an event's lines, one after the other; the id comes last and by itself.
#[derive(Debug)]
pub struct FrameWriter {
    bytes: Vec<u8>,
}

impl FrameWriter {
    /// A field; the one space after the colon is what every parser strips and some naive ones need.
    pub fn field(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    /// Ends the draft. The publisher's own id takes the place of the broker's on the wire.
    pub fn finish(mut self, publisher_id: Option<&str>) -> UnsequencedFrame {
        if let Some(id) = publisher_id {
            self.field("id", id);
        }
        let label = publisher_id.map_or(Label::Nothing, |id| Label::OwnId(position(id).into()));
        self.label(label)
    }

    fn label(self, label: Label) -> UnsequencedFrame {
        UnsequencedFrame(Arc::new(Frame { bytes: self.bytes, start: 0, id: 0, label }))
    }
}

/// A record's frame: its name is the event's, its data is JSON on one line.
pub fn record_frame(name: &Arc<str>, data: &str, id: u64) -> Arc<Frame> {
    let mut writer = UnsequencedFrame::writer("event: \ndata: \n".len() + name.len() + data.len());
    writer.field("event", name);
    writer.field("data", data);
    writer.label(Label::Name(Arc::clone(name))).assign_id(id)
}

fn push_id(bytes: &mut Vec<u8>, id: u64) {
    bytes.extend_from_slice(b"id: ");
    bytes.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    bytes.push(b'\n');
}

/// Bytes for the wire that are no published event: the opening, a heartbeat, a gap, the end.
pub fn chunk(payload: &[u8], framing: Framing, out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        // Writing to a vector can't fail.
        let _ = write!(out, "{:x}\r\n", payload.len());
    }
    out.extend_from_slice(payload);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(data: &str, own: Option<&str>) -> UnsequencedFrame {
        let mut writer = UnsequencedFrame::writer(data.len() + 7);
        writer.field("data", data);
        writer.finish(own)
    }

    #[test]
    fn a_frame_is_one_chunk_with_the_id_last() {
        let frame = draft("hello", None).assign_id(1_763_000_000_000_000);
        assert_eq!(frame.wire(Framing::Plain), b"data: hello\nid: 1763000000000000\n\n");
        assert_eq!(frame.wire(Framing::Chunked), b"22\r\ndata: hello\nid: 1763000000000000\n\n\r\n");
    }

    #[test]
    fn a_publishers_own_id_takes_the_place() {
        let frame = draft("x", Some("mine")).assign_id(7);
        assert_eq!(frame.wire(Framing::Plain), b"data: x\nid: mine\n\n");
        assert_eq!((frame.id(), frame.publisher_id().map(|id| &**id)), (7, Some("mine")));
    }

    #[test]
    fn a_records_name_is_the_events() {
        let frame = record_frame(&Arc::from("user"), "{\"n\":1}", 7);
        assert_eq!(frame.wire(Framing::Plain), b"event: user\ndata: {\"n\":1}\nid: 7\n\n");
        assert_eq!((frame.name().map(|name| &**name), frame.publisher_id()), (Some("user"), None));
    }

    #[test]
    fn sizes_of_every_length_are_exact_and_nothing_is_reallocated() {
        for len in [0, 1, 15, 16, 255, 256, 4095, 4096, 70_000, 1 << 20] {
            let draft = draft(&"x".repeat(len), None);
            let before = draft.cost();
            let frame = draft.assign_id(u64::MAX);
            let text = String::from_utf8(frame.wire(Framing::Chunked).to_vec()).unwrap();
            let (size, rest) = text.split_once("\r\n").unwrap();
            assert_eq!(usize::from_str_radix(size, 16).unwrap(), rest.len() - 2);
            assert!(!size.starts_with('0') && rest.ends_with("\n\n\r\n"));
            assert_eq!(frame.cost(), before);
        }
    }
}
