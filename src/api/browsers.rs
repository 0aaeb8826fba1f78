//! Protects against requests from foreign web pages. A page can send requests to every address that its browser can reach,
//! including this machine and its network, and the browser adds the user's cookies; so without checks, every page could do what
//! the user may do. `Origin`, `Host` and `Sec-Fetch-Site`, which pages can't forge, show which page sent a request.

use super::Context;
use crate::auth::Auth;
use crate::http::cors::Origins;
use crate::http::origin::{is_loopback_host, is_origin_of_host};
use crate::http::{Head, Problem};

/// Refuses requests to a broker without authentication that a foreign page may have sent, unless every origin is allowed.
pub(super) fn check_open_broker(head: &Head<'_>, context: Context<'_>) -> Result<(), Problem> {
    let origins = context.headers.origins;
    if !matches!(context.service.auth, Auth::Open) || *origins == Origins::Any {
        return Ok(());
    }
    check_host(head, context)?;
    match head.browser.origin.filter(|_| !head.method.is_safe()) {
        Some(origin) if !origins.allows(origin) && !is_own_page(head) => Err(foreign_origin(origin)),
        _ => Ok(()),
    }
}

/// Returns 421 if the request's host is not this machine. In a DNS rebinding attack, the name of a foreign site resolves to a
/// loopback address, so that the browser treats the broker as the site's own origin; only `Host` then shows the foreign name.
/// Requests through a Unix socket are not checked, because only proxies use one, nor are requests without a host, which no
/// browser sends.
fn check_host(head: &Head<'_>, context: Context<'_>) -> Result<(), Problem> {
    let is_checked = context.service.loopback_only.is_for(context.role) && context.address.is_some();
    if !is_checked
        || head.host.is_empty()
        || is_loopback_host(head.host)
        || context.headers.origins.lists_host(head.host)
    {
        return Ok(());
    }
    let detail = format!(
        "this broker runs with --no-auth and serves only this machine, but the request's Host is {}; use localhost, \
         let the proxy send Host: localhost, or start the broker with --origin and the origin to allow, or with \
         --origin '*' to allow all",
        head.host
    );
    Err(Problem::new(421, detail))
}

fn foreign_origin(origin: &str) -> Problem {
    let detail = format!(
        "this broker runs with --no-auth and does not accept writes from pages of {origin}; allow them with \
         --origin {origin}, or all pages with --origin '*'"
    );
    Problem::new(403, detail)
}

/// Refuses a write that is authorized by a cookie and may come from a foreign page (CSRF): browsers send cookies regardless of
/// which page makes the request. Returns the detail of the error.
pub(super) fn check_cookie_origin(head: &Head<'_>, context: Context<'_>) -> Result<(), &'static str> {
    let is_listed = head.browser.origin.is_some_and(|origin| context.headers.origins.lists(origin));
    if head.method.is_safe() || is_listed || is_own_page(head) {
        return Ok(());
    }
    Err("a cookie authorizes writes only from pages of the broker's own origin or of one listed with --origin; list \
         the page's origin, or send the token in the Authorization header")
}

/// Returns whether the browser reports that the page is of the broker's own origin. `Host` may be changed by proxies;
/// `Sec-Fetch-Site` is not, but is missing from older browsers and from pages without TLS.
fn is_own_page(head: &Head<'_>) -> bool {
    head.browser.is_same_origin || head.browser.origin.is_some_and(|origin| is_origin_of_host(origin, head.host))
}
