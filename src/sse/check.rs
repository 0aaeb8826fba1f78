//! Validates the body of a publish before any of it is encoded: counts the events and finds errors, without allocating and in
//! slices of bounded work.

use std::fmt;
use std::ops::Range;

use super::event::{EventError, check_id};
use super::parse::{Line, LineReader, Slice, range_of, split_field};

/// The maximum number of events in one body. They are added to the history under one lock, for which all other publishers wait.
pub const MAX_EVENTS: usize = 10_000;

/// Why the body of a publish is refused. None of its events is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The body contains no event.
    Empty,
    /// An event has fields but no `data`.
    NoData(Dataless),
    /// The event with this number, counted from 1, has an invalid id.
    Id(usize, EventError),
    /// The body has more than [`MAX_EVENTS`] events.
    TooManyEvents,
}

/// An event without `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dataless {
    /// The event's number, counted from 1.
    pub event: usize,
    /// The number of its first line that is not a comment, counted from 1.
    pub line: usize,
    /// The byte offset in the body at which that line begins.
    pub at: usize,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the body has no event"),
            Self::NoData(at) => write!(f, "event {} of the body (line {}) has no `data`", at.event, at.line),
            Self::Id(event, error) => write!(f, "event {event} of the body can't be published: {error}"),
            Self::TooManyEvents => {
                write!(f, "the body has more than {MAX_EVENTS} events; send them in several requests")
            }
        }
    }
}

impl std::error::Error for PublishError {}

/// A resumable check of SSE text. Each call takes the text again; it must be the same text.
#[derive(Debug)]
pub struct Check {
    reader: LineReader,
    lines: usize,
    events: usize,
    /// The event whose lines are being read, once it has a field.
    open: Option<OpenEvent>,
    /// Where the name and the id of the last event are in the text.
    name: Option<Range<usize>>,
    id: Option<Range<usize>>,
}

/// An event of which at least one field was read.
#[derive(Debug)]
struct OpenEvent {
    line: usize,
    at: usize,
    has_data: bool,
}

impl Check {
    /// Creates a check of this text.
    pub fn new(text: &str) -> Self {
        Self { reader: LineReader::of_body(text), lines: 0, events: 0, open: None, name: None, id: None }
    }

    /// Checks until the slice is spent. Returns whether the whole text has been checked.
    pub fn run(&mut self, text: &str, slice: &mut Slice) -> Result<bool, PublishError> {
        while !slice.is_spent() {
            let at = self.reader.at();
            let Some(line) = self.reader.next(text, slice) else {
                self.end_event(text)?;
                return if self.events == 0 { Err(PublishError::Empty) } else { Ok(true) };
            };
            self.lines += 1;
            self.check_line(line, at, text)?;
        }
        Ok(false)
    }

    fn check_line(&mut self, line: &str, at: usize, text: &str) -> Result<(), PublishError> {
        let parsed = Line::parse(line);
        match parsed {
            Line::Blank => return self.end_event(text),
            // Comments alone don't make an event.
            Line::Comment => return Ok(()),
            Line::Data(_) | Line::Name(_) | Line::Id(_) | Line::BadId | Line::Other => {}
        }
        if self.open.is_none() {
            (self.name, self.id) = (None, None);
        }
        let number = self.lines;
        let open = self.open.get_or_insert(OpenEvent { line: number, at, has_data: false });
        match parsed {
            Line::Data(_) => open.has_data = true,
            Line::Name(value) => self.name = Some(range_of(value, line, at)),
            Line::Id(value) => self.id = Some(range_of(value, line, at)),
            Line::Blank | Line::Comment | Line::BadId | Line::Other => {}
        }
        Ok(())
    }

    fn end_event(&mut self, text: &str) -> Result<(), PublishError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Err(PublishError::TooManyEvents);
        }
        if !open.has_data {
            return Err(PublishError::NoData(Dataless { event: self.events, line: open.line, at: open.at }));
        }
        let id = self.id.clone().map(|range| &text[range]);
        check_id(id).map(|_| ()).map_err(|error| PublishError::Id(self.events, error))
    }

    /// Returns the number of events found so far.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Returns the name of the last event, unless it is missing or empty.
    pub fn name<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.name.clone().map(|range| &text[range]).filter(|name| !name.is_empty())
    }

    /// Returns the id of the last event, unless it is missing or empty.
    pub fn id<'a>(&self, text: &'a str) -> Option<&'a str> {
        check_id(self.id.clone().map(|range| &text[range])).unwrap_or_default()
    }
}

/// A resumable scan that determines whether every line of a text is a field of a server-sent event. Such a text was probably
/// meant as an event, not as data. Each call takes the text again; it must be the same text.
#[derive(Debug)]
pub struct FieldScan {
    reader: LineReader,
    has_fields: bool,
}

impl FieldScan {
    /// Creates a scan of this text.
    pub fn new(text: &str) -> Self {
        Self { reader: LineReader::of_body(text), has_fields: false }
    }

    /// Scans until the slice is spent or the result is known. Returns the result: `true` if the text has fields and nothing
    /// else. Comments and blank lines are ignored.
    pub fn run(&mut self, text: &str, slice: &mut Slice) -> Option<bool> {
        while !slice.is_spent() {
            let Some(line) = self.reader.next(text, slice) else { return Some(self.has_fields) };
            if line.is_empty() || line.starts_with(':') {
                continue;
            }
            if !is_field(line) {
                return Some(false);
            }
            self.has_fields = true;
        }
        None
    }
}

/// Returns whether a line is one of the standard's fields, including the colon.
fn is_field(line: &str) -> bool {
    let (name, _) = split_field(line);
    name.len() < line.len() && matches!(name, "data" | "event" | "id" | "retry")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Check, PublishError> {
        let mut check = Check::new(text);
        check.run(text, &mut Slice::unlimited())?;
        Ok(check)
    }

    fn error(text: &str) -> PublishError {
        check(text).expect_err("it is refused")
    }

    fn dataless(event: usize, line: usize, at: usize) -> PublishError {
        PublishError::NoData(Dataless { event, line, at })
    }

    #[test]
    fn bodies_and_events_without_data_are_refused() {
        for empty in ["", "\n\r\n", ": only a comment\n\n", "\u{feff}"] {
            assert_eq!(error(empty), PublishError::Empty, "{empty:?}");
        }
        assert_eq!(error("event: x\n\n"), dataless(1, 1, 0));
        assert_eq!(error("data: x\r\n\r\n: note\r\nretry: 5\r\n\r\n"), dataless(2, 4, 19));
        assert_eq!(error("Data: x"), dataless(1, 1, 0));
        assert_eq!(error("\u{feff}\u{feff}data:x"), dataless(1, 1, 3));
    }

    #[test]
    fn the_event_limit_is_exact_and_stops_the_check() {
        let full = "data\n\n".repeat(MAX_EVENTS);
        assert_eq!(check(&full).unwrap().events(), MAX_EVENTS);
        assert_eq!(check(&format!("{full}: more\n")).unwrap().events(), MAX_EVENTS);
        assert_eq!(error(&format!("{full}data")), PublishError::TooManyEvents);
        let mut check = Check::new("");
        let endless = "data\n\n".repeat(100 * MAX_EVENTS);
        assert_eq!(check.run(&endless, &mut Slice::unlimited()), Err(PublishError::TooManyEvents));
        assert!(check.reader.at() <= full.len() + 6);
    }

    #[test]
    fn name_and_id_are_those_of_the_last_event() {
        let text = "id: 1\nevent: a\ndata: x\n\nid: \0\nid: 2\nid: 3\0\ndata: y\n\n: end";
        let check = check(text).unwrap();
        assert_eq!((check.events(), check.name(text), check.id(text)), (2, None, Some("2")));
        assert_eq!(error("data: x\n\nid: a\u{1}\ndata: y"), PublishError::Id(2, EventError::Id));
        let long = format!("id: {}\ndata: y", "i".repeat(4097));
        assert_eq!(error(&long), PublishError::Id(1, EventError::LongId));
    }

    #[test]
    fn a_scan_finds_text_that_has_only_fields() {
        let is_fields = |text: &str| FieldScan::new(text).run(text, &mut Slice::unlimited()) == Some(true);
        for fields in
            ["data: x", "\u{feff}event:paid\ndata: 1", "id: 42", ": note\n\nretry: 5\r\ndata:\r\n\r\n", "data: x\n"]
        {
            assert!(is_fields(fields), "{fields:?}");
        }
        for text in
            ["", "hello", "note: buy milk", "data: x\nhello", "data", "event", "Data: x", " data: x", ": x", "\n"]
        {
            assert!(!is_fields(text), "{text:?}");
        }
    }
}
