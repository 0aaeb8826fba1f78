//! The name of a topic, validated and folded to lower case once, and the key that stands for the topic while it is open.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A topic's name: 8 to 64 ASCII letters and digits, folded to lower case. Stored inline, so that a request needs no allocation
/// for it.
#[derive(Clone, Copy)]
pub struct TopicName {
    bytes: [u8; TopicName::MAX],
    len: u8,
}

/// Why a text is not a valid topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseTopicError {
    /// It contains this character, which is neither an ASCII letter nor an ASCII digit.
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
    /// The length of the shortest name.
    pub const MIN: usize = 8;
    /// The length of the longest name.
    pub const MAX: usize = 64;

    /// Validates a name and folds it to lower case.
    pub fn parse(text: &str) -> Result<Self, ParseTopicError> {
        // Bytes first, which is faster; characters only for the error.
        if !text.bytes().all(|b| b.is_ascii_alphanumeric())
            && let Some(character) = text.chars().find(|c| !c.is_ascii_alphanumeric())
        {
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
        bytes[..len].make_ascii_lowercase();
        Ok(Self { bytes, len: len as u8 })
    }

    /// Returns the folded name.
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

/// The key of an open topic. A serial is never used twice, so a delivery that is still in an inbox can't be mistaken for one
/// of a later topic in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId {
    /// How many topics the hub had opened when it opened this one.
    pub serial: u64,
    /// Its index in the hub's feeds.
    pub slot: u32,
}

/// The feed that a delivery belongs to.
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
    fn names_are_validated_and_folded() {
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
