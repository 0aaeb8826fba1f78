//! Fuzzes the parser of request heads. The result must not depend on how many bytes have arrived, and a naive parser must read
//! an accepted head in the same way.

use crate::http::head::{
    BodyFraming, MAX_FIELDS, MAX_HEAD, MAX_TARGET, MAX_TOKEN_COOKIES, blank_lines, fields_from_last, parse,
};
use crate::http::{Head, Method, Parsed, Problem, Version};

/// The maximum length of an input of which every prefix is parsed.
const SHORT: usize = 400;

/// Runs one input: the bytes of a connection.
pub fn head(bytes: &[u8]) {
    let whole = parse(bytes);
    for end in ends(bytes.len()) {
        compare(&parse(&bytes[..end]), &whole, end);
    }
    match whole {
        Ok(Parsed::Partial) => {
            assert!(bytes.len() - blank_lines(bytes) <= MAX_HEAD, "an incomplete head exceeds the limit");
        }
        Ok(Parsed::Complete(head, len)) => {
            assert!(len <= bytes.len());
            check_head(&head, &bytes[..len]);
        }
        Err(problem) => assert!(matches!(problem.status, 400 | 413 | 414 | 417 | 431 | 501 | 505), "{problem:?}"),
    }
}

fn ends(len: usize) -> Vec<usize> {
    if len <= SHORT {
        return (0..len).collect();
    }
    let mut rng = fastrand::Rng::with_seed(len as u64);
    (0..24).map(|_| rng.usize(0..len)).chain([MAX_HEAD, MAX_HEAD + 1].map(|end| end.min(len))).collect()
}

/// Compares the result for a prefix with that for all bytes.
fn compare(part: &Result<Parsed<'_>, Problem>, whole: &Result<Parsed<'_>, Problem>, end: usize) {
    match (part, whole) {
        (Ok(Parsed::Partial), Ok(Parsed::Complete(_, len))) => {
            assert!(end < *len, "a complete head is reported as partial");
        }
        (Ok(Parsed::Partial), _) => {}
        (Ok(Parsed::Complete(head, len)), Ok(Parsed::Complete(same, all))) => {
            assert_eq!((*len, facts(head)), (*all, facts(same)), "{end}");
        }
        (Err(problem), Err(same)) => assert_eq!(problem, same, "{end}"),
        (part, whole) => panic!("{part:?} of {end} bytes, then {whole:?}"),
    }
}

fn facts<'a>(head: &Head<'a>) -> impl PartialEq + std::fmt::Debug + use<'a> {
    let fields = (
        head.host,
        head.body.content_type,
        head.credentials.authorization,
        head.credentials.token_cookies,
        head.last_event_id,
    );
    let page = (head.browser.origin, head.browser.is_same_origin, head.browser.requested_headers);
    let framing = (head.body.framing, head.body.has_framing, head.body.expects_continue, head.keep_alive);
    (head.method, head.target, head.version, framing, fields, page)
}

/// A head as a naive parser reads it: the words of the request line, and every field's name and value.
struct Plain<'a> {
    request: Vec<&'a [u8]>,
    fields: Vec<(String, &'a [u8])>,
}

impl<'a> Plain<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let bytes = &bytes[blank_lines(bytes)..];
        let lines = bytes.split_inclusive(|&b| b == b'\n');
        let mut lines = lines.map(|line| line.strip_suffix(b"\r\n").expect("every line ends in CRLF"));
        let request = lines.next().unwrap_or_default().split(|&b| b == b' ').collect();
        let fields = lines.take_while(|line| !line.is_empty()).map(Self::field).collect();
        Self { request, fields }
    }

    fn field(line: &'a [u8]) -> (String, &'a [u8]) {
        let colon = line.iter().position(|&b| b == b':').expect("a field has a colon");
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        assert!(colon > 0 && line[..colon].iter().all(is_token), "a stray byte in a name: {line:?}");
        let value = trim(&line[colon + 1..]);
        assert!(!value.iter().any(|b| b"\r\0".contains(b)), "a value with a control character: {value:?}");
        (String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), value)
    }

    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value).collect()
    }

    fn elements(&self, name: &str) -> Vec<String> {
        let values = self.all(name).into_iter();
        let elements = values.flat_map(|value| value.split(|&b| b == b',').map(trim).collect::<Vec<_>>());
        elements.map(|element| String::from_utf8_lossy(element).to_ascii_lowercase()).collect()
    }
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn check_head(head: &Head<'_>, bytes: &[u8]) {
    let plain = Plain::read(bytes);
    assert!(bytes.len() - blank_lines(bytes) <= MAX_HEAD && plain.fields.len() <= MAX_FIELDS);
    check_line(head, &plain);
    check_framing(head, &plain);
    let hosts = plain.all("host");
    assert!(hosts.len() == 1 || (hosts.is_empty() && head.version == Version::Http10), "{hosts:?}");
    let host = head.target.authority.map_or(hosts.first().copied().unwrap_or_default(), str::as_bytes);
    assert_eq!(head.host.as_bytes(), host);
    assert_eq!(head.browser.is_same_origin, plain.all("sec-fetch-site").last() == Some(&&b"same-origin"[..]));
    let asked: Vec<_> = plain.all("cookie").into_iter().flat_map(cookies).take(MAX_TOKEN_COOKIES).collect();
    assert_eq!(head.credentials.token_cookies.into_iter().flatten().collect::<Vec<_>>(), asked);
    assert_eq!(head.browser.origin.map(str::as_bytes), plain.all("origin").last().copied());
    assert_eq!(head.body.content_type.map(str::as_bytes), plain.all("content-type").last().copied());
    assert_eq!(head.credentials.authorization.as_slice(), plain.all("authorization"));
    let position = plain.all("last-event-id").last().copied().filter(|value| !value.is_empty());
    assert_eq!(head.last_event_id, position);
    for name in ["x-forwarded-for", "x"] {
        let values = plain.all(name).into_iter().rev().collect::<Vec<_>>();
        assert_eq!(fields_from_last(bytes, name).collect::<Vec<_>>(), values, "{name}");
    }
}

/// Returns the token cookies of one `Cookie` field.
fn cookies(field: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    for pair in field.split(|&b| b == b';') {
        let Some(value) = pair.trim_ascii().strip_prefix(b"esker_token=") else { continue };
        let quoted = value.len() > 1 && value[0] == b'"' && value[value.len() - 1] == b'"';
        let value = if quoted { &value[1..value.len() - 1] } else { value };
        if !value.is_empty() {
            values.push(value);
        }
    }
    values
}

fn check_line(head: &Head<'_>, plain: &Plain<'_>) {
    let [method, target, version] = plain.request[..] else { panic!("a request line of {:?}", plain.request) };
    let known = match head.method {
        Method::Get => method == b"GET",
        Method::Head => method == b"HEAD",
        Method::Post => method == b"POST",
        Method::Delete => method == b"DELETE",
        Method::Options => method == b"OPTIONS",
        Method::Unallowed => [&b"PUT"[..], b"PATCH", b"TRACE", b"CONNECT"].contains(&method),
    };
    assert!(known && target.len() <= MAX_TARGET, "{method:?}");
    assert!(head.method == Method::Unallowed || target.ends_with(head.target.query.0.as_bytes()));
    let is_absolute = head.method != Method::Unallowed && !target.starts_with(b"/") && target != b"*";
    assert_eq!(head.target.authority.is_some(), is_absolute);
    assert_eq!(version, if head.version == Version::Http10 { b"HTTP/1.0" } else { b"HTTP/1.1" });
}

fn check_framing(head: &Head<'_>, plain: &Plain<'_>) {
    let (lengths, codings) = (plain.all("content-length"), plain.elements("transfer-encoding"));
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => None,
        ([length], []) => Some(BodyFraming::Length(decimal(length))),
        ([], [coding]) if coding == "chunked" && head.version == Version::Http11 => Some(BodyFraming::Chunked),
        both => panic!("a body framed by {both:?}"),
    };
    assert_eq!(
        (head.body.has_framing, head.body.framing),
        (framing.is_some(), framing.unwrap_or(BodyFraming::Length(0)))
    );
    let options = plain.elements("connection");
    let has = |option: &str| options.iter().any(|found| found == option);
    let stays = head.version == Version::Http11 || has("keep-alive");
    assert_eq!(head.keep_alive, stays && !has("close"));
    let expects = plain.elements("expect").iter().any(|element| element == "100-continue");
    assert_eq!(head.body.expects_continue, expects && head.version == Version::Http11);
}

fn decimal(digits: &[u8]) -> u64 {
    let add = |sum: u64, b: &u8| {
        assert!(b.is_ascii_digit(), "{digits:?}");
        sum.checked_mul(10).and_then(|sum| sum.checked_add((b - b'0').into())).expect("it fits")
    };
    assert!(!digits.is_empty());
    digits.iter().fold(0, add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Returns pieces of valid and of nearly valid heads.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "\r\n",
            "\n",
            "\r",
            "\r\n\r\n",
            "\n\n",
            " ",
            ":",
            "\0",
            "X: y",
            "\r\nX: y",
            "\nX: y",
            "\r\nHost: h",
            "\r\nTransfer-Encoding: chunked",
            "\r\nTransfer-Encoding: gzip",
            "\r\nTransfer-Encoding: chunked, gzip",
            "\r\nContent-Length: 5",
            "\r\nCookie: esker_token=a; esker_token=\"b\"",
            "\r\nSec-Fetch-Site: same-origin",
            "\r\nConnection: close",
            "\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1",
            "\r\nx-forwarded-for:unknown\t",
        ])
    }

    proptest! {
        #[test]
        fn accepted_heads_are_unambiguous(
            line in prop::sample::select(vec!["GET / HTTP/1.1", "POST http://a:1/x HTTP/1.1", "G@T /", "GET / HTTP/1.0", ""]),
            pieces in prop::collection::vec(piece(), 0..8),
        ) {
            super::head(format!("{line}{}\r\n\r\nrest\n", pieces.concat()).as_bytes());
        }
    }
}
