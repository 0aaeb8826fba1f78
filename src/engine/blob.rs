//! Layout 1 of the events in an entry. Events of one publish are together, so that a topic is written once.
//!
//! ```text
//! blob    = version (1 byte) publish…
//! publish = topic length (1 byte) topic, number of events (varint), event…
//! event   = length of the publisher's id + 1, or 0 if there is none (varint), id, length of the lines (varint), lines
//! ```
//! A varint has seven bits per byte, the lowest first; the highest bit says that another byte follows. The lines are the
//! event's on the wire, without the broker's id and the blank line at the end.

use std::fmt;

use super::log::OwnId;

/// The version that is written, and the only one that is read.
pub const VERSION: u8 = 1;

/// The events of one publish, encoded.
#[derive(Debug, Default)]
pub struct Part {
    bytes: Vec<u8>,
    events: usize,
    own_ids: Vec<OwnId>,
}

impl Part {
    /// Encodes the events of one publish: the publisher's id and the lines of each. `topic` has at most 255 bytes.
    pub fn new<'a>(topic: &str, events: impl ExactSizeIterator<Item = (Option<&'a str>, &'a [u8])>) -> Self {
        let mut part = Self { events: events.len(), ..Self::default() };
        part.bytes.push(topic.len() as u8);
        part.bytes.extend_from_slice(topic.as_bytes());
        push_varint(&mut part.bytes, events.len());
        for (index, (own_id, lines)) in events.enumerate() {
            part.push(topic, index, own_id, lines);
        }
        part
    }

    fn push(&mut self, topic: &str, index: usize, own_id: Option<&str>, lines: &[u8]) {
        match own_id {
            None => self.bytes.push(0),
            Some(id) => {
                push_varint(&mut self.bytes, id.len() + 1);
                self.bytes.extend_from_slice(id.as_bytes());
                self.own_ids.push(OwnId { index, key: format!("{topic}:{id}") });
            }
        }
        push_varint(&mut self.bytes, lines.len());
        self.bytes.extend_from_slice(lines);
    }

    /// Returns the number of events.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Returns the bytes of memory that it takes.
    pub fn cost(&self) -> usize {
        let own_ids = self.own_ids.iter().map(|own_id| own_id.key.capacity() + size_of::<OwnId>()).sum::<usize>();
        self.bytes.capacity() + own_ids
    }
}

/// Several publishes, encoded one after the other.
#[derive(Debug)]
pub struct Blob {
    /// The encoded publishes.
    pub bytes: Vec<u8>,
    /// The number of events.
    pub events: usize,
    /// The events that have an id of the publisher, ascending by index.
    pub own_ids: Vec<OwnId>,
}

impl Default for Blob {
    fn default() -> Self {
        Self { bytes: vec![VERSION], events: 0, own_ids: Vec::new() }
    }
}

impl Blob {
    /// Appends a publish. Returns the index of its first event.
    pub fn push(&mut self, part: Part) -> usize {
        let first = self.events;
        self.bytes.extend_from_slice(&part.bytes);
        self.events += part.events;
        let moved = part.own_ids.into_iter().map(|own_id| OwnId { index: own_id.index + first, ..own_id });
        self.own_ids.extend(moved);
        first
    }
}

/// An event in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The publisher's id.
    pub own_id: Option<&'a str>,
    /// The event's lines.
    pub lines: &'a [u8],
}

/// Why a blob can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobError {
    /// Another version of Esker has written it.
    Version(u8),
    /// It is damaged.
    Malformed,
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "it has layout {version}, which this version of Esker does not know; upgrade this broker and restart it"
            ),
            Self::Malformed => f.write_str("it is damaged"),
        }
    }
}

impl std::error::Error for BlobError {}

/// Reads all events of a blob.
pub fn read(blob: &[u8]) -> Result<Vec<Event<'_>>, BlobError> {
    let (&version, rest) = blob.split_first().ok_or(BlobError::Malformed)?;
    if version != VERSION {
        return Err(BlobError::Version(version));
    }
    let mut reader = Reader(rest);
    let mut events = Vec::new();
    while !reader.0.is_empty() {
        reader.publish(&mut events).ok_or(BlobError::Malformed)?;
    }
    Ok(events)
}

/// What is left to be read. Each method returns `None` if that is damaged.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn publish(&mut self, events: &mut Vec<Event<'a>>) -> Option<()> {
        let len = self.bytes(1)?[0];
        let topic = self.text(len.into())?;
        for _ in 0..self.varint()? {
            let own_id = match self.varint()? {
                0 => None,
                len => Some(self.text(len - 1)?),
            };
            let len = self.varint()?;
            events.push(Event { topic, own_id, lines: self.bytes(len)? });
        }
        Some(())
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self, len: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(len)?).ok()
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..usize::BITS - 7).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(topic: &str, events: &[(Option<&'static str>, &'static str)]) -> Part {
        Part::new(topic, events.iter().map(|(id, lines)| (*id, lines.as_bytes())))
    }

    fn sample() -> Blob {
        let mut blob = Blob::default();
        assert_eq!(blob.push(part("firsttopic", &[(None, "data: a\n"), (Some("x1"), "data: b\nid: x1\n")])), 0);
        assert_eq!(blob.push(part("secondtopic", &[(Some(""), "data: c\nid: \n")])), 2);
        blob
    }

    #[test]
    fn what_was_written_is_read() {
        let blob = sample();
        let event = |topic, own_id, lines: &'static str| Event { topic, own_id, lines: lines.as_bytes() };
        let expected = [
            event("firsttopic", None, "data: a\n"),
            event("firsttopic", Some("x1"), "data: b\nid: x1\n"),
            event("secondtopic", Some(""), "data: c\nid: \n"),
        ];
        assert_eq!(read(&blob.bytes).unwrap(), expected);
        let keys: Vec<_> = blob.own_ids.iter().map(|own_id| (own_id.index, own_id.key.as_str())).collect();
        assert_eq!((blob.events, keys), (3, vec![(1, "firsttopic:x1"), (2, "secondtopic:")]));
    }

    #[test]
    fn long_texts_have_long_lengths() {
        let lines: &'static [u8] = vec![b'x'; 1 << 21].leak();
        let mut blob = Blob::default();
        blob.push(Part::new("longtopic", [(None, lines), (None, &lines[..127]), (None, &lines[..128])].into_iter()));
        let lens: Vec<_> = read(&blob.bytes).unwrap().iter().map(|event| event.lines.len()).collect();
        assert_eq!(lens, [1 << 21, 127, 128]);
    }

    #[test]
    fn other_versions_and_damaged_blobs_are_errors() {
        let blob = sample().bytes;
        assert_eq!((read(&[]), read(&[2, 0])), (Err(BlobError::Malformed), Err(BlobError::Version(2))));
        for len in 2..blob.len() {
            // A cut between two publishes can't be noticed here; the entry's number of events tells.
            assert!(read(&blob[..len]).is_err() || read(&blob[..len]).unwrap().len() < 3);
        }
        let too_long = [&[VERSION, 1, b'a', 1, 0][..], &[0xFF; 10]].concat();
        assert_eq!(read(&too_long), Err(BlobError::Malformed));
    }
}
