//! `GET /stats`: the broker's numbers as JSON.

use serde_json::json;

use crate::http::Response;

use super::Context;

pub(super) fn answer(context: Context<'_>) -> Response {
    let service = context.service;
    let counts = service.hub.counts();
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
        "requests": totals.requests,
        "connections_accepted": totals.accepted,
        "history_events": counts.history_events,
        "history_bytes": counts.history_bytes,
        "draining": service.is_draining(),
    });
    Response::json(body.to_string())
}
