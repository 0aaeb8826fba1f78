//! Parses `If-Match` (RFC 9110 sections 8.8.3 and 13.1.1).

/// The value of an `If-Match` field.
#[derive(Debug, PartialEq, Eq)]
pub enum IfMatch<'a> {
    /// `*`
    Any,
    /// The opaque parts of the strong tags. Weak ones are left out, because they match nothing.
    Strong(Vec<&'a [u8]>),
}

impl<'a> IfMatch<'a> {
    /// Parses a field's value; `None` if it is malformed.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if value.trim_ascii() == b"*" {
            return Some(Self::Any);
        }
        let (mut rest, mut strong, mut has_tag) = (skip(value), Vec::new(), false);
        while !rest.is_empty() {
            let weak = rest.strip_prefix(b"W/");
            let quoted = weak.unwrap_or(rest).strip_prefix(b"\"")?;
            let (tag, after) = quoted.split_at_checked(memchr::memchr(b'"', quoted)?)?;
            if !tag.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7E | 0x80..)) {
                return None;
            }
            strong.extend(weak.is_none().then_some(tag));
            has_tag = true;
            let after = after.strip_prefix(b"\"")?.trim_ascii_start();
            if !after.is_empty() && after[0] != b',' {
                return None;
            }
            rest = skip(after);
        }
        has_tag.then_some(Self::Strong(strong))
    }
}

/// Skips whitespace, and commas between which there are no elements.
fn skip(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b',', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strong(value: &str) -> Option<Vec<&str>> {
        match IfMatch::parse(value.as_bytes())? {
            IfMatch::Any => Some(vec!["*"]),
            IfMatch::Strong(tags) => Some(tags.into_iter().map(|tag| std::str::from_utf8(tag).unwrap()).collect()),
        }
    }

    #[test]
    fn lists_of_tags_and_the_asterisk_are_parsed() {
        for (value, tags) in [
            ("*", &["*"][..]),
            (" *\t", &["*"]),
            ("\"17\"", &["17"]),
            ("\"\"", &[""]),
            ("\"1\", \"2\",\"3\"\t,\"4\"", &["1", "2", "3", "4"]),
            (", ,\"1\",,\t, \"2\" ,", &["1", "2"]),
            ("\"a,b\", \"*\"", &["a,b", "*"]),
            ("W/\"1\"", &[]),
            ("W/\"1\", \"2\"", &["2"]),
            ("\"!#é~\"", &["!#é~"]),
        ] {
            assert_eq!(strong(value).as_deref(), Some(tags), "{value}");
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        for bad in [
            "",
            " ",
            ",",
            "17",
            "\"17",
            "17\"",
            "'17'",
            "\"1\" \"2\"",
            "\"1\"\"2\"",
            "\"1\";",
            "w/\"1\"",
            "W/1",
            "W/ \"1\"",
            "*, \"1\"",
            "\"1\", *",
            "**",
            "\"a b\"",
            "\"a\tb\"",
            "\"1\", 2",
        ] {
            assert_eq!(strong(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(tags in prop::collection::vec((any::<bool>(), "[!#-~]{0,6}"), 1..6)) {
            let text = tags.iter().map(|(is_weak, tag)| format!("{}\"{tag}\"", if *is_weak { "W/" } else { "" }));
            let text = text.collect::<Vec<_>>().join(" , ");
            let expected: Vec<_> = tags.iter().filter(|(is_weak, _)| !is_weak).map(|(_, tag)| tag.as_str()).collect();
            prop_assert_eq!(strong(&text), Some(expected));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = IfMatch::parse(&bytes);
        }
    }
}
