//! Who may do what: finds the token that a request shows, and has it judged.

use super::Context;
use super::browsers::check_cookie_writer;
use crate::auth::{Auth, AuthError, Grant, Keyrings, Role};
use crate::http::head::MAX_TOKEN_COOKIES;
use crate::http::problem::Consequence;
use crate::http::{Head, Problem};
use crate::hub::TopicName;

/// The query parameter that may carry a token.
const PARAMETER: &str = "token";

/// Seconds after which a client whose token was not verified is to try again: others of its address may wait as well.
const RETRY_AFTER: u32 = 5;

// RFC 6750 section 3 names the errors.
const NO_TOKEN: &str = "Bearer realm=\"esker\"";
const BAD_TOKEN: &str = "Bearer realm=\"esker\", error=\"invalid_token\"";
const OTHER_NAME: &str = "Bearer realm=\"esker\", error=\"insufficient_scope\"";

/// What the request's token allows; 401 if there is none that is good.
pub(super) fn admit(role: Role, head: &Head<'_>, context: Context<'_>) -> Result<Grant, Problem> {
    let Auth::Tokens(keyrings) = &context.service.auth else { return Ok(Grant::everything()) };
    let shown = Credential::by(head);
    if let Credential::Cookies(_) = shown {
        check_cookie_writer(head, context).map_err(|detail| Problem::denied(403, NO_TOKEN, detail))?;
    }
    let mut refusal = None;
    for token in shown.tokens() {
        match judge(role, token, keyrings, context) {
            Ok(grant) => return Ok(grant),
            // It may be the good one, but need not be waited for if another one is known to be good.
            Err(problem) if problem.consequence == Consequence::Delay => {
                return shown.tokens().find_map(|token| recall(role, token, keyrings, context)?.ok()).ok_or(problem);
            }
            Err(problem) => refusal = Some(after(refusal, problem)),
        }
    }
    Err(refusal.unwrap_or_else(|| unauthorized(&AuthError::Missing)))
}

/// The refusal of several tokens: the first one's reason, and the end of the connection if any signature was bad.
fn after(first: Option<Problem>, problem: Problem) -> Problem {
    let closes = problem.consequence == Consequence::Close;
    let first = first.unwrap_or(problem);
    if closes { first.closing() } else { first }
}

/// What a token that was verified lately allows.
fn recall(role: Role, token: &[u8], keyrings: &Keyrings, context: Context<'_>) -> Option<Result<Grant, AuthError>> {
    keyrings.look_up(role, token, context.now.unix_seconds(), &mut context.verified.borrow_mut())
}

/// What a token allows.
fn judge(role: Role, token: &[u8], keyrings: &Keyrings, context: Context<'_>) -> Result<Grant, Problem> {
    let judged = match recall(role, token, keyrings, context) {
        Some(judged) => judged,
        None => {
            check_allowance(context)?;
            keyrings.verify(role, token, context.now.unix_seconds(), &mut context.verified.borrow_mut())
        }
    };
    judged.map_err(|denial| unauthorized(&denial))
}

/// An address that has shown too many forged tokens lately waits with those that are not known to be good.
fn check_allowance(context: Context<'_>) -> Result<(), Problem> {
    let limiter = &context.service.quotas.verifications;
    limiter.check(context.address.into(), context.now.millis).map_err(|_| {
        let detail = format!(
            "too many tokens with an invalid signature came from your address, so this one was not verified; try \
             again in {RETRY_AFTER} s"
        );
        Problem::too_many(detail, RETRY_AFTER).delayable()
    })
}

/// 401 if the token has expired since the head came: a body may take as long as its sender likes.
pub(super) fn demand_time(expires: Option<u64>, context: Context<'_>) -> Result<(), Problem> {
    let now = context.now.unix_seconds();
    match expires.filter(|&at| now >= at) {
        None => Ok(()),
        Some(at) => Err(unauthorized(&AuthError::Expired { at, now })),
    }
}

fn unauthorized(denial: &AuthError) -> Problem {
    let challenge = if *denial == AuthError::Missing { NO_TOKEN } else { BAD_TOKEN };
    let problem = Problem::denied(401, challenge, denial.to_string());
    match denial {
        // Verifying a signature is the dearest thing that a client without a token can ask for.
        AuthError::Signature(_) => problem.closing(),
        _ => problem,
    }
}

/// 403 unless the grant covers the topic.
pub(super) fn demand_topic(grant: &Grant, topic: &TopicName) -> Result<(), Problem> {
    if grant.allows_topic(topic.as_str()) { Ok(()) } else { Err(not_covered(topic.as_str())) }
}

/// 403 unless the grant covers what this name, which is no topic's, stands for.
pub(super) fn demand(grant: &Grant, name: &str) -> Result<(), Problem> {
    if grant.allows(name) { Ok(()) } else { Err(not_covered(name)) }
}

fn not_covered(name: &str) -> Problem {
    let detail = format!("the token is valid, but its `sub` and `topics` don't allow {name}; get one that does");
    Problem::denied(403, OTHER_NAME, detail)
}

/// A token, by where it was found; the order of the variants is the order in which they count.
enum Credential<'a> {
    Field(&'a [u8]),
    Query(Vec<u8>),
    /// A browser may have an older one for another domain or path.
    Cookies([Option<&'a [u8]>; MAX_TOKEN_COOKIES]),
    Nothing,
}

impl<'a> Credential<'a> {
    fn by(head: &Head<'a>) -> Self {
        let in_field = head.authorization.and_then(bearer).map(Self::Field);
        let in_query = || head.target.query.get_bytes(PARAMETER).filter(|token| !token.is_empty()).map(Self::Query);
        let in_cookie = || head.token_cookies[0].map(|_| Self::Cookies(head.token_cookies));
        in_field.or_else(in_query).or_else(in_cookie).unwrap_or(Self::Nothing)
    }

    /// More than one only of cookies, of which the first good one counts.
    fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        let tokens = match self {
            Self::Field(token) => [Some(*token), None, None, None],
            Self::Query(token) => [Some(token.as_slice()), None, None, None],
            Self::Cookies(tokens) => *tokens,
            Self::Nothing => [None; MAX_TOKEN_COOKIES],
        };
        tokens.into_iter().flatten()
    }
}

/// The token of `Authorization: Bearer …`; other schemes are somebody else's, such as a proxy's.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.first().is_none_or(|b| b" \t".contains(b));
    is_bearer.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_scheme_is_told_from_others() {
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
