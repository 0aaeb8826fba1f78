//! Whether bytes are the encoded lines of one event, as a log or a file may have them. Independent of frames.

use std::fmt;

use super::position::position;

/// Why bytes are not the lines of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinesError {
    /// They are not valid UTF-8.
    Encoding,
    /// They contain a CR.
    CarriageReturn,
    /// They contain an empty line, which would end the event.
    EmptyLine,
    /// They don't end with LF.
    Unterminated,
    /// The last line is not the publisher's id.
    Id,
    /// They are too long for a chunk.
    Length,
}

impl fmt::Display for LinesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the event's lines are not valid UTF-8",
            Self::CarriageReturn => "the event's lines contain a CR",
            Self::EmptyLine => "the event has an empty line",
            Self::Unterminated => "the event's last line does not end with LF",
            Self::Id => "the event's last line is not its publisher's id",
            Self::Length => "the event's lines are too long",
        })
    }
}

impl std::error::Error for LinesError {}

/// Checks that lines of at most `max` bytes are those of one event, and that the last one is the publisher's id, if there is one.
pub(super) fn check_lines(lines: &[u8], publisher_id: Option<&str>, max: usize) -> Result<(), LinesError> {
    let text = std::str::from_utf8(lines).map_err(|_| LinesError::Encoding)?;
    let terminated = text.strip_suffix('\n').ok_or(LinesError::Unterminated)?;
    if lines.len() > max {
        return Err(LinesError::Length);
    }
    if memchr::memchr(b'\r', lines).is_some() {
        return Err(LinesError::CarriageReturn);
    }
    if lines.starts_with(b"\n") || memchr::memmem::find(lines, b"\n\n").is_some() {
        return Err(LinesError::EmptyLine);
    }
    let last = terminated.rsplit('\n').next().unwrap_or_default();
    let has_id = |id| last.strip_prefix("id: ").is_some_and(|value| position(value) == position(id));
    if publisher_id.is_none_or(has_id) { Ok(()) } else { Err(LinesError::Id) }
}
