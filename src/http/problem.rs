//! Errors for clients: `application/problem+json` (RFC 9457) that says what to do.

use std::borrow::Cow;

use serde_json::json;

use super::response::Response;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// What is wrong and what to do about it.
    pub detail: Cow<'static, str>,
    /// For 405: the methods that are allowed here.
    pub allow: Option<&'static str>,
    /// For 401 and 403: the challenge of `WWW-Authenticate`.
    pub challenge: Option<&'static str>,
    /// For 415: the codings of a body that are understood here.
    pub accept_encoding: Option<&'static str>,
    /// For 429 and 503: seconds after which another try makes sense.
    pub retry_after: Option<u32>,
    /// What follows for the connection.
    pub consequence: Consequence,
}

/// What an error means for the connection, beside what the request itself asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Other requests may follow.
    GoesOn,
    /// The connection is closed after the answer.
    Closes,
    /// The request may be held back and tried again instead; the connection is closed if it is answered with this.
    MayWait,
}

impl Problem {
    /// An error with this status and advice.
    pub fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            allow: None,
            challenge: None,
            accept_encoding: None,
            retry_after: None,
            consequence: Consequence::GoesOn,
        }
    }

    /// 400: the request is not what the standards or this broker's contract say.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, detail)
    }

    /// 405 with the methods that are allowed.
    pub fn method_not_allowed(allow: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { allow: Some(allow), ..Self::new(405, detail) }
    }

    /// 415 for a coding of the body, with those that are understood (RFC 9110 section 15.5.16).
    pub fn unsupported_coding(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { accept_encoding: Some("identity"), ..Self::new(415, detail) }
    }

    /// 401 or 403 with the challenge (RFC 6750 section 3).
    pub fn denied(status: u16, challenge: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { challenge: Some(challenge), ..Self::new(status, detail) }
    }

    /// The same, after which the connection is closed.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { consequence: Consequence::Closes, ..self }
    }

    /// The same, unless waiting helps.
    #[must_use]
    pub fn unless_waiting_helps(self) -> Self {
        Self { consequence: Consequence::MayWait, ..self }
    }

    /// 429 with the seconds to wait (RFC 6585 section 4).
    pub fn too_many(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(429, detail) }
    }

    /// 503 with the seconds to wait.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, detail) }
    }
}

/// Characters of a detail, some of which quote what was sent; a longer one is cut off.
const MAX_DETAIL: usize = 2048;

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let title = super::response::reason(problem.status);
        let end = problem.detail.char_indices().nth(MAX_DETAIL).map_or(problem.detail.len(), |(at, _)| at);
        let body = json!({"title": title, "status": problem.status, "detail": &problem.detail[..end]});
        let mut response = Self::new(problem.status, "application/problem+json", format!("{body}\n"));
        if problem.consequence != Consequence::GoesOn {
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

    #[test]
    fn a_detail_that_quotes_much_is_cut_off() {
        let cors = super::super::cors::Cors::Denied;
        let write = |detail: String| {
            let (origins, mut out) = (super::super::Origins::Any, Vec::new());
            let house = super::super::response::CommonHeaders { date: "now", origins: &origins };
            let reply = super::super::ResponseParams::to_unreadable(cors.clone(), false);
            reply.write(&Problem::bad_request(detail).into(), house, &mut out);
            String::from_utf8(out).unwrap()
        };
        let long = write("ä\u{b}".repeat(1_000_000));
        assert!(long.len() < 20_000 && long.ends_with("\"title\":\"Bad Request\"}\n"), "{}", long.len());
        assert!(write("short".into()).contains("\"detail\":\"short\""));
    }
}
