//! Error responses for clients: `application/problem+json` (RFC 9457) with a detail that says what to do.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::response::{Response, reason};

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// What is wrong and what to do about it.
    pub detail: Cow<'static, str>,
    /// For 405: the methods that the route allows.
    pub allow: Option<&'static str>,
    /// For 401 and 403: the challenge of `WWW-Authenticate`.
    pub challenge: Option<&'static str>,
    /// For 415: the content codings that are supported.
    pub accept_encoding: Option<&'static str>,
    /// For 429 and 503: the number of seconds to wait before trying again.
    pub retry_after: Option<u32>,
    /// Further members of the body, for programs (RFC 9457 section 3.2).
    pub members: Vec<(&'static str, Value)>,
    /// What happens to the connection.
    pub consequence: Consequence,
}

/// What an error means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The connection stays open, unless the client closes it.
    KeepOpen,
    /// The connection is closed after the response.
    Close,
    /// The request may be delayed and planned again instead. If this error is sent after all, the connection is closed.
    Delay,
}

impl Problem {
    /// Creates an error after which the connection stays open.
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            allow: None,
            challenge: None,
            accept_encoding: None,
            retry_after: None,
            members: Vec::new(),
            consequence: Consequence::KeepOpen,
        }
    }

    /// Creates a 400: the request violates the standards or this broker's contract.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, detail)
    }

    /// Creates a 405 with the allowed methods (RFC 9110 section 15.5.6).
    pub fn method_not_allowed(allow: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { allow: Some(allow), ..Self::new(405, detail) }
    }

    /// Creates a 415 for an unsupported content coding, with the supported ones (RFC 9110 section 15.5.16).
    pub fn unsupported_coding(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { accept_encoding: Some("identity"), ..Self::new(415, detail) }
    }

    /// Creates a 401 or 403 with a challenge (RFC 6750 section 3).
    pub fn denied(status: u16, challenge: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { challenge: Some(challenge), ..Self::new(status, detail) }
    }

    /// Closes the connection after the response.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { consequence: Consequence::Close, ..self }
    }

    /// Allows the request to be delayed and planned again instead.
    #[must_use]
    pub fn delayable(self) -> Self {
        Self { consequence: Consequence::Delay, ..self }
    }

    /// Creates a 429 with the number of seconds to wait (RFC 6585 section 4).
    pub fn too_many(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(429, detail) }
    }

    /// Creates a 503 with the number of seconds to wait.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, detail) }
    }
}

/// The maximum length of a detail in characters. Details may quote the request; longer ones are truncated.
const MAX_DETAIL: usize = 2048;

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let title = reason(problem.status);
        let end = problem.detail.char_indices().nth(MAX_DETAIL).map_or(problem.detail.len(), |(at, _)| at);
        let mut body = json!({"title": title, "status": problem.status, "detail": &problem.detail[..end]});
        for (name, value) in problem.members {
            body[name] = value;
        }
        let mut response = Self::new(problem.status, "application/problem+json", format!("{body}\n"));
        if problem.consequence != Consequence::KeepOpen {
            response = response.closing();
        }
        if let Some(allow) = problem.allow {
            response = response.field("Allow", allow);
        }
        if let Some(challenge) = problem.challenge {
            response = response.field("WWW-Authenticate", challenge);
        }
        if let Some(codings) = problem.accept_encoding {
            response = response.field("Accept-Encoding", codings);
        }
        if let Some(seconds) = problem.retry_after {
            response = response.field("Retry-After", seconds.to_string());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::cors::{Cors, Origins};
    use crate::http::response::{CommonHeaders, ResponseParams};

    #[test]
    fn long_details_are_truncated() {
        let write = |detail: String| {
            let mut out = Vec::new();
            let headers = CommonHeaders { date: "now", origins: &Origins::Any };
            let params = ResponseParams::for_malformed_head(Cors::Denied, false);
            params.write(&Problem::bad_request(detail).into(), headers, &mut out);
            String::from_utf8(out).unwrap()
        };
        let long = write("ä\u{b}".repeat(1_000_000));
        assert!(long.len() < 20_000 && long.ends_with("\"title\":\"Bad Request\"}\n"), "{}", long.len());
        assert!(write("short".into()).contains("\"detail\":\"short\""));
    }
}
