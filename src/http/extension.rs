//! Parses chunk extensions byte by byte (RFC 9112 section 7.1.1): `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, where a value
//! is a token or a quoted string. Extensions are ignored, but must be well-formed: with malformed ones, two readers of a body
//! could disagree on where a chunk begins.

/// The position of the next byte in a chunk's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// In whitespace after the size or a value; `;` must follow.
    Whitespace,
    /// After `;`, or in the whitespace that follows it.
    Start,
    /// In a name.
    Name,
    /// In whitespace after a name; `=` or `;` must follow.
    WhitespaceAfterName,
    /// After `=`, or in the whitespace that follows it.
    ValueStart,
    /// In a value that is a token.
    Token,
    /// In a quoted string.
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    /// After the closing quote.
    Closed,
}

impl Extension {
    /// Returns the state after `byte`, or `None` if the byte is not allowed here.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Whitespace | Self::Token | Self::Closed, b' ' | b'\t') => Some(Self::Whitespace),
            (Self::Name | Self::WhitespaceAfterName, b' ' | b'\t') => Some(Self::WhitespaceAfterName),
            (Self::Start, b' ' | b'\t') => Some(Self::Start),
            (Self::ValueStart, b' ' | b'\t') => Some(Self::ValueStart),
            (Self::Whitespace | Self::Name | Self::WhitespaceAfterName | Self::Token | Self::Closed, b';') => {
                Some(Self::Start)
            }
            (Self::Name | Self::WhitespaceAfterName, b'=') => Some(Self::ValueStart),
            (Self::Start | Self::Name, _) if is_token(byte) => Some(Self::Name),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Token, _) if is_token(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::Closed),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if is_field_text(byte) => Some(Self::Quoted),
            _ => None,
        }
    }

    /// Returns whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::Closed)
    }
}

/// Returns whether a byte may be in a field value: tabs, spaces, visible characters and bytes outside ASCII (RFC 9110 section
/// 5.5).
pub(super) fn is_field_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Returns whether a byte may be in a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a text after a chunk's size is zero or more complete extensions.
    fn is_complete(text: &str) -> bool {
        let mut bytes = text.bytes();
        let first = match bytes.next() {
            None => return true,
            Some(b';') => Some(Extension::Start),
            Some(b' ' | b'\t') => Some(Extension::Whitespace),
            Some(_) => None,
        };
        let last = first.and_then(|first| bytes.try_fold(first, Extension::after));
        last.is_some_and(Extension::may_end)
    }

    #[test]
    fn extensions_have_names_and_optional_values() {
        for good in [
            "",
            ";a",
            ";a=b",
            ";a=\"\"",
            ";a=\"b;c=\\\"d\\\\\"",
            ";a;b;c",
            " ; a = b\t;\tc",
            " \t;\ta\t=\t\"b\tc\u{e9}\" ;d",
            ";a=\"\\\u{e9}\"",
            ";!#$%&'*+-.^_`|~=1",
        ] {
            assert!(is_complete(good), "{good:?}");
        }
        for bad in [
            " ",
            ";",
            ";;",
            ";a;",
            ";a=",
            ";a= ",
            ";=b",
            ";a b",
            ";a=b c",
            ";a=\"b\"c",
            ";a=\"b",
            ";a=\"b\\\"",
            ";a=b=c",
            ";a ",
            ";a=b ",
            ";a=\"b\" ",
            ";a=\"\0\"",
            ";a=\"\\\0\"",
            ";\u{e9}",
            ";a=\u{e9}",
            ";a=b,c",
            ";\"a\"",
            "a",
            "=a",
            ";a=\"\u{7f}\"",
            ";a:b",
            ";(a)",
        ] {
            assert!(!is_complete(bad), "{bad:?}");
        }
    }
}
