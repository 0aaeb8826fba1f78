//! Authenticates and authorizes requests: finds a request's token, verifies it, and checks what it allows.

use super::Context;
use super::browsers::check_cookie_origin;
use crate::auth::{Auth, AuthError, Grant, Keyrings, Role, Validity, subject_of};
use crate::http::head::MAX_TOKEN_COOKIES;
use crate::http::problem::Consequence;
use crate::http::{Head, Problem};
use crate::hub::TopicName;

/// The query parameter that may contain a token (RFC 6750 section 2.3 calls it `access_token`).
pub(super) const PARAMETER: &str = "token";

/// The seconds after which a client whose token was not verified should try again. Other clients of its address may be waiting.
const RETRY_AFTER: u32 = 5;

// The errors are those of RFC 6750 section 3.1.
const NO_TOKEN: &str = "Bearer realm=\"esker\"";
const BAD_TOKEN: &str = "Bearer realm=\"esker\", error=\"invalid_token\"";
const INSUFFICIENT_SCOPE: &str = "Bearer realm=\"esker\", error=\"insufficient_scope\"";

/// Returns what the request's token allows in a role. Returns 401 without a valid token.
pub(super) fn authorize(role: Role, head: &Head<'_>, context: Context<'_>) -> Result<Grant, Problem> {
    let Auth::Tokens(keyrings) = &context.service.auth else { return Ok(Grant::everything()) };
    let credential = Credential::find(head);
    if let Credential::Cookies(_) = credential {
        check_cookie_origin(head, context).map_err(|detail| Problem::denied(403, NO_TOKEN, detail))?;
    }
    let mut refusal = None;
    for token in credential.tokens() {
        match verify(role, token, keyrings, context) {
            Ok(grant) => {
                note_subject(token, context);
                return Ok(grant);
            }
            // This token may be valid, but it need not be verified if another one is known to be valid.
            Err(problem) if problem.consequence == Consequence::Delay => {
                return credential
                    .tokens()
                    .find_map(|token| {
                        let grant = look_up(role, token, keyrings, context)?.ok()?;
                        note_subject(token, context);
                        Some(grant)
                    })
                    .ok_or(problem);
            }
            Err(problem) => refusal = Some(combine(refusal, problem)),
        }
    }
    Err(refusal.unwrap_or_else(|| unauthorized(&AuthError::Missing)))
}

/// Notes the `sub` of an accepted token for the access log.
fn note_subject(token: &[u8], context: Context<'_>) {
    if context.access_log().is_some() {
        context.token_cache.borrow_mut().note_subject(subject_of(token));
    }
}

/// Combines the errors of several tokens: reports the first one, and closes the connection if any of them does.
fn combine(first: Option<Problem>, problem: Problem) -> Problem {
    let closes = problem.consequence == Consequence::Close;
    let first = first.unwrap_or(problem);
    if closes { first.closing() } else { first }
}

/// Returns what a token allows, or why it is refused, if it was verified recently.
fn look_up(role: Role, token: &[u8], keyrings: &Keyrings, context: Context<'_>) -> Option<Result<Grant, AuthError>> {
    keyrings.look_up(role, token, context.now.unix_seconds(), &mut context.token_cache.borrow_mut())
}

/// Returns what a token allows. Verifies it unless it was verified recently.
fn verify(role: Role, token: &[u8], keyrings: &Keyrings, context: Context<'_>) -> Result<Grant, Problem> {
    let verified = match look_up(role, token, keyrings, context) {
        Some(verified) => verified,
        None => {
            check_verification_limit(context)?;
            keyrings.verify(role, token, context.now.unix_seconds(), &mut context.token_cache.borrow_mut())
        }
    };
    verified.map_err(|error| unauthorized(&error))
}

/// Returns a delayable 429 if the client's address has recently sent too many tokens with an invalid signature.
fn check_verification_limit(context: Context<'_>) -> Result<(), Problem> {
    let limiter = &context.service.quotas.verifications;
    limiter.check(context.address.into(), context.now.millis).map_err(|_| {
        let detail = format!(
            "too many tokens with an invalid signature came from your address, so this one was not verified; try \
             again in {RETRY_AFTER} s"
        );
        Problem::too_many(detail, RETRY_AFTER).delayable()
    })
}

/// Returns 401 if the token has expired or was revoked since the head arrived. A body may take any time to arrive.
pub(super) fn require_valid(validity: Validity, context: Context<'_>) -> Result<(), Problem> {
    let now = context.now.unix_seconds();
    match validity.expires.filter(|&at| now >= at) {
        Some(at) => Err(unauthorized(&AuthError::Expired { at, now })),
        None if context.service.auth.is_revoked(validity.token) => Err(unauthorized(&AuthError::Revoked)),
        None => Ok(()),
    }
}

fn unauthorized(error: &AuthError) -> Problem {
    let challenge = if *error == AuthError::Missing { NO_TOKEN } else { BAD_TOKEN };
    let problem = Problem::denied(401, challenge, error.to_string());
    match error {
        // Verifying a signature is the most expensive work that a client without a valid token can cause.
        AuthError::Signature(_) => problem.closing(),
        _ => problem,
    }
}

/// Returns whether a request is refused because of its token. One without a token is not: anybody may send those.
pub(super) fn is_token_refused(problem: &Problem) -> bool {
    matches!(problem.challenge, Some(BAD_TOKEN | INSUFFICIENT_SCOPE))
}

/// Returns 403 unless the grant allows the topic.
pub(super) fn require_topic(grant: &Grant, topic: &TopicName) -> Result<(), Problem> {
    // The name is checked to be UTF-8 whenever it is needed as text.
    if grant.is_unrestricted() || grant.allows_topic(topic.as_str()) { Ok(()) } else { Err(forbidden(topic.as_str())) }
}

/// Returns 403 unless the grant allows a name that is not a topic, such as `stats`.
pub(super) fn require_name(grant: &Grant, name: &str) -> Result<(), Problem> {
    if grant.allows(name) { Ok(()) } else { Err(forbidden(name)) }
}

fn forbidden(name: &str) -> Problem {
    let detail =
        format!("the token is valid, but its `sub` and its list of topics don't allow {name}; get one that does");
    Problem::denied(403, INSUFFICIENT_SCOPE, detail)
}

/// A request's token, by its source. The order of the variants is their precedence.
enum Credential<'a> {
    /// From the `Authorization` field.
    Header(&'a [u8]),
    /// From the query.
    Query(Vec<u8>),
    /// From cookies. A browser may send an older one that was set for another domain or path.
    Cookies([Option<&'a [u8]>; MAX_TOKEN_COOKIES]),
    /// The request has no token.
    Missing,
}

impl<'a> Credential<'a> {
    /// Returns the credential with the highest precedence.
    fn find(head: &Head<'a>) -> Self {
        let in_header = head.credentials.authorization.and_then(bearer).map(Self::Header);
        let in_query = || head.target.query.get_bytes(PARAMETER).filter(|token| !token.is_empty()).map(Self::Query);
        let in_cookie = || head.credentials.token_cookies[0].map(|_| Self::Cookies(head.credentials.token_cookies));
        in_header.or_else(in_query).or_else(in_cookie).unwrap_or(Self::Missing)
    }

    /// Returns the tokens. Only cookies can have several, of which the first valid one is used.
    fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        let tokens = match self {
            Self::Header(token) => [Some(*token), None, None, None],
            Self::Query(token) => [Some(token.as_slice()), None, None, None],
            Self::Cookies(tokens) => *tokens,
            Self::Missing => [None; MAX_TOKEN_COOKIES],
        };
        tokens.into_iter().flatten()
    }
}

/// Returns the token of `Authorization: Bearer …` (RFC 6750 section 2.1). Other schemes are ignored: they may be meant for a
/// proxy.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.first().is_none_or(|b| b" \t".contains(b));
    is_bearer.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bearer_scheme_is_recognized() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER   abc ", Some("abc")),
            ("Bearer", Some("")),
            ("Bearer ", Some("")),
            ("Bearerabc", None),
            ("Basic YTpi", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value}");
        }
    }
}
