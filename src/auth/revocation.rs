//! What is revoked: the tokens of a `sub`, or the one with a `jti`.

use std::fmt;

/// The maximum length of a `sub` or a `jti` that can be revoked, in bytes.
pub const MAX_NAME: usize = 256;
/// What is revoked.
///
/// ```
/// use esker::Revocation;
///
/// assert_eq!(Revocation::sub("user:42")?.name(), "user:42");
/// assert_eq!(Revocation::jti("").unwrap_err().to_string(), "it must have 1 to 256 bytes, but it has 0");
/// # Ok::<_, esker::RevocationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    pub(super) kind: Kind,
    pub(super) name: Box<str>,
}

/// Which claim names what is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `sub`: all its tokens up to now.
    Subject,
    /// `jti`: one token.
    Token,
}

/// Why a name can't be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationError {
    /// The length of the name in bytes.
    len: usize,
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it must have 1 to {MAX_NAME} bytes, but it has {}", self.len)
    }
}

impl std::error::Error for RevocationError {}

impl Revocation {
    /// Revokes all tokens that have this `sub` and were issued (`iat`) up to now.
    ///
    /// # Errors
    ///
    /// Unless the name has 1 to 256 bytes.
    pub fn sub(name: impl Into<Box<str>>) -> Result<Self, RevocationError> {
        Self::new(Kind::Subject, name.into())
    }

    /// Revokes the token that has this `jti`.
    ///
    /// # Errors
    ///
    /// Unless the name has 1 to 256 bytes.
    pub fn jti(name: impl Into<Box<str>>) -> Result<Self, RevocationError> {
        Self::new(Kind::Token, name.into())
    }

    fn new(kind: Kind, name: Box<str>) -> Result<Self, RevocationError> {
        match name.len() {
            1..=MAX_NAME => Ok(Self { kind, name }),
            len => Err(RevocationError { len }),
        }
    }

    /// Returns the claim that names it.
    pub fn claim(&self) -> &'static str {
        match self.kind {
            Kind::Subject => "sub",
            Kind::Token => "jti",
        }
    }

    /// Returns the value of the claim.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text by which other brokers and later runs know it.
    pub(crate) fn to_text(&self) -> String {
        format!("{}:{}", self.claim(), self.name)
    }

    /// Reads the text of [`Revocation::to_text`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("sub", name) => Self::sub(name).ok(),
            ("jti", name) => Self::jti(name).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_read_as_it_was_written() {
        for text in ["sub:user:1", "jti:x", "sub:ä"] {
            assert_eq!(Revocation::from_text(text).unwrap().to_text(), text);
        }
        let long = format!("sub:{}", "x".repeat(MAX_NAME + 1));
        for text in ["", "sub", "sub:", "aud:x", long.as_str()] {
            assert_eq!(Revocation::from_text(text), None, "{text}");
        }
    }
}
