//! The header fields that this server uses, collected in one pass, and what they say about the connection and the body.

use super::{BodyFraming, BrowserFields, ConditionFields, CredentialFields};
use crate::http::cookie;
use crate::http::problem::Problem;
use crate::http::target::is_host;
use crate::http::version::Version;

/// The header fields that this server uses; see [`Head`](super::Head) for those that it passes on.
#[derive(Default)]
pub(super) struct Fields<'a> {
    /// The number of `Host` fields, and the value of the last one.
    hosts: usize,
    pub(super) host: &'a str,
    /// The number of `Content-Length` fields, and the value of the last one.
    lengths: usize,
    length: &'a str,
    /// The elements of all `Transfer-Encoding` fields.
    codings: Vec<&'a str>,
    /// The elements of all `Connection` fields.
    connection: Vec<&'a str>,
    /// The elements of all `Expect` fields.
    expect: Vec<&'a str>,
    pub(super) browser: BrowserFields<'a>,
    pub(super) content_type: Option<&'a str>,
    pub(super) content_coding: Option<&'a str>,
    pub(super) credentials: CredentialFields<'a>,
    pub(super) last_event_id: Option<&'a [u8]>,
    pub(super) conditions: ConditionFields<'a>,
}

impl<'a> Fields<'a> {
    /// Collects the fields of a head.
    pub(super) fn collect(headers: &[httparse::Header<'a>]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for header in headers {
            fields.add(header)?;
        }
        Ok(fields)
    }

    fn add(&mut self, header: &httparse::Header<'a>) -> Result<(), Problem> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // Most fields are not used here; comparing the length first avoids comparing their names.
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
            6 if is("origin") => self.browser.origin = Some(text(header)?),
            14 if is("sec-fetch-site") => self.browser.is_same_origin = header.value == b"same-origin",
            30 if is("access-control-request-headers") => self.browser.requested_headers = Some(header.value),
            12 if is("content-type") => self.content_type = Some(text(header)?),
            16 if is("content-encoding") => {
                let is_coding = |coding: &&str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
                self.content_coding = self.content_coding.or(list(text(header)?).find(is_coding));
            }
            13 if is("authorization") => self.set_authorization(header.value)?,
            6 if is("cookie") => self.add_cookies(header.value),
            13 if is("last-event-id") => self.last_event_id = Some(header.value),
            8 | 13 | 15 => self.add_condition(header),
            _ => {}
        }
        Ok(())
    }

    fn add_condition(&mut self, header: &httparse::Header<'a>) {
        let ConditionFields { if_match, if_none_match, idempotency_key, repeated } = &mut self.conditions;
        let fields = [("If-Match", if_match), ("If-None-Match", if_none_match), ("Idempotency-Key", idempotency_key)];
        let named = fields.into_iter().find(|(name, _)| header.name.eq_ignore_ascii_case(name));
        if let Some((name, field)) = named
            && field.replace(header.value).is_some()
        {
            *repeated = Some(name);
        }
    }

    fn add_cookies(&mut self, value: &'a [u8]) {
        let vacant = self.credentials.token_cookies.iter_mut().filter(|cookie| cookie.is_none());
        vacant.zip(cookie::tokens(value)).for_each(|(cookie, token)| *cookie = Some(token));
    }

    fn set_authorization(&mut self, value: &'a [u8]) -> Result<(), Problem> {
        match self.credentials.authorization.replace(value) {
            None => Ok(()),
            Some(_) => Err(Problem::bad_request("the request has more than one Authorization field")),
        }
    }

    /// Checks the number of `Host` fields and the value (RFC 9112 section 3.2).
    pub(super) fn check_host(&self, version: Version) -> Result<(), Problem> {
        match (self.hosts, version) {
            (0, Version::Http10) => Ok(()),
            (1, _) if is_host(self.host) => Ok(()),
            (1, _) => Err(Problem::bad_request("the Host field is not a host name with an optional port")),
            (0, _) => Err(Problem::bad_request("an HTTP/1.1 request must have a Host field")),
            _ => Err(Problem::bad_request("the request has more than one Host field")),
        }
    }

    /// Returns how the body is delimited, or `None` without a body (RFC 9112 section 6). Refuses anything ambiguous.
    pub(super) fn framing(&self, version: Version) -> Result<Option<BodyFraming>, Problem> {
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

    /// Returns whether the connection persists after the response (RFC 9112 section 9.3).
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        let has = |option: &str| self.connection.iter().any(|found| found.eq_ignore_ascii_case(option));
        match version {
            _ if has("close") => false,
            Version::Http11 => true,
            Version::Http10 => has("keep-alive"),
        }
    }

    /// Returns whether the client waits for `100 Continue` (RFC 9110 section 10.1.1).
    pub(super) fn expects_continue(&self, version: Version) -> Result<bool, Problem> {
        match self.expect.as_slice() {
            // In an HTTP/1.0 request, this expectation must be ignored (RFC 9110 section 10.1.1).
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

/// Returns a field's comma-separated elements (RFC 9110 section 5.6.1). An empty field has one empty element, so that it is
/// noticed. Only spaces and tabs are whitespace (RFC 9110 section 5.6.3); other Unicode whitespace is part of an element.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|element| element.trim_matches([' ', '\t']))
}

fn parse_length(text: &str) -> Result<u64, Problem> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::bad_request("the Content-Length field is not a decimal number"));
    }
    text.parse().map_err(|_| Problem::new(413, "the Content-Length field is too large"))
}

/// Describes unsupported transfer codings: 400 if the end of the body can't be determined, because `chunked` is not the last
/// coding (RFC 9112 section 6.3); 501 for an unknown coding (section 6.1).
fn bad_codings(codings: &[&str]) -> Problem {
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    let is_last = codings.iter().position(is_chunked).is_none_or(|first| first + 1 == codings.len());
    let is_known = |coding: &&str| coding.is_empty() || is_chunked(coding);
    if !is_last || codings.iter().all(is_known) {
        return Problem::bad_request("chunked must be the only transfer coding, and appear once");
    }
    Problem::new(501, "the only supported transfer coding is chunked")
}
