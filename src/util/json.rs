//! Removes insignificant whitespace from JSON text and leaves everything else unchanged. Independent of what the JSON means.

use std::fmt;

/// The maximum nesting depth. Many JSON parsers have about the same limit.
pub const MAX_DEPTH: usize = 128;

/// The error for text that is nested deeper than [`MAX_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data is nested deeper than {MAX_DEPTH} levels; flatten it")
    }
}

/// Returns JSON text without whitespace between its tokens. The text must be well-formed.
pub fn compact(json: &str) -> Result<Box<str>, TooDeep> {
    let (mut text, mut depth, mut state) = (String::with_capacity(json.len()), 0_usize, State::Outside);
    for character in json.chars() {
        state = match (state, character) {
            (State::Outside, ' ' | '\t' | '\r' | '\n') => continue,
            (State::Outside, '"') => State::InString,
            (State::InString, '\\') => State::Escaped,
            (State::InString, '"') => State::Outside,
            (State::Escaped, _) => State::InString,
            (State::Outside, '[' | '{') if depth == MAX_DEPTH => {
                return Err(TooDeep);
            }
            (State::Outside, '[' | '{') => {
                depth += 1;
                State::Outside
            }
            (State::Outside, ']' | '}') => {
                depth -= 1;
                State::Outside
            }
            (state, _) => state,
        };
        text.push(character);
    }
    Ok(text.into())
}

/// Where a character is in JSON text.
#[derive(Clone, Copy)]
enum State {
    /// Outside strings.
    Outside,
    /// Inside a string.
    InString,
    /// Inside a string, after a backslash.
    Escaped,
}
