//! The publishers' rate limit (`--publish-rate`), and the answers to those who exceed it.

use super::Context;
use crate::auth::Principal;
use crate::http::Problem;
use crate::quota::Excess;

/// 429 if a publisher has no event of its allowance left. Asked before JSON is parsed, which takes longer.
pub(super) fn demand_allowance(holder: Option<Principal>, context: Context<'_>) -> Result<(), Problem> {
    let (Some(pace), Some(holder)) = (&context.service.quotas.publish_rate, holder) else { return Ok(()) };
    pace.check(holder, context.now.millis).map_err(|excess| refusal(excess, 1, pace.burst()))
}

/// Takes this many events from a publisher's allowance: 429 if it has fewer left for now, 413 if it never has as many at once.
/// Events count as they are sent, duplicates included, whatever becomes of them afterwards.
pub(super) fn demand_pace(holder: Option<Principal>, events: usize, context: Context<'_>) -> Result<(), Problem> {
    let (Some(pace), Some(holder)) = (&context.service.quotas.publish_rate, holder) else { return Ok(()) };
    pace.take(holder, events, context.now.millis).map_err(|excess| refusal(excess, events, pace.burst()))
}

fn refusal(excess: Excess, events: usize, burst: u64) -> Problem {
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
