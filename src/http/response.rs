//! Answers as bytes. A [`ResponseParams`] is what the request demands of any answer (version, persistence,
//! HEAD, origin); a [`Response`] is the answer itself.

use std::borrow::Cow;

use super::cors::{Cors, Origins, PREFLIGHT};
use super::head::Version;

/// An answer with a body of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    content_type: &'static str,
    body: Cow<'static, [u8]>,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Fields for pages whose origin may read the answer.
    cors_fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Whether the connection is closed after it, whatever the request asks for.
    pub closes: bool,
}

impl Response {
    /// An answer with a body.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        let body = Cow::Owned(body.into().into_bytes());
        Self { status, content_type, body, fields: Vec::new(), cors_fields: Vec::new(), closes: false }
    }

    /// 200 with a text that is there as long as the program.
    pub fn fixed(content_type: &'static str, body: &'static str) -> Self {
        Self { body: Cow::Borrowed(body.as_bytes()), ..Self::new(200, content_type, "") }
    }

    /// 200 with JSON, and a line end after it: terminals and line-wise tools expect one.
    pub fn json(body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self::new(200, "application/json", body)
    }

    /// 204 to any OPTIONS, preflight or not. `requested` names the header fields that the page wants to send.
    pub fn preflight(allow: &'static str, requested: Option<&str>) -> Self {
        let granted = PREFLIGHT.map(|(name, value)| (name, Cow::Borrowed(value)));
        let requested = requested.map(|names| ("Access-Control-Allow-Headers", Cow::Owned(names.to_owned())));
        let cors_fields = granted.into_iter().chain(requested).collect();
        // Some caches keep these answers, though the standard forbids it.
        Self { cors_fields, ..Self::new(204, "", "") }
            .field("Allow", allow)
            .field("Vary", "Access-Control-Request-Headers")
    }

    /// The same, after which the connection is closed.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Adds a header field.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// What a request demands of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseParams {
    /// The version to speak.
    pub version: Version,
    /// Whether the connection goes on after the answer.
    pub keep_alive: bool,
    /// HEAD: no body.
    pub head_only: bool,
    /// Who may read it.
    pub cors: Cors,
}

/// What the broker adds to every answer.
#[derive(Clone, Copy, Debug)]
pub struct CommonHeaders<'a> {
    /// The `Date` field's value.
    pub date: &'a str,
    /// The configured origins.
    pub origins: &'a Origins,
}

impl ResponseParams {
    /// For a request that could not be read as far as its version: 1.1, and then the end.
    pub fn to_unreadable(cors: Cors, head_only: bool) -> Self {
        Self { version: Version::Http11, keep_alive: false, head_only, cors }
    }

    /// Writes an answer with its body.
    pub fn write(&self, response: &Response, house: CommonHeaders<'_>, out: &mut Vec<u8>) {
        self.status_line(response.status, house, out);
        if response.status != 204 {
            let length = response.body.len();
            append(out, &["Content-Type: ", response.content_type, "\r\nContent-Length: "]);
            append(out, &[itoa::Buffer::new().format(length), "\r\nCache-Control: no-store\r\n"]);
        }
        let cors_fields = response.cors_fields.iter().filter(|_| self.cors != Cors::Denied);
        for (name, value) in cors_fields.chain(&response.fields) {
            append(out, &[name, ": ", value, "\r\n"]);
        }
        self.persistence(out);
        out.extend_from_slice(b"\r\n");
        if !self.head_only {
            out.extend_from_slice(&response.body);
        }
    }

    /// Writes the head of a stream.
    pub fn write_stream_head(&self, house: CommonHeaders<'_>, out: &mut Vec<u8>) {
        self.status_line(200, house, out);
        out.extend_from_slice(
            b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-store, no-transform\r\nX-Accel-Buffering: no\r\n",
        );
        match self.version {
            Version::Http11 => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Version::Http10 => {}
        }
        self.persistence(out);
        out.extend_from_slice(b"\r\n");
    }

    fn status_line(&self, status: u16, house: CommonHeaders<'_>, out: &mut Vec<u8>) {
        // RFC 9110 section 2.5: the server's own highest minor version, whatever the request's.
        append(out, &["HTTP/1.1 ", itoa::Buffer::new().format(status), " ", reason(status)]);
        append(out, &["\r\nDate: ", house.date, "\r\nX-Content-Type-Options: nosniff\r\n"]);
        house.origins.write(&self.cors, out);
    }

    fn persistence(&self, out: &mut Vec<u8>) {
        match (self.keep_alive, self.version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
    }
}

/// Formatting would take most of an answer's time.
fn append(out: &mut Vec<u8>, texts: &[&str]) {
    texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
}

/// The standard's phrase for a status code.
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
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
