//! `GET /stats`: the broker's numbers as JSON.

use serde_json::json;

use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::store::Health;

use super::admission::{admit, demand};
use super::{Context, Plan};

/// What a token must name.
const NAME: &str = "stats";

pub(super) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    demand(&admit(Role::Publisher, head, context)?, NAME)?;
    Ok(Plan::Answer(answer(context)))
}

fn answer(context: Context<'_>) -> Response {
    let service = context.service;
    let counts = service.hub.counts();
    let status = service.store.status();
    let totals = service.metrics.totals();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": context.now.millis / 1000,
        "threads": service.settings.threads,
        "clients": totals.connections,
        "subscribers": counts.subscribers,
        "subscribers_stalled": totals.stalled,
        "topics": counts.topics,
        "events_published": counts.published,
        "events_duplicate": counts.duplicates,
        "events_delivered": totals.delivered,
        "gaps": totals.gaps,
        "bytes_sent": totals.bytes_sent,
        "streams_expired": totals.expired,
        "requests": totals.requests,
        "requests_denied": totals.denied,
        "connections_accepted": totals.accepted,
        "history_events": counts.history_events,
        "history_bytes": counts.history_bytes,
        "store": match status.health {
            Health::Ready => "ready",
            Health::Full => "full",
            Health::Failed { .. } => "failed",
            Health::Closed => "closed",
        },
        "records": counts.records,
        "record_names": counts.record_names,
        "record_bytes": counts.record_bytes,
        "record_subscribers": counts.record_subscribers,
        "store_commits": status.commits,
        "store_queued": status.queued,
        "store_log_bytes": status.log_bytes,
        "draining": service.is_draining(),
    });
    Response::json(body.to_string())
}
