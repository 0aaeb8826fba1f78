//! An event as an embedding program builds it. Independent of how it is delivered.

use std::fmt;
use std::time::Duration;

use super::frame::UnsequencedFrame;
use super::parse::{LineReader, Slice};
use super::position::{MAX_PUBLISHER_ID, position};

/// The maximum length of an event's data, and of a request body, in bytes.
pub const MAX_DATA: usize = 1 << 30;

/// A server-sent event to be published. It is checked when it is published.
///
/// ```
/// use std::time::Duration;
/// use esker::Event;
///
/// let event = Event::new("21.5").name("temperature").id("reading-17").retry(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub(crate) name: Option<String>,
    pub(super) data: String,
    pub(crate) id: Option<String>,
    pub(super) retry: Option<u64>,
}

/// Why an event can't be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The name contains a CR, LF or NUL.
    Name,
    /// The id contains a control character other than a tab.
    Id,
    /// The id is longer than 4096 bytes.
    LongId,
    /// The data is longer than 1 GiB.
    LongData,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "an event's name must not contain CR, LF or NUL",
            Self::Id => "an event's id must not contain CR, LF, NUL or another control character",
            Self::LongData => "an event's data must not be longer than 1 GiB",
            Self::LongId => "an event's id must not be longer than 4096 bytes, or clients could not send it back",
        })
    }
}

impl std::error::Error for EventError {}

impl Event {
    /// Creates an event with this data; each of its lines becomes one `data:` line.
    pub fn new(data: impl Into<String>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Sets the event's name, by which `EventSource.addEventListener(name, …)` selects it. It must not contain CR, LF or NUL.
    /// An empty name counts as none.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets an id of the publisher's own, at most 4096 bytes. Subscribers can resume from it, and publishing it again while the
    /// topic retains it has no effect. An empty id counts as none.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the time that clients wait before they reconnect, in whole milliseconds.
    #[must_use]
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = Some(time.as_millis().try_into().unwrap_or(u64::MAX));
        self
    }

    /// Checks and encodes the event.
    pub(crate) fn to_frame(&self) -> Result<UnsequencedFrame, EventError> {
        let name = check_name(self.name.as_deref())?;
        let id = check_id(self.id.as_deref())?;
        if self.data.len() > MAX_DATA {
            return Err(EventError::LongData);
        }
        Ok(encode(self.retry, name, &self.data, id))
    }
}

/// Checks an event's name; an empty one counts as none.
pub fn check_name(name: Option<&str>) -> Result<Option<&str>, EventError> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) if breaks_a_line(name) => Err(EventError::Name),
        name => Ok(name),
    }
}

/// Checks an event's id. An empty one counts as none: on the wire it would reset the client's position. A client must be
/// able to send an id back in a header field, where no control character except the tab is allowed.
pub fn check_id(id: Option<&str>) -> Result<Option<&str>, EventError> {
    match id.filter(|id| !position(id).is_empty()) {
        Some(id) if id.bytes().any(|b| b.is_ascii_control() && b != b'\t') => Err(EventError::Id),
        Some(id) if id.len() > MAX_PUBLISHER_ID => Err(EventError::LongId),
        id => Ok(id),
    }
}

fn breaks_a_line(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

fn encode(retry: Option<u64>, name: Option<&str>, data: &str, id: Option<&str>) -> UnsequencedFrame {
    let retry = retry.map(|millis| format!("retry: {millis}\n")).unwrap_or_default();
    let (mut reader, mut lines) = (LineReader::new(), Vec::with_capacity(data.len() + "data: \n".len()));
    while let Some(line) = reader.next(data, &mut Slice::unlimited()) {
        encode_data_line(line, &mut lines);
    }
    UnsequencedFrame::assemble(retry.as_bytes(), name, &lines, id)
}

/// Appends a line of data in its wire format. Every parser drops the one space after the colon, and some naive parsers
/// require it.
pub(super) fn encode_data_line(line: &str, out: &mut Vec<u8>) {
    // One allocation for the first line, which is usually the only one.
    out.reserve(b"data: \n".len() + line.len());
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Framing;

    fn wire(event: &Event) -> String {
        let frame = event.to_frame().unwrap().assign_id(9);
        String::from_utf8(frame.wire(Framing::Plain).to_vec()).unwrap()
    }

    #[test]
    fn every_line_of_the_data_is_a_data_line() {
        assert_eq!(wire(&Event::new("a\nb\r\nc\rd")), "data: a\ndata: b\ndata: c\ndata: d\nid: 9\n\n");
        assert_eq!(wire(&Event::new("")), "data: \nid: 9\n\n");
        assert_eq!(wire(&Event::new("a\n")), "data: a\ndata: \nid: 9\n\n");
        let full = Event::new(" x").name("n").id("i").retry(Duration::from_millis(5));
        assert_eq!(wire(&full), "retry: 5\nevent: n\ndata:  x\nid: i\n\n");
    }

    #[test]
    fn nothing_is_smuggled_through_a_name_or_an_id() {
        for bad in ["a\nb", "a\rb", "a\0b"] {
            assert_eq!(Event::new("x").name(bad).to_frame().unwrap_err(), EventError::Name);
            assert_eq!(Event::new("x").id(bad).to_frame().unwrap_err(), EventError::Id);
        }
        assert_eq!(Event::new("x").id("i".repeat(4097)).to_frame().unwrap_err(), EventError::LongId);
        assert_eq!(Event::new("x").id("a\u{1}b").to_frame().unwrap_err(), EventError::Id);
        assert_eq!(wire(&Event::new("x").name("").id("")), "data: x\nid: 9\n\n");
        assert_eq!(wire(&Event::new("x").id(" \t")), "data: x\nid: 9\n\n");
    }
}
