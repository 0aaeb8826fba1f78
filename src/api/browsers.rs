//! Requests that pages in a browser make. A page can send requests to every address that its browser reaches, this machine's
//! and those of its network included, and the browser adds the user's cookies: what the user may do, the page does. `Origin`,
//! `Host` and `Sec-Fetch-Site`, which no page can forge, tell which page asks.

use super::Context;
use crate::auth::Auth;
use crate::http::cors::Origins;
use crate::http::origin::{is_loopback_host, is_origin_of_host};
use crate::http::{Head, Problem};
use crate::net::ListenerRole;

/// Whether only this machine reaches the broker by TCP: only loopback addresses are listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopbackOnly {
    /// For clients.
    pub clients: bool,
    /// For the administration, if it has an address of its own.
    pub administration: bool,
}

impl LoopbackOnly {
    fn is_for(self, role: ListenerRole) -> bool {
        match role {
            ListenerRole::All | ListenerRole::Public => self.clients,
            ListenerRole::Administration => self.administration,
        }
    }
}

/// Refuses what a page on the web may have sent to a broker without authentication, unless every origin may use it.
pub(super) fn check_open_broker(head: &Head<'_>, context: Context<'_>) -> Result<(), Problem> {
    let origins = context.house.origins;
    if !matches!(context.service.auth, Auth::Open) || *origins == Origins::Any {
        return Ok(());
    }
    check_host(head, context)?;
    match head.origin.filter(|_| !head.method.is_safe()) {
        Some(origin) if !origins.allows(origin) && !is_own_page(head) => Err(foreign_writer(origin)),
        _ => Ok(()),
    }
}

/// 421 if the request is for another host than this machine. A page whose own name resolves to a loopback address is of the
/// broker's origin to its browser (DNS rebinding); only the name in `Host` betrays it. Through a Unix socket no browser comes,
/// but proxies do; a request without a host is no browser's.
fn check_host(head: &Head<'_>, context: Context<'_>) -> Result<(), Problem> {
    let is_checked = context.service.loopback_only.is_for(context.role) && context.address.is_some();
    if !is_checked || head.host.is_empty() || is_loopback_host(head.host) || context.house.origins.lists_host(head.host)
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

fn foreign_writer(origin: &str) -> Problem {
    let detail = format!(
        "this broker runs with --no-auth and does not accept writes from pages of {origin}; allow them with \
         --origin {origin}, or all pages with --origin '*'"
    );
    Problem::new(403, detail)
}

/// 403 if a request that a cookie is to authorize may come from a page that must not use it: a browser sends cookies whichever
/// page asks, and a page that may not read the answers must not write either.
pub(super) fn check_cookie_writer(head: &Head<'_>, context: Context<'_>) -> Result<(), &'static str> {
    let is_listed = head.origin.is_some_and(|origin| context.house.origins.lists(origin));
    if head.method.is_safe() || is_listed || is_own_page(head) {
        return Ok(());
    }
    Err("a cookie authorizes writes only from pages of the broker's own origin or of one listed with --origin; list \
         the page's origin, or send the token in the Authorization header")
}

/// Returns whether the browser says that the page is of the broker's own origin. Proxies may change `Host`; `Sec-Fetch-Site`
/// passes them, but older browsers and pages without TLS don't send it.
fn is_own_page(head: &Head<'_>) -> bool {
    head.is_same_origin || head.origin.is_some_and(|origin| is_origin_of_host(origin, head.host))
}
