//! Parses a request's head (RFC 9112 sections 2 to 6). httparse splits it into lines and fields; this module checks what
//! RFC 9112 requires beyond that. An ambiguous head is refused, because two readers that disagree on where a request ends allow
//! request smuggling (RFC 9112 section 11.2).

mod fields;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::MaybeUninit;

use super::problem::Problem;
use super::target::Target;
use super::version::Version;
use fields::Fields;

/// The maximum length of a head in bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// The maximum length of a request target in bytes.
pub const MAX_TARGET: usize = 8 << 10;
/// The maximum number of header fields.
pub const MAX_FIELDS: usize = 64;
/// The maximum number of token cookies that are considered.
pub const MAX_TOKEN_COOKIES: usize = 4;

/// A request's method (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// A standard method that no route allows.
    Unallowed,
}

impl Method {
    /// Returns the name, or `?` for a method that no route allows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Unallowed => "?",
        }
    }

    /// Returns whether the method is safe, which means read-only (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }
}

/// How a request's body is delimited (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// The number of bytes; 0 also for a request without a body.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// A well-formed request head, borrowed from the bytes that were read.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The request target.
    pub target: Target<'a>,
    /// The client's version.
    pub version: Version,
    /// Whether the client keeps the connection open after the response (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The host and port from the target, or else from `Host`; empty if neither has one
    pub host: &'a str,
    /// What the head says about the body.
    pub body: BodyFields<'a>,
    /// What a browser adds for the page that sends the request.
    pub browser: BrowserFields<'a>,
    /// Where a token may be.
    pub credentials: CredentialFields<'a>,
    /// `Last-Event-ID`, unless empty; may be any bytes
    pub last_event_id: Option<&'a [u8]>,
    /// On which condition the request is carried out.
    pub conditions: ConditionFields<'a>,
}

/// What a head says about the body.
#[derive(Clone, Copy)]
pub struct BodyFields<'a> {
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the head has a `Content-Length` or `Transfer-Encoding` field.
    pub has_framing: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// The first coding in `Content-Encoding` that is not `identity`
    pub content_coding: Option<&'a str>,
}

/// The fields that a browser adds for the page that sends the request (WHATWG Fetch).
#[derive(Clone, Copy, Default)]
pub struct BrowserFields<'a> {
    /// `Origin`
    pub origin: Option<&'a str>,
    /// Whether `Sec-Fetch-Site` is `same-origin`; browsers set this field, and pages can't
    pub is_same_origin: bool,
    /// `Access-Control-Request-Headers`
    pub requested_headers: Option<&'a [u8]>,
}

/// The header fields that make a request conditional or idempotent.
#[derive(Clone, Copy, Default)]
pub struct ConditionFields<'a> {
    /// `If-Match`
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match`
    pub if_none_match: Option<&'a [u8]>,
    /// `Idempotency-Key`
    pub idempotency_key: Option<&'a [u8]>,
    /// The name of one of these fields that the head has more than once.
    pub repeated: Option<&'static str>,
}

/// The fields that may contain a token.
#[derive(Clone, Copy, Default)]
pub struct CredentialFields<'a> {
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// The values of the token cookies, in the order of the head
    pub token_cookies: [Option<&'a [u8]>; MAX_TOKEN_COOKIES],
}

/// Omits the fields and the query, which may contain a token: debug output may be logged.
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).field("path", &self.target.path).finish_non_exhaustive()
    }
}

/// The result of parsing the bytes received so far.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a value is on the stack while one request is planned; a box would cost an allocation"
)]
pub enum Parsed<'a> {
    /// The head is incomplete.
    Partial,
    /// The head, and its length in bytes including blank lines before it.
    Complete(Head<'a>, usize),
}

/// Parses the head at the beginning of `bytes`.
///
/// The result does not depend on how many bytes have arrived: once a prefix is refused or complete, more bytes don't change the
/// result. Blank lines before the head are skipped and don't count towards its length.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Problem> {
    let blank = blank_lines(bytes);
    let bytes = truncate_to_limits(&bytes[blank..]);
    // httparse accepts a bare LF as the end of a line.
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
        Ok(httparse::Status::Complete(len)) => {
            debug_assert!(len <= bytes.len());
            Ok(Parsed::Complete(Head::from_request(&request)?, blank + len))
        }
        Err(error) => Err(problem_of(error, bytes)),
    }
}

/// Returns whether a `Content-Type` is this media type. Parameters such as charset are ignored (RFC 9110 section 8.3.1).
pub fn is_media_type(content_type: &str, essence: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(essence)
}

/// Returns the `Origin` of a head that is refused, as far as it can be found, so that a page that may read responses can also
/// read why its request was refused.
pub fn origin_of_refused(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"origin:";
    let lines = bytes[blank_lines(bytes)..].split(|&b| b == b'\n').take_while(|line| !matches!(*line, b"" | b"\r"));
    let value = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    std::str::from_utf8(value.last()?).ok().map(str::trim)
}

/// Returns the values of all fields with a name, the last one first, trimmed. `head` is complete, and `name` is in lower case.
/// For fields that only some configurations use, so that others don't pay for them.
pub fn fields_from_last<'a>(head: &'a [u8], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    head.rsplit(|&b| b == b'\n').filter_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// Returns the method of a complete head, as the client wrote it.
pub fn method_of(head: &[u8]) -> &[u8] {
    first_line(head).and_then(|line| line.split(|&b| b == b' ').next()).unwrap_or_default()
}

/// Returns whether a refused head is that of a HEAD request, to which the response has no body.
pub fn is_refused_head_request(bytes: &[u8]) -> bool {
    first_line(bytes).is_some_and(|line| line.starts_with(b"HEAD "))
}

/// Returns the length of the blank lines at the beginning, in bytes. Some clients send one after a body; it is not part of a
/// request (RFC 9112 section 2.2).
pub fn blank_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Returns the index of the first LF that does not follow a CR.
fn bare_lf(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find(|&at| at == 0 || bytes[at - 1] != b'\r')
}

/// Returns the bytes up to one byte beyond the limit on the head or on its target, so that exceeding the limit is noticed but
/// bytes beyond it don't change the result.
fn truncate_to_limits(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD + 1)];
    if bytes.len() <= MAX_TARGET || target_of(bytes).is_none_or(|target| target.len() <= MAX_TARGET) {
        return bytes;
    }
    let target = bytes.iter().position(|&b| b == b' ').map_or(0, |space| space + 1);
    &bytes[..target + MAX_TARGET + 1]
}

/// Refuses an incomplete head that has already exceeded a limit.
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

/// Returns the first line that is not blank, as far as it has arrived.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes[blank_lines(bytes)..].split(|&b| b == b'\n').next()
}

/// Returns the second word of the request line, as far as it has arrived.
fn target_of(bytes: &[u8]) -> Option<&[u8]> {
    first_line(bytes)?.split(|&b| b == b' ').nth(1)
}

fn bad_version() -> Problem {
    Problem::new(505, "this broker supports HTTP/1.1 and HTTP/1.0; put a proxy in front of it for later versions")
}

/// Describes an error of httparse.
fn problem_of(error: httparse::Error, bytes: &[u8]) -> Problem {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => too_long(),
        Error::Version if is_other_version(bytes) => bad_version(),
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

/// Returns whether the request line's version is an HTTP version other than 1.0 and 1.1. Decides on as few bytes as possible,
/// so that an HTTP/2 preface is refused immediately. `HTTP/x` is malformed, not another version.
fn is_other_version(bytes: &[u8]) -> bool {
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
        let expects_continue = fields.expects_continue(version)?;
        Ok(Self {
            method,
            target,
            version,
            keep_alive: fields.keeps_alive(version),
            host: target.authority.unwrap_or(fields.host),
            body: BodyFields {
                framing: framing.unwrap_or(BodyFraming::Length(0)),
                has_framing: framing.is_some(),
                expects_continue,
                content_type: fields.content_type,
                content_coding: fields.content_coding,
            },
            browser: fields.browser,
            credentials: fields.credentials,
            last_event_id: fields.last_event_id.filter(|id| !id.is_empty()),
            conditions: fields.conditions,
        })
    }
}

fn parse_method(name: &str) -> Result<Method, Problem> {
    match name {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "POST" => Ok(Method::Post),
        "DELETE" => Ok(Method::Delete),
        "OPTIONS" => Ok(Method::Options),
        "PUT" | "PATCH" | "TRACE" | "CONNECT" => Ok(Method::Unallowed),
        _ => Err(Problem::new(501, "the method is not supported; use GET, HEAD, POST, DELETE or OPTIONS, in capitals")),
    }
}

fn parse_target(method: Method, text: &str) -> Result<Target<'_>, Problem> {
    match (method, text) {
        // CONNECT has a target in authority form. No route allows it, so the target doesn't matter.
        (Method::Unallowed, _) if !text.starts_with('/') => Ok(Target::ASTERISK),
        (Method::Options, _) | (_, "/") => Target::parse(text),
        (_, "*") => Err(Problem::bad_request("the request target * is only for OPTIONS")),
        _ => Target::parse(text),
    }
}
