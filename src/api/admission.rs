//! Who may do what: finds the token that a request shows, and has it judged.

use super::Context;
use crate::auth::{Auth, Denial, Grant, Role};
use crate::http::cors::Cors;
use crate::http::{Head, Method, Problem};
use crate::hub::TopicName;

/// The query parameter that may carry a token.
const PARAMETER: &str = "token";

// RFC 6750 section 3 names the errors.
const NO_TOKEN: &str = "Bearer realm=\"esker\"";
const BAD_TOKEN: &str = "Bearer realm=\"esker\", error=\"invalid_token\"";
const OTHER_NAME: &str = "Bearer realm=\"esker\", error=\"insufficient_scope\"";

/// What the request's token allows; 401 if there is none that is good.
pub(super) fn admit(role: Role, head: &Head<'_>, context: Context<'_>) -> Result<Grant, Problem> {
    let Auth::Tokens(keyrings) = &context.service.auth else { return Ok(Grant::everything()) };
    let shown = Shown::by(head);
    if let Shown::Cookie(_) = shown {
        check_origin(head, context)?;
    }
    let now = context.now.unix_seconds();
    keyrings.admit(role, shown.token(), now, &mut context.verified.borrow_mut()).map_err(|denial| unauthorized(&denial))
}

/// 401 if the token has expired since the head came: a body may take as long as its sender likes.
pub(super) fn demand_time(expires: Option<u64>, context: Context<'_>) -> Result<(), Problem> {
    let now = context.now.unix_seconds();
    match expires.filter(|&at| now >= at) {
        None => Ok(()),
        Some(at) => Err(unauthorized(&Denial::Expired { at, now })),
    }
}

fn unauthorized(denial: &Denial) -> Problem {
    let challenge = if *denial == Denial::Missing { NO_TOKEN } else { BAD_TOKEN };
    Problem::denied(401, challenge, denial.to_string())
}

/// 403 unless the grant covers the topic.
pub(super) fn demand_topic(grant: &Grant, topic: &TopicName) -> Result<(), Problem> {
    if grant.covers_topic(topic.as_str()) { Ok(()) } else { Err(not_covered(topic.as_str())) }
}

/// 403 unless the grant covers what this name, which is no topic's, stands for.
pub(super) fn demand(grant: &Grant, name: &str) -> Result<(), Problem> {
    if grant.covers(name) { Ok(()) } else { Err(not_covered(name)) }
}

fn not_covered(name: &str) -> Problem {
    let detail = format!("the token is good, but its `sub` and `topics` don't cover {name}; get one that does");
    Problem::denied(403, OTHER_NAME, detail)
}

/// A token, by where it was found; the order of the variants is the order in which they count.
enum Shown<'a> {
    Field(&'a [u8]),
    Query(Vec<u8>),
    Cookie(&'a [u8]),
    Nothing,
}

impl<'a> Shown<'a> {
    fn by(head: &Head<'a>) -> Self {
        let in_field = head.authorization.and_then(bearer).map(Self::Field);
        let in_query = || head.target.query.get_bytes(PARAMETER).filter(|token| !token.is_empty()).map(Self::Query);
        let in_cookie = || head.token_cookie.map(Self::Cookie);
        in_field.or_else(in_query).or_else(in_cookie).unwrap_or(Self::Nothing)
    }

    fn token(&self) -> Option<&[u8]> {
        match self {
            Self::Field(token) | Self::Cookie(token) => Some(token),
            Self::Query(token) => Some(token),
            Self::Nothing => None,
        }
    }
}

/// The token of `Authorization: Bearer …`; other schemes are somebody else's, such as a proxy's.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.first().is_none_or(|b| b" \t".contains(b));
    is_bearer.then(|| rest.trim_ascii())
}

/// A browser sends cookies whichever page asks. A page that may not read the answers must not
/// publish with somebody's cookie, either.
fn check_origin(head: &Head<'_>, context: Context<'_>) -> Result<(), Problem> {
    let Some(origin) = head.origin.filter(|_| head.method == Method::Post) else { return Ok(()) };
    let is_listed = matches!(context.house.origins.decide(Some(origin)), Cors::Listed(_));
    let is_own = origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(head.host));
    if is_listed || is_own {
        return Ok(());
    }
    let detail = "a page of this origin may not publish with a cookie; list it with --origin, or send the token in Authorization";
    Err(Problem::denied(403, NO_TOKEN, detail))
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
