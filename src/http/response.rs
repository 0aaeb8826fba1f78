//! Writes responses. A [`Response`] is the status, the fields and the body; [`ResponseParams`] are the properties that depend
//! on the request: version, persistence, HEAD and CORS.

use std::borrow::Cow;

use super::cors::{Cors, Origins, PREFLIGHT};
use super::version::Version;

/// A response with a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    content_type: &'static str,
    body: Cow<'static, [u8]>,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Fields that are written only if the request's origin is allowed.
    cors_fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Whether the connection is closed after the response, even if the client would keep it open.
    pub closes: bool,
}

impl Response {
    /// Creates a response with this body.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        let body = Cow::Owned(body.into().into_bytes());
        Self { status, content_type, body, fields: Vec::new(), cors_fields: Vec::new(), closes: false }
    }

    /// Creates a 200 with a static text.
    pub fn fixed(content_type: &'static str, body: &'static str) -> Self {
        Self { body: Cow::Borrowed(body.as_bytes()), ..Self::new(200, content_type, "") }
    }

    /// Creates a 200 with JSON and a line end, which terminals and line-based tools expect.
    pub fn json(body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self::new(200, "application/json", body)
    }

    /// Creates a 204 to any OPTIONS request, whether it is a preflight or not. `requested` is the list of header fields that
    /// the page wants to send.
    pub fn preflight(allow: &'static str, requested: Option<&str>) -> Self {
        let granted = PREFLIGHT.map(|(name, value)| (name, Cow::Borrowed(value)));
        let requested = requested.map(|names| ("Access-Control-Allow-Headers", Cow::Owned(names.to_owned())));
        let cors_fields = granted.into_iter().chain(requested).collect();
        // Some caches store responses to OPTIONS, although RFC 9110 section 9.3.7 forbids it.
        Self { cors_fields, ..Self::new(204, "", "") }
            .field("Allow", allow)
            .field("Vary", "Access-Control-Request-Headers")
    }

    /// Closes the connection after the response.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Adds a header field. The value must not contain CR or LF.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// The properties of a response that depend on the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseParams {
    /// The client's version.
    pub version: Version,
    /// Whether the connection stays open after the response.
    pub keep_alive: bool,
    /// Whether the body is omitted, because the request was HEAD.
    pub head_only: bool,
    /// Whether the page that sent the request may read the response.
    pub cors: Cors,
}

/// What the fields that every response has depend on.
#[derive(Clone, Copy, Debug)]
pub struct CommonHeaders<'a> {
    /// The value of the `Date` field (RFC 9110 section 6.6.1).
    pub date: &'a str,
    /// The origins that may read responses.
    pub origins: &'a Origins,
}

impl ResponseParams {
    /// Returns the parameters for a request whose head is malformed, so that its version is unknown: HTTP/1.1, and the
    /// connection is closed.
    pub fn for_malformed_head(cors: Cors, head_only: bool) -> Self {
        Self { version: Version::Http11, keep_alive: false, head_only, cors }
    }

    /// Returns the length of the body that is written with a response.
    pub fn body_len(&self, response: &Response) -> usize {
        if self.head_only { 0 } else { response.body.len() }
    }

    /// Writes a response with its body.
    pub fn write(&self, response: &Response, headers: CommonHeaders<'_>, out: &mut Vec<u8>) {
        self.write_status_line(response.status, headers, out);
        if response.status != 204 {
            let length = response.body.len();
            append(out, &["Content-Type: ", response.content_type, "\r\nContent-Length: "]);
            append(out, &[itoa::Buffer::new().format(length), "\r\nCache-Control: no-store\r\n"]);
        }
        let cors_fields = response.cors_fields.iter().filter(|_| self.cors != Cors::Denied);
        for (name, value) in cors_fields.chain(&response.fields) {
            debug_assert!(!value.contains(['\r', '\n']), "the value of {name} would split the response");
            append(out, &[name, ": ", value, "\r\n"]);
        }
        self.write_connection(out);
        out.extend_from_slice(b"\r\n");
        if !self.head_only {
            out.extend_from_slice(&response.body);
        }
    }

    /// Writes the head of a stream's response, whose body is chunked or ends with the connection.
    pub fn write_stream_head(&self, headers: CommonHeaders<'_>, out: &mut Vec<u8>) {
        self.write_status_line(200, headers, out);
        out.extend_from_slice(
            b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-store, no-transform\r\nX-Accel-Buffering: no\r\n",
        );
        match self.version {
            Version::Http11 => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Version::Http10 => {}
        }
        self.write_connection(out);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the status line and the fields that every response begins with.
    fn write_status_line(&self, status: u16, headers: CommonHeaders<'_>, out: &mut Vec<u8>) {
        // A server sends its own highest minor version, regardless of the client's (RFC 9110 section 2.5).
        append(out, &["HTTP/1.1 ", itoa::Buffer::new().format(status), " ", reason(status)]);
        append(out, &["\r\nDate: ", headers.date, "\r\nX-Content-Type-Options: nosniff\r\n"]);
        headers.origins.write(&self.cors, out);
    }

    /// Writes the `Connection` field where the version's default differs (RFC 9112 section 9.3).
    fn write_connection(&self, out: &mut Vec<u8>) {
        match (self.keep_alive, self.version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
    }
}

/// Appends texts without formatting, which would take most of the time of writing a response.
fn append(out: &mut Vec<u8>, texts: &[&str]) {
    texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
}

/// Returns the reason phrase of a status code (RFC 9110 section 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
