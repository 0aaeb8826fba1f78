//! `POST /revoke`: refuses the tokens of a `sub` that were issued so far, or the one with a `jti`, and ends their streams.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::authorize::{authorize, require_name};
use super::body::{Body, check_coding};
use super::insert::late;
use super::publish::no_reply;
use super::{Context, Deferred, Outcome, Plan, Service};
use crate::auth::{Principal, Revocation, Role, Validity};
use crate::engine::EngineError;
use crate::http::head::is_media_type;
use crate::http::{Head, Problem, Response};
use crate::store::StoreError;

/// The name that a token must allow.
const REVOKE: &str = "revoke";
/// The detail of a 404.
const NO_TOKENS: &str = "this broker requires no tokens (--no-auth), so there are none to revoke; start it with keys";
/// The seconds after which to repeat a revocation that only this broker knows.
const AWAY_SECONDS: u32 = 5;
/// The two ways to say what to revoke.
const BOTH_WAYS: &str = "send {\"sub\":\"…\"} to revoke all tokens of a sub, or {\"jti\":\"…\"} to revoke one";

/// A revocation whose body has not arrived yet.
#[derive(Debug)]
pub struct Request {
    /// How long the token is valid.
    pub(super) validity: Validity,
    pub(super) principal: Option<Principal>,
}

pub(super) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    if context.service.auth.revocations().is_none() {
        return Err(RevokeError::NoTokens.into());
    }
    let grant = authorize(Role::Publisher, head, context)?;
    require_name(&grant, REVOKE)?;
    check_coding(head)?;
    if head.body.content_type.is_some_and(|text| !is_media_type(text, "application/json")) {
        let detail = format!("a revocation must be JSON, with Content-Type: application/json or none; {BOTH_WAYS}");
        return Err(Problem::new(415, detail));
    }
    if !head.body.has_framing {
        let detail = format!("the request has no body (no Content-Length and no chunked coding); {BOTH_WAYS}");
        return Err(Problem::new(411, detail));
    }
    Ok(Plan::Revoke(Request { validity: grant.validity(), principal: grant.principal() }))
}

/// The members of a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    sub: Option<String>,
    jti: Option<String>,
}

pub(super) fn finish(body: &Body<'_>, context: Context<'_>) -> Outcome {
    let revocation = match parse(body.bytes()) {
        Ok(revocation) => revocation,
        Err(problem) => {
            context.log_refused_body(&problem, "revocation", "invalid");
            return Outcome::Respond(problem.into());
        }
    };
    match Revoked::begin(revocation, context.now.unix_seconds(), context.service) {
        Ok(revoked) => Outcome::Deferred(Deferred::Revoke(revoked)),
        Err(error) => Outcome::Respond(response(Err(error))),
    }
}

/// What was revoked at this broker, and when.
#[derive(Debug)]
pub struct Revoked {
    revocation: Revocation,
    second: u64,
}

impl Revoked {
    /// Revokes tokens at this broker.
    pub fn begin(revocation: Revocation, second: u64, service: &Service) -> Result<Self, RevokeError> {
        let revocations = service.auth.revocations().ok_or(RevokeError::NoTokens)?;
        revocations.revoke(&revocation, second);
        Ok(Self { revocation, second })
    }

    /// Stores the revocation in the engine or in the database, and then calls `done`.
    pub fn keep(self, service: &Service, done: impl FnOnce(Result<Self, RevokeError>) + Send + 'static) {
        match (&service.engine, &service.store) {
            (Some(engine), _) => {
                let revocation = self.revocation.clone();
                // This broker rejects by the later of the two times, and the others by that of the engine.
                engine.revoke(&revocation, move |told| match told {
                    Ok(second) => done(Ok(Self { second: second.max(self.second), ..self })),
                    Err(error) => done(Err(RevokeError::Engine(error))),
                });
            }
            (None, Some(store)) => store.revoke(self.revocation.to_text(), self.second, move |stored| {
                done(stored.map(|()| self).map_err(RevokeError::Store));
            }),
            (None, None) => done(Ok(self)),
        }
    }
}

/// Why a revocation has no effect, or only at this broker and until it is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevokeError {
    /// The broker requires no tokens.
    NoTokens,
    /// This broker rejects the tokens, but the engine has not stored the revocation, so other brokers may accept them.
    /// Repeat the call.
    Engine(EngineError),
    /// This broker rejects the tokens until it restarts, because the revocation was not stored. Repeat the call.
    Store(StoreError),
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTokens => f.write_str(
                "this broker requires no tokens (`no_auth`), so there are none to revoke; start it with keys",
            ),
            Self::Engine(error) => write!(
                f,
                "{error}; only this broker refuses the tokens for now; repeat the request until the response is 200, so \
                 that every broker does"
            ),
            Self::Store(error) => write!(
                f,
                "{error}; this broker refuses the tokens only until it is restarted; repeat the request until the \
                 response is 200"
            ),
        }
    }
}

impl std::error::Error for RevokeError {}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::NoTokens => Self::new(404, NO_TOKENS),
            RevokeError::Engine(_) | RevokeError::Store(_) => Self::unavailable(error.to_string(), AWAY_SECONDS),
        }
    }
}

/// Refuses a revocation to which the engine or the store did not reply in time.
pub fn timed_out(context: Context<'_>) -> Problem {
    match context.service.engine {
        Some(_) => RevokeError::Engine(no_reply()).into(),
        None => RevokeError::Store(late(context)).into(),
    }
}

/// Returns the response once the revocation is stored, or has failed.
pub fn response(kept: Result<Revoked, RevokeError>) -> Response {
    match kept {
        Ok(Revoked { revocation, second }) => accepted(&revocation, second),
        Err(error) => Problem::from(error).into(),
    }
}

fn parse(body: &[u8]) -> Result<Revocation, Problem> {
    // A list would be accepted as the values of the members.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::bad_request(format!("the body is not a JSON object; {BOTH_WAYS}")));
    }
    let members: Members = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not a revocation: {error}; {BOTH_WAYS}")))?;
    let (claim, revocation) = match members {
        Members { sub: Some(sub), jti: None } => ("sub", Revocation::sub(sub)),
        Members { sub: None, jti: Some(jti) } => ("jti", Revocation::jti(jti)),
        Members { sub: None, jti: None } => {
            return Err(Problem::bad_request(format!("the body names nothing; {BOTH_WAYS}")));
        }
        Members { sub: Some(_), jti: Some(_) } => {
            return Err(Problem::bad_request(format!("the body has both sub and jti; {BOTH_WAYS}")));
        }
    };
    revocation.map_err(|error| Problem::bad_request(format!("{claim} can't be revoked: {error}; {BOTH_WAYS}")))
}

/// Returns the response for what was revoked in this second.
fn accepted(revocation: &Revocation, second: u64) -> Response {
    let (claim, name) = (revocation.claim(), Value::from(revocation.name()));
    Response::json(match claim {
        "sub" => format!("{{\"sub\":{name},\"tokens_issued_before\":{}}}", second + 1),
        _ => format!("{{\"{claim}\":{name}}}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_exactly_one_sub_or_jti() {
        assert_eq!(parse(br#"{"sub":"user:1"}"#).ok(), Revocation::sub("user:1").ok());
        assert_eq!(parse(br#" {"jti":"\u0000","sub":null} "#).ok(), Revocation::jti("\0").ok());
        let long = format!("{{\"sub\":\"{}\"}}", "x".repeat(257));
        for (body, part) in [
            ("", "not a JSON object"),
            ("{", "not a revocation: EOF"),
            (r#"["a",null]"#, "not a JSON object"),
            ("{}", "names nothing"),
            (r#"{"sub":""}"#, "1 to 256 bytes, but it has 0"),
            (long.as_str(), "1 to 256 bytes, but it has 257"),
            (r#"{"sub":5}"#, "invalid type"),
            (r#"{"sub":"a","sub":"a"}"#, "duplicate field"),
            (r#"{"sub":"a","jti":"b"}"#, "both sub and jti"),
            (r#"{"user":"a"}"#, "unknown field `user`"),
        ] {
            let problem = parse(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status, 400);
            assert!(problem.detail.contains(part) && problem.detail.ends_with(BOTH_WAYS), "{body}: {}", problem.detail);
        }
    }
}
