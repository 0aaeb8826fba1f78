//! JSON text without the white space that means nothing, and otherwise byte for byte. Refuses to know what it says.

use std::fmt;

/// Deeper nesting is refused: readers of JSON give up at about that.
pub const MAX_DEPTH: usize = 128;

/// The text is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data is nested deeper than {MAX_DEPTH} levels; flatten it")
    }
}

/// JSON, known to be well-formed, without the white space between its tokens.
pub fn compact(json: &str) -> Result<Box<str>, TooDeep> {
    let (mut text, mut depth, mut state) = (String::with_capacity(json.len()), 0_usize, State::Between);
    for character in json.chars() {
        state = match (state, character) {
            (State::Between, ' ' | '\t' | '\r' | '\n') => continue,
            (State::Between, '"') => State::Within,
            (State::Within, '\\') => State::Escaped,
            (State::Within, '"') => State::Between,
            (State::Escaped, _) => State::Within,
            (State::Between, '[' | '{') if depth == MAX_DEPTH => {
                return Err(TooDeep);
            }
            (State::Between, '[' | '{') => {
                depth += 1;
                State::Between
            }
            (State::Between, ']' | '}') => {
                depth -= 1;
                State::Between
            }
            (state, _) => state,
        };
        text.push(character);
    }
    Ok(text.into())
}

/// Where in JSON a character stands.
#[derive(Clone, Copy)]
enum State {
    /// Outside of strings.
    Between,
    /// In a string.
    Within,
    /// In a string, after a backslash.
    Escaped,
}
