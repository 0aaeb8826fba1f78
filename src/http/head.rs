//! A request's head: what httparse reads of it, and what RFC 9112 asks of it beyond that. A head
//! that is not beyond doubt is refused, because whatever follows could be smuggled.

use std::fmt;
use std::mem::MaybeUninit;

use super::cookie;
use super::problem::Problem;
use super::target::{Target, is_host};

/// The longest head in bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// The longest request target in bytes.
pub const MAX_TARGET: usize = 8 << 10;
/// The most header fields.
pub const MAX_FIELDS: usize = 64;
/// The most cookies with a token that are looked at.
pub const MAX_TOKEN_COOKIES: usize = 4;

/// What the method asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS
    Options,
    /// A method that the standards know and no resource here allows.
    Unallowed,
}

impl Method {
    /// Returns whether it asks for nothing but an answer (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }
}

/// The version that the answer must be understood in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// So many bytes; 0 also for a request without a body.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// A well-formed request head. Borrowed from the bytes that were read.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// What is asked for.
    pub method: Method,
    /// Of what.
    pub target: Target<'a>,
    /// In which version.
    pub version: Version,
    /// Whether the connection goes on afterwards.
    pub keep_alive: bool,
    /// What follows.
    pub framing: BodyFraming,
    /// Whether a length or a transfer coding was given at all.
    pub has_framing: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// The host and port that are asked, by the target or else by `Host`; empty if neither names one
    pub host: &'a str,
    /// `Origin`
    pub origin: Option<&'a str>,
    /// Whether `Sec-Fetch-Site` is `same-origin`: a browser's word, which no page can forge
    pub is_same_origin: bool,
    /// `Access-Control-Request-Headers`
    pub requested_headers: Option<&'a [u8]>,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// The first coding in `Content-Encoding` that is not `identity`
    pub content_coding: Option<&'a str>,
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// The cookies that carry a token, the first ones first
    pub token_cookies: [Option<&'a [u8]>; MAX_TOKEN_COOKIES],
    /// `Last-Event-ID`, unless empty; whatever bytes a client took for a position
    pub last_event_id: Option<&'a [u8]>,
}

/// Fields and query may hold a token, and what is printed may come into a log.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).field("path", &self.target.path).finish_non_exhaustive()
    }
}

/// What the bytes so far amount to.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lies on the stack while one request is planned; a box would cost an allocation"
)]
pub enum Parsed<'a> {
    /// More bytes are needed.
    Partial,
    /// A head, and how many bytes it took.
    Complete(Head<'a>, usize),
}

/// Reads a head from the beginning of `bytes`. What is said of it does not depend on how much has come: not on what follows
/// the longest head, nor on empty lines before it, which are no part of it and may have been taken before.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Problem> {
    let blank = blank_lines(bytes);
    let bytes = bounded(&bytes[blank..]);
    // httparse would take a bare LF for the end of a line.
    let bare_lf = bare_lf(bytes);
    let bytes = &bytes[..bare_lf.unwrap_or(bytes.len())];
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Partial) => match (check_partial(bytes), bare_lf) {
            (Ok(()), None) => Ok(Parsed::Partial),
            (Ok(()), Some(_)) => Err(Problem::bad_request("a line of the request head ends in a bare LF; send CRLF")),
            (Err(problem), _) => Err(problem),
        },
        Ok(httparse::Status::Complete(len)) if len > MAX_HEAD => Err(too_long()),
        Ok(httparse::Status::Complete(len)) => Ok(Parsed::Complete(Head::from_request(&request)?, blank + len)),
        Err(error) => Err(refusal(error, bytes)),
    }
}

/// Whether a `Content-Type` is of this media type; parameters such as charset say nothing here.
pub fn is_media_type(content_type: &str, essence: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(essence)
}

/// The `Origin` of a head that is refused, as far as it can be made out: a page that may read answers
/// may read why it got none.
pub fn origin_of_refused(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"origin:";
    let lines = bytes[blank_lines(bytes)..].split(|&b| b == b'\n').take_while(|line| !matches!(*line, b"" | b"\r"));
    let value = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    std::str::from_utf8(value.last()?).ok().map(str::trim)
}

/// Whether a head that is refused is of a HEAD request, whose answer has no body.
pub fn is_refused_head_request(bytes: &[u8]) -> bool {
    first_line(bytes).is_some_and(|line| line.starts_with(b"HEAD "))
}

/// How many bytes of empty lines come first. Some clients end a body with one too many; it is no
/// part of a request (RFC 9112 section 2.2).
pub fn blank_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Where the first LF is that does not follow a CR.
fn bare_lf(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find(|&at| at == 0 || bytes[at - 1] != b'\r')
}

/// As much as a head may have, and one byte that is too many: of all of it, or of its target.
fn bounded(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD + 1)];
    if bytes.len() <= MAX_TARGET || target_of(bytes).is_none_or(|target| target.len() <= MAX_TARGET) {
        return bytes;
    }
    let target = bytes.iter().position(|&b| b == b' ').map_or(0, |space| space + 1);
    &bytes[..target + MAX_TARGET + 1]
}

/// Refuses what can no longer become a head.
fn check_partial(bytes: &[u8]) -> Result<(), Problem> {
    match target_of(bytes) {
        Some(target) if target.len() > MAX_TARGET => Err(target_too_long()),
        _ if bytes.len() > MAX_HEAD => Err(too_long()),
        _ => Ok(()),
    }
}

fn too_long() -> Problem {
    Problem::new(431, "the request head is longer than 16 KiB or has more than 64 fields; shorten it")
}

fn target_too_long() -> Problem {
    Problem::new(414, "the request target is longer than 8 KiB; send long values in a header field or body")
}

/// The first line that is not empty, as far as it has come.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes[blank_lines(bytes)..].split(|&b| b == b'\n').next()
}

/// The second word of the first line, as far as it has come.
fn target_of(bytes: &[u8]) -> Option<&[u8]> {
    first_line(bytes)?.split(|&b| b == b' ').nth(1)
}

fn bad_version() -> Problem {
    Problem::new(505, "this broker supports HTTP/1.1 and HTTP/1.0; put a proxy in front of it for later versions")
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Problem {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => too_long(),
        Error::Version if names_another_http(bytes) => bad_version(),
        Error::HeaderName => Problem::bad_request(
            "a header field's name is malformed: it has a space before the colon, a folded line or an invalid \
             character",
        ),
        Error::HeaderValue => {
            Problem::bad_request("a header field's value has a control character, such as a bare CR or NUL")
        }
        _ => Problem::bad_request("the request line is malformed; it must look like `GET /stats HTTP/1.1`"),
    }
}

/// Whether the first line's version is another than 1.0 and 1.1, by as little of it as shows that: an HTTP/2 preface is
/// refused at once. `HTTP/x` would be no HTTP at all.
fn names_another_http(bytes: &[u8]) -> bool {
    let third = first_line(bytes).and_then(|line| line.split(|&b| b == b' ').nth(2));
    match third.and_then(|word| word.strip_prefix(b"HTTP/")) {
        Some([b'1', b'.', minor, ..]) => minor.is_ascii_digit(),
        Some([b'1', ..]) => false,
        Some([major, ..]) => major.is_ascii_digit(),
        _ => false,
    }
}

impl<'a> Head<'a> {
    fn from_request(request: &httparse::Request<'_, 'a>) -> Result<Self, Problem> {
        let target = request.path.unwrap_or_default();
        let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let fields = Fields::collect(request.headers)?;
        fields.check_host(version)?;
        let framing = fields.framing(version)?;
        let method = parse_method(request.method.unwrap_or_default())?;
        let target = parse_target(method, target)?;
        Ok(Self {
            method,
            target,
            version,
            keep_alive: fields.keeps_alive(version),
            framing: framing.unwrap_or(BodyFraming::Length(0)),
            has_framing: framing.is_some(),
            expects_continue: fields.expects_continue(version)?,
            host: target.authority.unwrap_or(fields.host),
            origin: fields.origin,
            is_same_origin: fields.is_same_origin,
            requested_headers: fields.requested_headers,
            authorization: fields.authorization,
            token_cookies: fields.token_cookies,
            content_type: fields.content_type,
            content_coding: fields.content_coding,
            last_event_id: fields.last_event_id.filter(|id| !id.is_empty()),
        })
    }
}

fn parse_method(name: &str) -> Result<Method, Problem> {
    match name {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" => Ok(Method::Post),
        "OPTIONS" => Ok(Method::Options),
        "PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" => Ok(Method::Unallowed),
        _ => Err(Problem::new(501, "the method is not supported; use GET, HEAD, POST or OPTIONS, in capitals")),
    }
}

fn parse_target(method: Method, text: &str) -> Result<Target<'_>, Problem> {
    match (method, text) {
        // CONNECT's target is an authority; no resource allows it, whatever it names.
        (Method::Unallowed, _) if !text.starts_with('/') => Ok(Target::ASTERISK),
        (Method::Options, _) | (_, "/") => Target::parse(text),
        (_, "*") => Err(Problem::bad_request("the request target * is only for OPTIONS")),
        _ => Target::parse(text),
    }
}

/// The fields that this server looks at, gathered in one pass.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    host: &'a str,
    lengths: usize,
    length: &'a str,
    codings: Vec<&'a str>,
    connection: Vec<&'a str>,
    expect: Vec<&'a str>,
    origin: Option<&'a str>,
    is_same_origin: bool,
    requested_headers: Option<&'a [u8]>,
    content_type: Option<&'a str>,
    content_coding: Option<&'a str>,
    authorization: Option<&'a [u8]>,
    token_cookies: [Option<&'a [u8]>; MAX_TOKEN_COOKIES],
    last_event_id: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn collect(headers: &[httparse::Header<'a>]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for header in headers {
            fields.add(header)?;
        }
        Ok(fields)
    }

    fn add(&mut self, header: &httparse::Header<'a>) -> Result<(), Problem> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // By length first: most fields are none of ours, and the text is looked at only for those that are.
        match header.name.len() {
            4 if is("host") => {
                self.hosts += 1;
                self.host = text(header)?;
            }
            14 if is("content-length") => {
                self.lengths += 1;
                self.length = text(header)?;
            }
            17 if is("transfer-encoding") => self.codings.extend(list(text(header)?)),
            10 if is("connection") => self.connection.extend(list(text(header)?)),
            6 if is("expect") => self.expect.extend(list(text(header)?).filter(|element| !element.is_empty())),
            6 if is("origin") => self.origin = Some(text(header)?),
            14 if is("sec-fetch-site") => self.is_same_origin = header.value == b"same-origin",
            30 if is("access-control-request-headers") => self.requested_headers = Some(header.value),
            12 if is("content-type") => self.content_type = Some(text(header)?),
            16 if is("content-encoding") => {
                let is_coding = |coding: &&str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
                self.content_coding = self.content_coding.or(list(text(header)?).find(is_coding));
            }
            13 if is("authorization") => self.authorize(header.value)?,
            6 if is("cookie") => self.add_cookies(header.value),
            13 if is("last-event-id") => self.last_event_id = Some(header.value),
            _ => {}
        }
        Ok(())
    }

    fn add_cookies(&mut self, value: &'a [u8]) {
        let vacant = self.token_cookies.iter_mut().filter(|cookie| cookie.is_none());
        vacant.zip(cookie::tokens(value)).for_each(|(cookie, token)| *cookie = Some(token));
    }

    fn authorize(&mut self, value: &'a [u8]) -> Result<(), Problem> {
        match self.authorization.replace(value) {
            None => Ok(()),
            Some(_) => Err(Problem::bad_request("the request has more than one Authorization field")),
        }
    }

    fn check_host(&self, version: Version) -> Result<(), Problem> {
        match (self.hosts, version) {
            (0, Version::Http10) => Ok(()),
            (1, _) if is_host(self.host) => Ok(()),
            (1, _) => Err(Problem::bad_request("the Host field is not a host name with an optional port")),
            (0, _) => Err(Problem::bad_request("an HTTP/1.1 request must have a Host field")),
            _ => Err(Problem::bad_request("the request has more than one Host field")),
        }
    }

    /// RFC 9112 section 6: whatever could be read in two ways is refused.
    fn framing(&self, version: Version) -> Result<Option<BodyFraming>, Problem> {
        match (self.codings.as_slice(), self.lengths) {
            ([], 0) => Ok(None),
            ([], 1) => parse_length(self.length).map(|length| Some(BodyFraming::Length(length))),
            ([], _) => Err(Problem::bad_request("the Content-Length field is repeated")),
            (_, 1..) => {
                Err(Problem::bad_request("the request has both Content-Length and Transfer-Encoding; send one"))
            }
            (_, 0) if version == Version::Http10 => {
                Err(Problem::bad_request("HTTP/1.0 does not support Transfer-Encoding; send a Content-Length"))
            }
            ([coding], 0) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(BodyFraming::Chunked)),
            (codings, 0) => Err(bad_codings(codings)),
        }
    }

    fn keeps_alive(&self, version: Version) -> bool {
        let has = |option: &str| self.connection.iter().any(|found| found.eq_ignore_ascii_case(option));
        match version {
            _ if has("close") => false,
            Version::Http11 => true,
            Version::Http10 => has("keep-alive"),
        }
    }

    fn expects_continue(&self, version: Version) -> Result<bool, Problem> {
        match self.expect.as_slice() {
            // An HTTP/1.0 client can't mean it (RFC 9110 section 10.1.1).
            _ if version == Version::Http10 => Ok(false),
            [] => Ok(false),
            [only] if only.eq_ignore_ascii_case("100-continue") => Ok(true),
            _ => Err(Problem::new(417, "the only supported expectation is 100-continue")),
        }
    }
}

fn text<'a>(header: &httparse::Header<'a>) -> Result<&'a str, Problem> {
    std::str::from_utf8(header.value)
        .map_err(|_| Problem::bad_request(format!("the field {} is not UTF-8", header.name)))
}

/// A field's comma-separated elements. An empty field is one empty element, so that it is seen. What Unicode
/// calls white space is none here (RFC 9110 section 5.6.3): it makes another word.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|element| element.trim_matches([' ', '\t']))
}

fn parse_length(text: &str) -> Result<u64, Problem> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::bad_request("the Content-Length field is not a decimal number"));
    }
    text.parse().map_err(|_| Problem::new(413, "the Content-Length field is too large"))
}

/// What is framed by `chunked` and then coded again has no end that can be known; what is framed otherwise is not understood.
fn bad_codings(codings: &[&str]) -> Problem {
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    let is_last = codings.iter().position(is_chunked).is_none_or(|first| first + 1 == codings.len());
    let is_known = |coding: &&str| coding.is_empty() || is_chunked(coding);
    if !is_last || codings.iter().all(is_known) {
        return Problem::bad_request("chunked must be the only transfer coding, and appear once");
    }
    Problem::new(501, "the only supported transfer coding is chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> u16 {
        match parse(text.as_bytes()) {
            Ok(Parsed::Complete(..)) => 200,
            Ok(Parsed::Partial) => 100,
            Err(problem) => problem.status,
        }
    }

    fn with(fields: &str) -> String {
        format!("POST /publish/greeting HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    }

    #[test]
    fn a_head_is_partial_at_every_byte_but_the_last() {
        let text = "POST /publish/greeting?x=1 HTTP/1.1\r\nHost: h:80\r\nLast-Event-ID: 7\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(status(&text[..end]), 100, "{end}");
        }
        let Ok(Parsed::Complete(head, len)) = parse(text.as_bytes()) else { panic!("not complete") };
        assert_eq!(len, text.len());
        assert_eq!((head.method, head.version, head.keep_alive), (Method::Post, Version::Http11, true));
        assert_eq!((head.framing, head.last_event_id), (BodyFraming::Length(5), Some(&b"7"[..])));
    }

    #[test]
    fn what_could_be_smuggled_is_refused() {
        for (fields, expected) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -5\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 413),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked, chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: \r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: chunked, identity\r\n", 400),
            ("Transfer-Encoding: gzip, chunked, br\r\n", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", 400),
            ("Transfer-Encoding: chunked,\r\n", 400),
            ("Transfer-Encoding: gzip,\r\n", 501),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Transfer-Encoding: \u{a0}chunked\r\n", 501),
            ("Transfer-Encoding: \u{b}chunked\r\n", 400),
            ("Transfer-Encoding : chunked\r\n", 400),
            ("Content-Length : 5\r\n", 400),
            ("X: a\r\n b\r\n", 400),
            ("X: a\rb\r\n", 400),
            ("X: a\0b\r\n", 400),
            ("X\r\n", 400),
            (": x\r\n", 400),
            ("Host: h\r\n", 400),
            ("Expect: 200-ok\r\n", 417),
            ("Transfer-Encoding: Chunked\r\n", 200),
            ("Expect: 100-Continue\r\n", 200),
            ("X: caf\u{e9}\r\n", 200),
        ] {
            assert_eq!(status(&with(fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", 200),
            ("GET http://h/stats HTTP/1.1", 200),
            ("OPTIONS * HTTP/1.1", 200),
            ("CONNECT h:80 HTTP/1.1", 200),
            ("GET * HTTP/1.1", 400),
            ("GET stats HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET /", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/x", 400),
            ("GET / HTTP/1,1", 400),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/0.9", 505),
            ("get / HTTP/1.1", 501),
            ("BREW / HTTP/1.1", 501),
            ("G@T / HTTP/1.1", 400),
        ] {
            assert_eq!(status(&format!("{line}\r\nHost: h\r\n\r\n")), expected, "{line}");
        }
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        assert_eq!(status("PRI * HTTP/2"), 505);
    }

    #[test]
    fn hosts_are_demanded_and_checked() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 200);
        assert_eq!(status("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn lengths_have_bounds() {
        let long_target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(MAX_TARGET));
        assert_eq!(status(&long_target), 414);
        assert_eq!(status(&long_target[..MAX_TARGET + 10]), 414);
        assert_eq!(status(&with(&format!("X: {}\r\n", "a".repeat(MAX_HEAD)))), 431);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD))), 431);
        assert_eq!(status(&with(&"X: a\r\n".repeat(MAX_FIELDS))), 431);
        assert_eq!(status(&with(&"X: a\r\n".repeat(MAX_FIELDS - 1))), 200);
    }

    /// What is wrong is what came first, and it stays wrong whatever comes after it.
    #[test]
    fn what_is_said_of_a_head_does_not_depend_on_how_much_has_come() {
        let long = |before: &str, after: &str| format!("{before}{}{after}", "a".repeat(MAX_HEAD));
        let lines = "\r\n".repeat(MAX_HEAD / 2 + 1) + &with("X: a\r\n");
        for (text, expected) in [
            (long("GET / HTTP/1.1\r\nX: ", "\r\nY : b\r\n\r\n"), 431),
            (long("G@T /", " HTTP/1.1\r\n\r\n"), 400),
            (long("GET /", "\u{1} HTTP/1.1\r\n\r\n"), 414),
            (lines, 200),
            ("PRI * HTTP/2x\r\n".into(), 505),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nHost: h\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nHost: h\r\n\n and more".into(), 400),
            ("\r\n\nGET / HTTP/1.1\r\n\r\n".into(), 400),
            ("GET / HTTP/2\n and more of it".into(), 505),
            ("GET / HTTP/1.0\r\n\r\na body\nof lines".into(), 200),
            ("\r\nPRI * HTTP/2.0\r\n".into(), 505),
            ("GET / HTTP/1x\r\n".into(), 400),
            ("GET / HTTP/1.9x\r\n".into(), 505),
        ] {
            assert_eq!(status(&text), expected, "{:?}", &text[..20]);
            let ends = (0..text.len()).step_by(if text.len() < 100 { 1 } else { 997 });
            let first = ends.map(|end| status(&text[..end])).find(|&status| status != 100);
            assert_eq!(first.unwrap_or(expected), expected, "{:?}", &text[..20]);
        }
    }

    #[test]
    fn codings_other_than_identity_are_seen() {
        let coding = |fields: &str| match parse(with(fields).as_bytes()) {
            Ok(Parsed::Complete(head, _)) => head.content_coding.map(str::to_owned),
            other => panic!("{other:?}"),
        };
        for none in ["", "Content-Encoding: Identity\r\n", "Content-Encoding: ,\r\nContent-Encoding: identity\r\n"] {
            assert_eq!(coding(none), None, "{none}");
        }
        for gzip in ["Content-Encoding: gzip\r\n", "content-encoding: identity, gzip,br\r\nContent-Encoding: br\r\n"] {
            assert_eq!(coding(gzip).as_deref(), Some("gzip"), "{gzip}");
        }
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let keeps = |text: &str| match parse(text.as_bytes()) {
            Ok(Parsed::Complete(head, _)) => head.keep_alive,
            other => panic!("{other:?}"),
        };
        assert!(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }
}
