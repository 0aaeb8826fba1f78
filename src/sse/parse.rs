//! Splits an event stream into lines and fields as the WHATWG HTML standard defines them (section 9.2.6), in slices of bounded
//! work. Shared by the check and the encoder.

use std::ops::Range;

/// The cost of a line beyond its bytes, in the unit of [`Slice`]: the time to find its end and its field, even if it is short.
const LINE_COST: usize = 16;

/// A budget for the work done on a body before other connections are served, roughly in bytes: a line costs its length and
/// a small constant.
#[derive(Debug)]
pub struct Slice(usize);

impl Slice {
    /// Creates a slice with this budget.
    pub fn new(cost: usize) -> Self {
        Self(cost)
    }

    /// Creates a slice that is never spent, for work that is not interrupted.
    pub fn unlimited() -> Self {
        Self(usize::MAX)
    }

    pub(super) fn spend(&mut self, cost: usize) {
        self.0 = self.0.saturating_sub(cost);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// A reader of a text's lines. Each call takes the text again, so that a struct can own the text and the reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineReader {
    at: usize,
    has_ended: bool,
}

impl LineReader {
    /// Creates a reader at the beginning of a text.
    pub(super) fn new() -> Self {
        Self { at: 0, has_ended: false }
    }

    /// Creates a reader at the beginning of a request's body, after the byte order mark if there is one.
    pub(super) fn of_body(body: &str) -> Self {
        Self { at: if body.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }, has_ended: false }
    }

    /// Returns the next line without its line end (LF, CR or CRLF). A line end at the end of the text is followed by another,
    /// empty line, so that an empty last line of data is kept.
    pub(super) fn next<'a>(&mut self, text: &'a str, slice: &mut Slice) -> Option<&'a str> {
        if self.has_ended {
            return None;
        }
        debug_assert!(text.is_char_boundary(self.at), "the text is another one than before");
        let rest = &text[self.at..];
        let line = match memchr::memchr2(b'\r', b'\n', rest.as_bytes()) {
            None => {
                self.at = text.len();
                self.has_ended = true;
                rest
            }
            Some(end) => {
                let width = if rest.as_bytes()[end..].starts_with(b"\r\n") { 2 } else { 1 };
                self.at += end + width;
                &rest[..end]
            }
        };
        slice.spend(line.len() + LINE_COST);
        Some(line)
    }

    /// Returns the byte offset in the text at which the next line begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

/// One line, classified by how the broker handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Blank,
    Comment,
    Data(&'a str),
    Name(&'a str),
    Id(&'a str),
    /// An id with a NUL, which the standard ignores.
    BadId,
    /// `retry`, or a field that the standard does not define.
    Other,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        if line.is_empty() {
            return Self::Blank;
        }
        // Most lines are data. Comparing their name takes less time than a search for the colon.
        if let Some(value) = line.strip_prefix("data:") {
            return Self::Data(without_space(value));
        }
        let (field, value) = split_field(line);
        match field {
            "" => Self::Comment,
            "data" => Self::Data(value),
            "event" => Self::Name(value),
            "id" if memchr::memchr(0, value.as_bytes()).is_some() => Self::BadId,
            "id" => Self::Id(value),
            _ => Self::Other,
        }
    }
}

/// Splits a line into a field's name and value, without the one optional space after the colon.
pub(super) fn split_field(line: &str) -> (&str, &str) {
    let colon = memchr::memchr(b':', line.as_bytes());
    let (field, value) = colon.map_or((line, ""), |at| (&line[..at], &line[at + 1..]));
    (field, without_space(value))
}

fn without_space(value: &str) -> &str {
    value.strip_prefix(' ').unwrap_or(value)
}

/// Returns the range in the text of a value that ends its line. The line begins at `line_start`.
pub(super) fn range_of(value: &str, line: &str, line_start: usize) -> Range<usize> {
    debug_assert!(line.ends_with(value));
    let end = line_start + line.len();
    end - value.len()..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut reader: LineReader, text: &str) -> Vec<&str> {
        std::iter::from_fn(|| reader.next(text, &mut Slice::unlimited())).collect()
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        assert_eq!(lines(LineReader::new(), "a\nb\r\nc\rd\n\re"), ["a", "b", "c", "d", "", "e"]);
        assert_eq!(lines(LineReader::new(), ""), [""]);
        assert_eq!(lines(LineReader::new(), "a\n"), ["a", ""]);
        assert_eq!(lines(LineReader::new(), "\u{feff}a"), ["\u{feff}a"]);
        assert_eq!(lines(LineReader::of_body("\u{feff}\u{feff}a"), "\u{feff}\u{feff}a"), ["\u{feff}a"]);
    }

    #[test]
    fn fields_are_recognized_by_their_names() {
        for (line, expected) in [
            ("", Line::Blank),
            (":", Line::Comment),
            (": data: x", Line::Comment),
            ("data", Line::Data("")),
            ("data:x", Line::Data("x")),
            ("data:  x", Line::Data(" x")),
            ("event: a:b", Line::Name("a:b")),
            ("id:7", Line::Id("7")),
            ("id:7\0", Line::BadId),
            ("Data: x", Line::Other),
            (" data: x", Line::Other),
            ("retry: 5", Line::Other),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
