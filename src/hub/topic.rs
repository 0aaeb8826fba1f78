//! The name of a topic, checked and folded once, and the key it has while the hub knows it.
//! Refuses to know where the name came from.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A topic's name: 8 to 64 ASCII letters and digits, folded to lower case. Kept inline, so that a
/// request needs no allocation to hold one.
#[derive(Clone, Copy)]
pub struct TopicName {
    bytes: [u8; TopicName::MAX],
    len: u8,
}

/// Why a text can't be a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseTopicError {
    /// It has this character, which is neither an ASCII letter nor an ASCII digit.
    Character(char),
    /// It has only this many characters.
    TooShort(usize),
    /// It has this many characters.
    TooLong(usize),
}

impl fmt::Display for ParseTopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(character) => write!(f, "the topic contains {character:?}")?,
            Self::TooShort(0) => f.write_str("the topic is missing")?,
            Self::TooShort(1) => f.write_str("the topic is too short: it has 1 character")?,
            Self::TooShort(len) => write!(f, "the topic is too short: it has {len} characters")?,
            Self::TooLong(len) => write!(f, "the topic is too long: it has {len} characters")?,
        }
        f.write_str("; a topic is 8 to 64 ASCII letters and digits, such as temperature1")
    }
}

impl std::error::Error for ParseTopicError {}

impl TopicName {
    /// The shortest name.
    pub const MIN: usize = 8;
    /// The longest name.
    pub const MAX: usize = 64;

    /// Checks and folds a name.
    pub fn parse(text: &str) -> Result<Self, ParseTopicError> {
        if let Some(character) = text.chars().find(|c| !c.is_ascii_alphanumeric()) {
            return Err(ParseTopicError::Character(character));
        }
        let len = text.len();
        match len {
            0..Self::MIN => return Err(ParseTopicError::TooShort(len)),
            Self::MIN..=Self::MAX => {}
            _ => return Err(ParseTopicError::TooLong(len)),
        }
        let mut bytes = [0; Self::MAX];
        bytes[..len].copy_from_slice(text.as_bytes());
        bytes.make_ascii_lowercase();
        Ok(Self { bytes, len: len as u8 })
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for TopicName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for TopicName {}

impl Hash for TopicName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for TopicName {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the hub and the workers call a topic by. The serial is never used twice, so a notice still
/// in an inbox can't be taken for one of a later topic in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId {
    /// Counts the topics the hub has opened.
    pub serial: u64,
    /// Where the hub keeps it.
    pub slot: u32,
}

/// What a notice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedId {
    /// A topic's events.
    Topic(TopicId),
    /// The newest records.
    Records,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_and_keeps_the_bounds() {
        assert_eq!(TopicName::parse("GreetInG1").unwrap().as_str(), "greeting1");
        for (bad, why) in [
            ("", ParseTopicError::TooShort(0)),
            ("seven77", ParseTopicError::TooShort(7)),
            ("with space", ParseTopicError::Character(' ')),
            ("a-b", ParseTopicError::Character('-')),
            ("ümlaut123", ParseTopicError::Character('ü')),
            (&"a".repeat(65), ParseTopicError::TooLong(65)),
        ] {
            assert_eq!(TopicName::parse(bad), Err(why), "{bad}");
        }
        assert!(TopicName::parse(&"a".repeat(64)).is_ok());
        assert!(TopicName::parse("eight888").is_ok());
    }
}
