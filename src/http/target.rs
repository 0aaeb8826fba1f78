//! Parses request targets (RFC 9112 section 3.2) into authority, path and query, and queries into parameters.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// A request target, still percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The host and port of the absolute form. They take precedence over the `Host` field (RFC 9112 section 3.2.2).
    pub authority: Option<&'a str>,
    /// The path, which begins with a slash; `*` for the asterisk form.
    pub path: &'a str,
    /// The part after the question mark, or empty.
    pub query: Query<'a>,
}

impl<'a> Target<'a> {
    /// The target in asterisk form.
    pub const ASTERISK: Self = Self { authority: None, path: "*", query: Query("") };

    /// Parses a target in origin, absolute or asterisk form. The authority form is only for CONNECT, which no route allows.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        check_characters(text)?;
        let (authority, rest) = match text.as_bytes() {
            b"*" => return Ok(Self::ASTERISK),
            [b'/', ..] => (None, text),
            _ => split_authority(text).map(|(authority, rest)| (Some(authority), rest))?,
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority, path, query: Query(query) })
    }

    /// Returns the segments of the path after the leading slash, each percent-decoded.
    pub fn segments(&self) -> impl Iterator<Item = Result<Cow<'a, str>, Problem>> {
        let mut rest = Some(self.relative());
        // Segments are too short for a search of many bytes at a time.
        std::iter::from_fn(move || {
            let text = rest?;
            let end = text.bytes().position(|b| b == b'/');
            rest = end.map(|end| &text[end + 1..]);
            Some(decode_path(&text[..end.unwrap_or(text.len())]))
        })
    }

    /// Returns the part of the path after the first segment and its slash, percent-decoded as a whole.
    pub fn after_first_segment(&self) -> Option<Result<Cow<'a, str>, Problem>> {
        self.relative().split_once('/').map(|(_, rest)| decode_path(rest))
    }

    fn relative(&self) -> &'a str {
        self.path.strip_prefix('/').unwrap_or(self.path)
    }
}

fn decode_path(text: &str) -> Result<Cow<'_, str>, Problem> {
    if !text.bytes().any(|b| b == b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| Problem::bad_request("the path is not UTF-8 after percent-decoding"))
}

fn check_characters(text: &str) -> Result<(), Problem> {
    let mut has_escapes = false;
    for byte in text.bytes() {
        if !byte.is_ascii_graphic() || byte == b'#' {
            return Err(Problem::bad_request("the request target has a character that must be percent-encoded"));
        }
        has_escapes |= byte == b'%';
    }
    if has_escapes && !has_valid_escapes(text) {
        return Err(Problem::bad_request("a % in the request target is not followed by two hexadecimal digits"));
    }
    Ok(())
}

/// Returns whether every % is followed by two hexadecimal digits.
fn has_valid_escapes(text: &str) -> bool {
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    memchr::memchr_iter(b'%', text.as_bytes()).all(|at| is_hex(at + 1) && is_hex(at + 2))
}

fn split_authority(text: &str) -> Result<(&str, &str), Problem> {
    let bad = || Problem::bad_request("the request target must be a path such as /stats, or an http URI");
    let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(bad());
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // A Host field may be empty, but the host of an http URI may not (RFC 9110 section 4.2.1).
    if authority.is_empty() || authority.starts_with(':') || !is_host(authority) {
        return Err(bad());
    }
    Ok((authority, rest))
}

/// Returns whether a text is `uri-host [ ":" port ]` (RFC 9110 section 7.2). The host may be empty.
pub fn is_host(text: &str) -> bool {
    let (host, port) = text.split_at(host_len(text));
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let is_valid_host = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(is_ip_literal),
        None => is_reg_name(host),
    };
    is_port && is_valid_host
}

/// Returns the length of the host in `uri-host [ ":" port ]`, without checking it. A colon within brackets is part of an
/// address.
pub fn host_len(text: &str) -> usize {
    let address = if text.starts_with('[') { text.rfind(']').map_or(0, |end| end + 1) } else { 0 };
    text.bytes().skip(address).position(|b| b == b':').map_or(text.len(), |colon| address + colon)
}

fn is_ip_literal(text: &str) -> bool {
    let is_future = text.starts_with(['v', 'V']) && text.len() > 3;
    text.parse::<std::net::Ipv6Addr>().is_ok() || (is_future && text.bytes().all(|b| is_reg_name_byte(b) || b == b':'))
}

fn is_reg_name(text: &str) -> bool {
    let mut has_escapes = false;
    let is_valid = text.bytes().all(|b| {
        has_escapes |= b == b'%';
        is_reg_name_byte(b)
    });
    is_valid && (!has_escapes || has_valid_escapes(text))
}

fn is_reg_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&'..=b',' | b';' | b'=')
}

/// A query of `name=value` pairs in the encoding of forms, in which `+` is a space (WHATWG URL, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a>(pub &'a str);

impl<'a> Query<'a> {
    /// Returns the pairs in order, with decoded names and encoded values.
    fn pairs(self) -> impl Iterator<Item = (Vec<u8>, &'a str)> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), value)
        })
    }

    /// Returns the names of all parameters in order, decoded.
    pub fn names(self) -> impl Iterator<Item = Vec<u8>> {
        self.pairs().map(|(name, _)| name)
    }

    /// Returns whether a parameter is present, with or without a value.
    pub fn has(self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Returns all values of a parameter, decoded. Fails if one is not UTF-8.
    pub fn all(self, name: &str) -> Result<Vec<String>, Problem> {
        let values = self.pairs().filter(|(found, _)| found == name.as_bytes()).map(|(_, value)| decode(value));
        values.map(|value| String::from_utf8(value).map_err(|_| not_utf8(name))).collect()
    }

    /// Returns the first value of a parameter, decoded. Fails if it is not UTF-8.
    pub fn get(self, name: &str) -> Result<Option<String>, Problem> {
        let text = self.get_bytes(name).map(String::from_utf8).transpose();
        text.map_err(|_| not_utf8(name))
    }

    /// Returns the last value, of all parameters with one of these names, that is neither empty nor whitespace. Bytes that are
    /// not UTF-8 are replaced by U+FFFD.
    pub fn last_among(self, names: &[&str]) -> Option<String> {
        let values = self.pairs().filter(|(found, _)| names.iter().any(|name| found == name.as_bytes()));
        let texts = values.map(|(_, value)| String::from_utf8_lossy(&decode(value)).into_owned());
        texts.filter(|text| !text.trim_ascii().is_empty()).last()
    }

    /// Returns the first value of a parameter as bytes, decoded.
    pub fn get_bytes(self, name: &str) -> Option<Vec<u8>> {
        // Most requests have no query, and several parameters are looked for.
        if self.0.is_empty() {
            return None;
        }
        self.pairs().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| decode(value))
    }
}

fn not_utf8(name: &str) -> Problem {
    Problem::bad_request(format!("the query parameter {name} is not UTF-8 after percent-decoding"))
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_three_forms() {
        let path = |text| Target::parse(text).map(|target| (target.path, target.query.0)).ok();
        assert_eq!(path("/a?b=c?d"), Some(("/a", "b=c?d")));
        assert_eq!(path("http://h:80/a"), Some(("/a", "")));
        assert_eq!(path("HTTPS://h?x"), Some(("/", "x")));
        assert_eq!(path("*"), Some(("*", "")));
        let authority = |text| Target::parse(text).map(|target| target.authority);
        assert_eq!(authority("http://h:80/a"), Ok(Some("h:80")));
        assert_eq!((authority("/a"), authority("*")), (Ok(None), Ok(None)));
        for bad in
            ["", "a", "ftp://h/", "http:///a", "http://:80/a", "http://u@h/", "/a#b", "/%zz", "/%4", "/\u{e9}", "/a b"]
        {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_have_an_optional_port() {
        for good in ["", ":80", "h", "h:", "h:80", "127.0.0.1:3000", "[::1]", "[::1]:", "[::1]:80", "a%20b", "[v1.x]"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["u@h", "h:80:90", "h:x", "[::1", "::1", "[::1]x", "a b", "h/", "h?", "[]", "[zz]", "a%zz", "a%4"] {
            assert!(!is_host(bad), "{bad}");
        }
        for bad in ["]", "a]", "a]b:80", "[::1]x:80", "[::1]:80]", "x[::1]:80"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_split_at_each_slash() {
        let segments = |text| Target::parse(text).unwrap().segments().map(Result::unwrap).collect::<Vec<_>>();
        for (text, expected) in [
            ("/", &[""][..]),
            ("/a", &["a"]),
            ("/a/", &["a", ""]),
            ("/a//b", &["a", "", "b"]),
            ("//a", &["", "a"]),
            ("/a%2Fb/c?d/e", &["a/b", "c"]),
            ("*", &["*"]),
        ] {
            assert_eq!(segments(text), expected, "{text}");
        }
    }

    #[test]
    fn queries_are_decoded_like_forms() {
        let query = Query("a=1+2%2B&&b&c=%FF&a=3");
        assert_eq!(query.get("a").unwrap().as_deref(), Some("1 2+"));
        assert!(query.has("b") && !query.has("d"));
        assert_eq!(query.get("b").unwrap().as_deref(), Some(""));
        assert!(query.get("c").is_err());
        assert_eq!(query.all("a").unwrap(), ["1 2+", "3"]);
        assert!(query.all("c").is_err() && query.all("d").unwrap().is_empty());
    }

    #[test]
    fn the_last_value_that_is_not_blank_counts() {
        let last = |text| Query(text).last_among(&["a", "b-c"]);
        assert_eq!(last("a=1&x=2&b-c=3&x=4").as_deref(), Some("3"));
        assert_eq!(last("b-c=3&a=1&a&a=&b-c=+%09").as_deref(), Some("1"));
        assert_eq!(last("%61=1&b%2Dc=%FF%26+").as_deref(), Some("\u{fffd}& "));
        assert_eq!((last("x=1&A=2"), last("a="), last("")), (None, None, None));
    }
}
