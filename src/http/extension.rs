//! The grammar of chunk extensions (RFC 9112 section 7.1.1), byte by byte: `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, where
//! a value is a token or a quoted string. What an extension says is ignored; junk in its place would let two readers of one
//! body disagree on where a chunk begins.

/// Where in a chunk's extensions the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// In white space after the size or a value: `;` must follow.
    Gap,
    /// After `;`, or in the white space that follows it.
    Start,
    /// In a name.
    Name,
    /// In white space after a name: `=` or `;` must follow.
    NameGap,
    /// After `=`, or in the white space that follows it.
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
    /// Returns the state after `byte`, or `None` if the byte does not belong there.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Gap | Self::Token | Self::Closed, b' ' | b'\t') => Some(Self::Gap),
            (Self::Name | Self::NameGap, b' ' | b'\t') => Some(Self::NameGap),
            (Self::Start, b' ' | b'\t') => Some(Self::Start),
            (Self::ValueStart, b' ' | b'\t') => Some(Self::ValueStart),
            (Self::Gap | Self::Name | Self::NameGap | Self::Token | Self::Closed, b';') => Some(Self::Start),
            (Self::Name | Self::NameGap, b'=') => Some(Self::ValueStart),
            (Self::Start | Self::Name, _) if is_token(byte) => Some(Self::Name),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Token, _) if is_token(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::Closed),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if is_text(byte) => Some(Self::Quoted),
            _ => None,
        }
    }

    /// Returns whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::Closed)
    }
}

/// Visible characters, spaces and tabs, and everything outside ASCII.
pub(super) fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text after a chunk's size is zero or more whole extensions.
    fn is_whole(text: &str) -> bool {
        let mut bytes = text.bytes();
        let first = match bytes.next() {
            None => return true,
            Some(b';') => Some(Extension::Start),
            Some(b' ' | b'\t') => Some(Extension::Gap),
            Some(_) => None,
        };
        let last = first.and_then(|first| bytes.try_fold(first, Extension::after));
        last.is_some_and(Extension::may_end)
    }

    #[test]
    fn names_tokens_and_quoted_strings_are_extensions() {
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
            assert!(is_whole(good), "{good:?}");
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
            assert!(!is_whole(bad), "{bad:?}");
        }
    }
}
