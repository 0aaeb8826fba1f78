//! The frames of records and of their erasures, and the wire bytes of a record that is read from memory for one stream: the same as
//! those of its [`Frame`]. The data may be long and shared by many streams, so it can also be written where it is, between its head
//! and its tail.

use std::io::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::frame::{Frame, Framing, Label, UnsequencedFrame};
use crate::records::Record;

/// Encodes a version of a record. The record's name is the event's name; its data is JSON on one line.
pub fn record_frame(record: &Arc<Record>) -> Arc<Frame> {
    let Record { id, name, data } = &**record;
    let mut writer = UnsequencedFrame::writer("event: \ndata: \n".len() + name.len() + data.len());
    writer.field("event", name);
    writer.field("data", data);
    writer.label(Label::Record(Arc::clone(record))).assign_id(*id)
}

/// Encodes the event that tells streams that the newest version of a record was erased.
pub fn erasure_frame(name: &Arc<str>, id: u64) -> Arc<Frame> {
    let data = format!("{{\"event\":{}}}", Value::from(&**name));
    let mut writer = UnsequencedFrame::writer("event: erased\ndata: \n".len() + data.len());
    writer.field("event", "erased");
    writer.field("data", &data);
    writer.label(Label::Erased(Arc::clone(name))).assign_id(id)
}

/// Appends the bytes of a record.
pub fn encode_record(record: &Record, framing: Framing, out: &mut Vec<u8>) {
    push_head(record, framing, out);
    out.extend_from_slice(record.data.as_bytes());
    push_tail(record, framing, out);
}

/// Appends the bytes before a record's data.
pub fn push_head(record: &Record, framing: Framing, out: &mut Vec<u8>) {
    if framing == Framing::Chunked {
        // Writing to a vector never fails.
        let _ = write!(out, "{:x}\r\n", payload_len(record));
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(record.name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
}

/// Appends the bytes after a record's data.
pub fn push_tail(record: &Record, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\nid: ");
    out.extend_from_slice(itoa::Buffer::new().format(record.id).as_bytes());
    out.extend_from_slice(match framing {
        Framing::Chunked => b"\n\n\r\n",
        Framing::Plain => b"\n\n",
    });
}

/// Returns the number of bytes of a record.
pub fn record_len(record: &Record, framing: Framing) -> usize {
    let payload = payload_len(record);
    match framing {
        Framing::Chunked => (payload.ilog2() / 4 + 1) as usize + 2 + payload + 2,
        Framing::Plain => payload,
    }
}

fn payload_len(record: &Record) -> usize {
    let fixed = "event: \ndata: \nid: \n\n".len();
    fixed + record.name.len() + record.data.len() + itoa::Buffer::new().format(record.id).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_name_is_the_name_of_its_events() {
        let frame = record_frame(&Record::shared("user", "{\"n\":1}", 7));
        assert_eq!(frame.wire(Framing::Plain), b"event: user\ndata: {\"n\":1}\nid: 7\n\n");
        assert_eq!((frame.name().map(|name| &**name), frame.publisher_id()), (Some("user"), None));
    }

    #[test]
    fn an_erasure_names_the_record_in_its_data() {
        let frame = erasure_frame(&Arc::from("a \"b\""), 7);
        assert_eq!(frame.wire(Framing::Plain), b"event: erased\ndata: {\"event\":\"a \\\"b\\\"\"}\nid: 7\n\n");
        assert_eq!((frame.name().map(|name| &**name), frame.is_erasure()), (Some("a \"b\""), true));
    }

    #[test]
    fn a_record_has_the_same_bytes_as_its_frame() {
        let lengths = (0..300).chain([4000, 4050, 4096, 65_500, 65_536, 1 << 20]);
        for (len, id) in lengths.zip([1, 99, 1_763_000_000_000_000, u64::MAX].into_iter().cycle()) {
            let record = Arc::new(Record { id, name: Arc::from("a/b ü"), data: "x".repeat(len).into() });
            let frame = record_frame(&record);
            for framing in [Framing::Chunked, Framing::Plain] {
                let mut out = Vec::new();
                encode_record(&record, framing, &mut out);
                assert!(out == frame.wire(framing), "{len} bytes of data");
                assert_eq!(record_len(&record, framing), out.len());
            }
        }
    }
}
