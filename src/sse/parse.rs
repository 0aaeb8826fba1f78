//! Reads a publish body: SSE text by the WHATWG rules (HTML standard, section 9.2.6), or a body
//! that is itself the data. Knows nothing of topics; what it makes are drafts of frames.

use std::fmt;

use super::event::{EventError, check_id, check_name, encode};
use super::frame::Draft;

/// Why a publish body is refused. Nothing of it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The body has no event.
    Empty,
    /// The event with this number, counted from 1, has fields but no `data`.
    NoData(usize),
    /// A name or id can't go on the wire.
    Event(EventError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the body has no event; send at least one line such as `data: hello`"),
            Self::NoData(number) => {
                write!(f, "event {number} of the body has no `data` field; nothing of the body was published")
            }
            Self::Event(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<EventError> for PublishError {
    fn from(error: EventError) -> Self {
        Self::Event(error)
    }
}

/// The body is the data of one event, each line one `data:` line.
pub fn drafts_from_data(body: &str, name: Option<&str>, id: Option<&str>) -> Result<Vec<Draft>, PublishError> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    Ok(vec![encode(None, check_name(name)?, body, check_id(id)?)])
}

/// The body is SSE text with any number of events. A missing blank line at its end is supplied.
pub fn drafts_from_text(body: &str) -> Result<Vec<Draft>, PublishError> {
    let mut rest = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut drafts = Vec::with_capacity(1);
    let mut carried = Vec::new();
    while let Some((block, after)) = next_block(rest) {
        rest = after;
        let summary = Summary::of(block);
        if !summary.has_fields {
            // Comments alone are no event; they travel with the next one.
            carried.extend(Lines(block));
            continue;
        }
        if !summary.has_data {
            return Err(PublishError::NoData(drafts.len() + 1));
        }
        drafts.push(encode_block(block, &summary, &carried)?);
        carried.clear();
    }
    if drafts.is_empty() { Err(PublishError::Empty) } else { Ok(drafts) }
}

/// What must be known of a block before its first byte can be written.
#[derive(Default)]
struct Summary<'a> {
    has_fields: bool,
    has_data: bool,
    name: Option<&'a str>,
    id: Option<&'a str>,
    lines: usize,
}

impl<'a> Summary<'a> {
    fn of(block: &'a str) -> Self {
        let mut summary = Self::default();
        for line in Lines(block) {
            summary.lines += 1;
            match Line::parse(line) {
                Line::Comment => continue,
                Line::Data(_) => summary.has_data = true,
                Line::Name(value) => summary.name = Some(value),
                // A NUL makes the id a field to ignore, says the standard.
                Line::Id(value) if !value.contains('\0') => summary.id = Some(value),
                Line::Id(_) | Line::Other => {}
            }
            summary.has_fields = true;
        }
        summary
    }
}

/// Publisher's comments, `retry` and unknown fields first, then the name, the data, and the id last.
fn encode_block(block: &str, summary: &Summary<'_>, carried: &[&str]) -> Result<Draft, PublishError> {
    let id = check_id(summary.id)?;
    let carried_len: usize = carried.iter().map(|line| line.len() + 1).sum();
    let mut writer = Draft::writer(block.len() + 2 * summary.lines + carried_len + 2);
    for line in carried.iter().copied().chain(Lines(block)) {
        if matches!(Line::parse(line), Line::Comment | Line::Other) {
            writer.line(line);
        }
    }
    // A NUL is harmless in a name that came as a line; CR and LF can't be in one.
    if let Some(name) = summary.name.filter(|name| !name.is_empty()) {
        writer.field("event", name);
    }
    for line in Lines(block) {
        if let Line::Data(value) = Line::parse(line) {
            writer.field("data", value);
        }
    }
    Ok(writer.finish(id))
}

/// One line, sorted by what the broker does with it.
enum Line<'a> {
    Comment,
    Data(&'a str),
    Name(&'a str),
    Id(&'a str),
    Other,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let colon = memchr::memchr(b':', line.as_bytes());
        let (field, value) = colon.map_or((line, ""), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => Self::Comment,
            "data" => Self::Data(value),
            "event" => Self::Name(value),
            "id" => Self::Id(value),
            _ => Self::Other,
        }
    }
}

/// The next run of lines before a blank one (the run may be empty only at the very end), and what follows it.
fn next_block(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(['\r', '\n']);
    if text.is_empty() {
        return None;
    }
    let mut end = 0;
    loop {
        let (line, after) = split_line(&text[end..]);
        if line.is_empty() || after.is_empty() {
            let end = if line.is_empty() { end } else { text.len() };
            return Some((&text[..end], after));
        }
        end = text.len() - after.len();
    }
}

/// The first line without its end (LF, CR or CRLF), and the text after that.
fn split_line(text: &str) -> (&str, &str) {
    match memchr::memchr2(b'\r', b'\n', text.as_bytes()) {
        None => (text, ""),
        Some(at) => {
            let width = if text.as_bytes()[at..].starts_with(b"\r\n") { 2 } else { 1 };
            (&text[..at], &text[at + width..])
        }
    }
}

/// The lines of a block; a line end at the very end does not begin another line.
struct Lines<'a>(&'a str);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = split_line(self.0);
        self.0 = rest;
        Some(line)
    }
}

/// The lines of data; a line end at the very end does begin another, empty one, so that nothing is lost.
pub(super) fn data_lines(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, after) = split_line(text);
        rest = (line.len() < text.len()).then_some(after);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Framing;
    use proptest::prelude::*;

    fn wire(drafts: Vec<Draft>) -> String {
        let mut text = String::new();
        for (number, draft) in drafts.into_iter().enumerate() {
            let frame = draft.stamp(number as u64 + 1);
            text.push_str(std::str::from_utf8(frame.wire(Framing::Plain)).unwrap());
        }
        text
    }

    fn text(body: &str) -> Result<String, PublishError> {
        drafts_from_text(body).map(wire)
    }

    #[test]
    fn the_lines_are_put_into_the_wires_order() {
        let body = "id: 7\ndata: a\nevent: n\n: note\nretry: 9\nfoo\ndata:b\n\n";
        assert_eq!(text(body).unwrap(), ": note\nretry: 9\nfoo\nevent: n\ndata: a\ndata: b\nid: 7\n\n");
    }

    #[test]
    fn all_line_ends_and_a_missing_blank_line_are_understood() {
        let expected = "data: a\ndata: b\nid: 1\n\ndata: c\nid: 2\n\n";
        for end in ["\n", "\r", "\r\n"] {
            let body = ["data:a", "data:b", "", "", "data:c"].join(end);
            for tail in ["", end, &end.repeat(2), &end.repeat(5)] {
                assert_eq!(text(&format!("{body}{tail}")).unwrap(), expected, "{body:?}{tail:?}");
            }
        }
        assert_eq!(text("\u{feff}data:a\r\ndata:b\r\r\n\ndata:c").unwrap(), expected);
    }

    #[test]
    fn only_one_bom_and_only_one_space_are_dropped() {
        assert_eq!(text("\u{feff}\u{feff}data:x"), Err(PublishError::NoData(1)));
        assert_eq!(text("data:  two\ndata:\tt\ndata").unwrap(), "data:  two\ndata: \tt\ndata: \nid: 1\n\n");
    }

    #[test]
    fn what_has_no_data_is_refused() {
        assert_eq!(text(""), Err(PublishError::Empty));
        assert_eq!(text("\n\r\n"), Err(PublishError::Empty));
        assert_eq!(text(": only a comment\n\n"), Err(PublishError::Empty));
        assert_eq!(text("event: x\n\n"), Err(PublishError::NoData(1)));
        assert_eq!(text("data: x\n\nretry: 5\n\n"), Err(PublishError::NoData(2)));
        assert_eq!(text("Data: x"), Err(PublishError::NoData(1)));
    }

    #[test]
    fn comments_alone_travel_with_the_next_event() {
        assert_eq!(text(": a\n\n: b\ndata: x").unwrap(), ": a\n: b\ndata: x\nid: 1\n\n");
    }

    #[test]
    fn ids_that_are_empty_or_have_a_nul_are_no_ids() {
        assert_eq!(text("id\ndata: x").unwrap(), "data: x\nid: 1\n\n");
        assert_eq!(text("id: a\nid: b\0\ndata: x").unwrap(), "data: x\nid: a\n\n");
        assert_eq!(text("id: a\nid:\ndata: x").unwrap(), "data: x\nid: 1\n\n");
    }

    #[test]
    fn a_body_can_be_the_data() {
        let drafts = drafts_from_data("{\n}", Some("n"), Some("i")).unwrap();
        assert_eq!(wire(drafts), "event: n\ndata: {\ndata: }\nid: i\n\n");
        assert_eq!(drafts_from_data("x", Some("a\nb"), None).unwrap_err(), PublishError::Event(EventError::Name));
    }

    fn body() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["data", "data:", "data: ", "event:", "id: ", "id", "retry: 5", ":", "foo", " ", "\u{feff}", "\0"]),
            3 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"]),
            2 => prop::sample::select(vec!["x", "yz", "é", "1"]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever an EventSource would have dispatched of the body itself, it dispatches of the stream, and a body is refused
        /// exactly if a block has fields but no data, or no block has data.
        #[test]
        fn what_is_published_is_what_a_naive_parser_reads(body in body()) {
            crate::fuzz::publish(format!("\0{body}").as_bytes());
        }
    }
}
