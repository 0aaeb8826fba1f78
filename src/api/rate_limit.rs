//! Applies the publishers' rate limit (`--publish-rate`), and describes its errors.

use super::Context;
use crate::auth::Principal;
use crate::http::Problem;
use crate::quota::Excess;

/// Returns 429 if a publisher's bucket has no token for even one event. Takes none. To be called before expensive work, such as
/// parsing JSON.
pub(super) fn peek_rate(principal: Option<Principal>, context: Context<'_>) -> Result<(), Problem> {
    let (Some(limiter), Some(principal)) = (&context.service.quotas.publish_rate, principal) else { return Ok(()) };
    limiter.check(principal, context.now.millis).map_err(|excess| rate_problem(excess, 1, limiter.burst()))
}

/// Takes tokens for this many events from a publisher's bucket. Returns 429 if it has fewer now, and 413 if it can never have
/// that many. Events count when they are received, including duplicates and events that are refused later.
pub(super) fn check_rate(principal: Option<Principal>, events: usize, context: Context<'_>) -> Result<(), Problem> {
    let (Some(limiter), Some(principal)) = (&context.service.quotas.publish_rate, principal) else { return Ok(()) };
    let taken = limiter.take(principal, events, context.now.millis);
    taken.map_err(|excess| rate_problem(excess, events, limiter.burst()))
}

fn rate_problem(excess: Excess, events: usize, burst: u64) -> Problem {
    match excess {
        Excess::RetryAfter(seconds) => Problem::too_many(
            format!(
                "rate limit exceeded (--publish-rate, counted per `sub`, or per token without one); nothing was \
                 published; try again in {seconds} s"
            ),
            seconds,
        ),
        Excess::ExceedsBurst => Problem::new(
            413,
            format!(
                "the body has {events} events, but --publish-burst allows at most {burst} at once; send them in \
                 several requests"
            ),
        ),
    }
}
