//! Reads text line by line by the WHATWG rules (HTML standard, section 9.2.6), in slices of bounded work. Independent of what
//! the lines are read for.

use std::ops::Range;

/// What a line costs of a [`Slice`] beyond its bytes: finding its end and its field takes some time however short it is.
const LINE_COST: usize = 16;

/// How much work on a body may be done at once, roughly in bytes: a line costs its length and a little more.
#[derive(Debug)]
pub struct Slice(usize);

impl Slice {
    /// A slice that may cost this much.
    pub fn new(cost: usize) -> Self {
        Self(cost)
    }

    /// A slice for work that is not to be interrupted.
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

/// A position between two lines of a text. The text is passed to each call, so that a value can own both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    at: usize,
    has_ended: bool,
}

impl Cursor {
    /// The beginning of a text.
    pub(super) fn new() -> Self {
        Self { at: 0, has_ended: false }
    }

    /// The beginning of a request's body, after one byte order mark if there is any.
    pub(super) fn of_body(body: &str) -> Self {
        Self { at: if body.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }, has_ended: false }
    }

    /// Returns the next line without its end (LF, CR or CRLF). A line end at the very end of the text begins another, empty
    /// line, so that no line of data is lost.
    pub(super) fn next<'a>(&mut self, text: &'a str, slice: &mut Slice) -> Option<&'a str> {
        if self.has_ended {
            return None;
        }
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

    /// Where in the text the next line begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

/// One line, sorted by what the broker does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Blank,
    Comment,
    Data(&'a str),
    Name(&'a str),
    Id(&'a str),
    /// An id with a NUL, a field that the standard ignores.
    BadId,
    Other,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        if line.is_empty() {
            return Self::Blank;
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

/// Splits a line into its field's name and value, which lacks the one space that may follow the colon.
pub(super) fn split_field(line: &str) -> (&str, &str) {
    let colon = memchr::memchr(b':', line.as_bytes());
    let (field, value) = colon.map_or((line, ""), |at| (&line[..at], &line[at + 1..]));
    (field, value.strip_prefix(' ').unwrap_or(value))
}

/// Where a part of a text lies that is at the end of its line.
pub(super) fn range_of(value: &str, line: &str, line_start: usize) -> Range<usize> {
    let end = line_start + line.len();
    end - value.len()..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mut cursor: Cursor, text: &str) -> Vec<&str> {
        std::iter::from_fn(|| cursor.next(text, &mut Slice::unlimited())).collect()
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        assert_eq!(lines(Cursor::new(), "a\nb\r\nc\rd\n\re"), ["a", "b", "c", "d", "", "e"]);
        assert_eq!(lines(Cursor::new(), ""), [""]);
        assert_eq!(lines(Cursor::new(), "a\n"), ["a", ""]);
        assert_eq!(lines(Cursor::new(), "\u{feff}a"), ["\u{feff}a"]);
        assert_eq!(lines(Cursor::of_body("\u{feff}\u{feff}a"), "\u{feff}\u{feff}a"), ["\u{feff}a"]);
    }

    #[test]
    fn fields_are_found_by_their_names() {
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
