//! How much a publisher may publish: asks its bucket, and says so if that has not enough.

use super::Context;
use crate::auth::Holder;
use crate::http::Problem;
use crate::quota::Excess;

/// 429 if whoever publishes has published as much as it may for now, 413 if so many events at once are more than it ever may.
/// Events count as they are sent, repetitions among them, whatever then becomes of them.
pub(super) fn demand_pace(holder: Option<Holder>, events: usize, context: Context<'_>) -> Result<(), Problem> {
    let (Some(pace), Some(holder)) = (&context.service.quotas.pace, holder) else { return Ok(()) };
    pace.take(holder, events, context.now.millis).map_err(|excess| match excess {
        Excess::ForNow(seconds) => Problem::too_many(
            format!(
                "as much has been published with this token, or with others of the same `sub`, as --publish-rate allows; \
                 nothing of this was, try again in {seconds} s"
            ),
            seconds,
        ),
        Excess::ForEver => Problem::new(
            413,
            format!(
                "the body has more events than the {} that --publish-burst allows at once; send them in several bodies",
                pace.burst()
            ),
        ),
    })
}
