//! The table of the broker's metrics: their names in `/metrics` and `/stats`, their descriptions and their values. Independent
//! of both formats.

use std::sync::atomic::Ordering;

use crate::hub::HubCounts;
use crate::metrics::{
    BodyRefusal, CODES, Close, DROPPED_ACCESS_LOG_LINES, DROPPED_LOG_LINES, Family, InsertRefusal, Label,
    LimitedVerification, Metrics, Number, PublishRefusal, Samples, TurnedAway, Unread, View, WorkerMetrics,
};
use crate::quota::RateLimiter;
use crate::store::{Health, Status, StoreError};

use super::{revocations, workers};
use crate::api::{Context, Service};

/// Returns all metrics with their current values.
pub(in crate::api) fn table(context: Context<'_>) -> Vec<Family> {
    let service = context.service;
    let (counts, status) = (service.hub.counts(), service.store_status());
    let mut table = Vec::new();
    table.extend(broker(context));
    table.extend(workers::families(service));
    table.extend(connections(service));
    table.extend(buffers(service));
    table.extend(requests(&service.metrics));
    table.extend(revocations::families(service.auth.revocations()));
    table.extend(streams(service, &counts));
    table.extend(events(service, &counts));
    table.extend(delivery(&service.metrics));
    table.extend(history(service, &counts));
    table.extend(store(&status));
    table.extend(refused_inserts(&service.metrics, &status));
    table.extend(records(service, &counts, &status));
    table
}

fn broker(context: Context<'_>) -> [Family; 7] {
    let service = context.service;
    let version = Samples::by_word("version", &[env!("CARGO_PKG_VERSION")], |_| 1);
    [
        Family::gauge("esker_build_info", "Always 1; the label is the broker's version.", version)
            .shown(View::Word("version")),
        Family::gauge(
            "process_start_time_seconds",
            "Start time of the broker, in seconds since the Unix epoch.",
            service.metrics.started_seconds(),
        ),
        Family::gauge("esker_uptime_seconds", "Seconds since the broker started.", context.now.millis / 1000)
            .shown_as("uptime_seconds"),
        Family::gauge(
            "esker_threads",
            "Number of worker threads; the label worker of other metrics is a thread's \
                                        index.",
            service.settings.threads,
        )
        .shown_as("threads"),
        Family::gauge("esker_draining", "1 while the broker is shutting down, otherwise 0.", service.is_draining())
            .shown(View::Bool("draining")),
        Family::counter(
            "esker_log_lines_dropped_total",
            "Log lines dropped because nothing read standard error fast enough.",
            DROPPED_LOG_LINES.load(Ordering::Relaxed),
        )
        .shown_as("log_lines_dropped"),
        Family::counter(
            "esker_access_log_lines_dropped_total",
            "Lines of the access log dropped because nothing read standard output fast enough.",
            DROPPED_ACCESS_LOG_LINES.load(Ordering::Relaxed),
        )
        .shown_as("access_log_lines_dropped"),
    ]
}

fn connections(service: &Service) -> [Family; 4] {
    let (metrics, settings) = (&service.metrics, &service.settings);
    let refused = [
        metrics.sum(|worker| worker.refused_address.get()),
        metrics.sum(|worker| worker.refused_limit.get()),
        metrics.sum(|worker| worker.refused_descriptors.get()),
    ];
    [
        Family::gauge(
            "esker_connections",
            "Open connections, including subscribers and excluding connections to --admin.",
            metrics.each(|worker| worker.connections.get()),
        )
        .shown_as("clients"),
        Family::gauge(
            "esker_connections_max",
            "Maximum number of open connections (--max-connections).",
            settings.max_connections,
        ),
        Family::counter(
            "esker_connections_accepted_total",
            "Connections accepted.",
            metrics.each(|worker| worker.accepted.get()),
        )
        .shown_as("connections_accepted"),
        Family::counter(
            "esker_connections_refused_total",
            "By reason: address (connections closed immediately by --max-connections-per-ip), limit (how often \
             connections had to wait in the backlog because --max-connections was reached), descriptors (how often \
             accepting paused because the process was out of file descriptors).",
            Samples::by_word("reason", &["address", "limit", "descriptors"], |reason| refused[reason]),
        ),
    ]
}

fn buffers(service: &Service) -> [Family; 5] {
    let metrics = &service.metrics;
    [
        Family::counter(
            "esker_connections_idle_closed_total",
            "Idle connections closed to make room for new ones.",
            metrics.sum(|worker| worker.idle_closed.get()),
        )
        .shown_as("connections_idle_closed"),
        Family::gauge(
            "esker_bodies_bytes",
            "Memory of request bodies that are being received or processed; at most 256 MiB, or more with a large \
             --max-body.",
            service.bodies.bytes(),
        )
        .shown_as("bodies_bytes"),
        Family::counter(
            "esker_bodies_refused_total",
            "Request bodies rejected, by reason: large (larger than --max-body), memory (all bodies used too much \
             memory), share (the bodies of one client did), slow (slower than 1 KiB/s).",
            metrics.sum_by("reason", &BodyRefusal::NAMES, |worker| &worker.bodies_refused),
        )
        .shown(View::Each("bodies_refused")),
        Family::gauge(
            "esker_unsent_bytes",
            "Memory of unsent responses and of the requests waiting behind them, excluding audit pages; at most 64 \
             MiB.",
            metrics.each(|worker| worker.buffered.get()),
        )
        .shown_as("unsent_bytes"),
        Family::counter(
            "esker_unsent_closed_total",
            "Connections closed because of unread responses, by reason: slow (slower than 8 KiB/s after --stall), \
             memory (all unread responses used too much memory).",
            metrics.sum_by("reason", &Unread::NAMES, |worker| &worker.unread_closed),
        )
        .shown(View::Each("unsent_closed")),
    ]
}

fn requests(metrics: &Metrics) -> [Family; 4] {
    let label = |index: usize| CODES.get(index).map_or(Label::Word("other"), |&code| Label::Index(code.into()));
    let responses = |index: usize| Number::Whole(metrics.sum(|worker| worker.responses.get(index)));
    let by_code = (0..=CODES.len()).map(|index| (label(index), responses(index))).collect();
    [
        Family::counter(
            "esker_requests_total",
            "Requests with a valid head.",
            metrics.each(|worker| worker.requests.get()),
        )
        .shown_as("requests"),
        Family::counter(
            "esker_responses_total",
            "Responses by status code, including those that open a stream.",
            Samples::By("code", by_code),
        ),
        Family::counter(
            "esker_requests_denied_total",
            "Requests rejected with 401 or 403 because of their token or their origin.",
            metrics.sum(|worker| worker.denied.get()),
        )
        .shown_as("requests_denied"),
        Family::counter(
            "esker_verifications_limited_total",
            "Requests whose token was not verified immediately because their address had sent too many tokens with \
             an invalid signature: delayed, or refused, immediately or after a delay (429, or a stream that only \
             says when to reconnect).",
            metrics.sum_by("action", &LimitedVerification::NAMES, |worker| &worker.limited_verifications),
        )
        .shown(View::Each("verifications_limited")),
    ]
}

fn streams(service: &Service, counts: &HubCounts) -> [Family; 9] {
    let (metrics, settings) = (&service.metrics, &service.settings);
    [
        Family::gauge("esker_subscribers", "Open streams.", metrics.each(WorkerMetrics::subscribers))
            .shown_as("subscribers"),
        Family::gauge(
            "esker_subscribers_max",
            "Maximum number of open streams (--max-subscribers).",
            settings.max_subscribers,
        ),
        Family::gauge(
            "esker_subscribers_stalled",
            "Streams that lag behind because their socket is full.",
            metrics.each(|worker| worker.stalled.get()),
        )
        .shown_as("subscribers_stalled"),
        Family::gauge(
            "esker_subscriber_subs",
            "Distinct values of sub in the tokens of open streams; 0 without --max-subscribers-per-sub.",
            service.quotas.streams.as_ref().map_or(0, |streams| streams.subjects()),
        ),
        Family::gauge("esker_record_subscribers", "Open streams of /events.", counts.record_subscribers)
            .shown_as("record_subscribers"),
        Family::counter("esker_streams_opened_total", "Streams opened.", metrics.sum(|worker| worker.opened.get()))
            .shown_as("streams_opened"),
        Family::counter(
            "esker_streams_closed_total",
            "Streams ended, by reason: peer (the client disconnected), talkative (it kept sending data), stalled \
             (it accepted no data for --stall), expired (its token), drained (the broker shut down), shed (a partly \
             written event took too much memory after its eviction), failed (the system could not watch the socket), aged \
             (--max-stream-age), revoked (its token), polled (?poll).",
            metrics.sum_by("reason", &Close::NAMES, |worker| &worker.closed),
        )
        .shown(View::Each("streams_closed")),
        Family::counter(
            "esker_streams_expired_total",
            "Streams ended because their token expired; one whose socket is full is closed a moment later.",
            metrics.sum(|worker| worker.expired.get()),
        )
        .shown_as("streams_expired"),
        Family::counter(
            "esker_streams_turned_away_total",
            "Streams that were not opened and only got a time to reconnect, by reason: full (--max-subscribers), \
             draining, sub (--max-subscribers-per-sub), topics (--max-topics), unverified (the token was not \
             verified in time because its address had sent too many tokens with an invalid signature), names (the \
             names that streams of records are limited to fill a quarter of --latest-bytes), engine (it can't be \
             reached, and this broker alone does not know the client's position), address \
             (--max-connections-per-ip, for clients of a --trusted-proxy).",
            metrics.sum_by("reason", &TurnedAway::NAMES, |worker| &worker.turned_away),
        )
        .shown_as("streams_turned_away"),
    ]
}

fn events(service: &Service, counts: &HubCounts) -> [Family; 4] {
    let metrics = &service.metrics;
    [
        Family::counter("esker_events_published_total", "Events accepted, excluding records.", counts.published)
            .shown_as("events_published"),
        Family::counter(
            "esker_events_duplicate_total",
            "Events ignored as duplicates because the topic retains an event with the same publisher's id.",
            counts.duplicates,
        )
        .shown_as("events_duplicate"),
        Family::counter(
            "esker_publishes_refused_total",
            "Publishes rejected, by reason, excluding bad tokens and oversized bodies: invalid (the body), room (the \
             workers can't keep up), topics (--max-topics), draining, rate (--publish-rate), engine (it can't be \
             reached, refuses, or has too much to do; nothing was published), unknown (the engine did not reply in \
             time, so that it is unknown whether the events were published).",
            metrics.sum_by("reason", &PublishRefusal::NAMES, |worker| &worker.publishes_refused),
        )
        .shown(View::Each("publishes_refused")),
        Family::gauge(
            "esker_publish_buckets",
            "Publishers for whom --publish-rate keeps a token bucket: recent ones, and some whose bucket is full \
             again.",
            service.quotas.publish_rate.as_ref().map_or(0, RateLimiter::buckets),
        ),
    ]
}

fn delivery(metrics: &Metrics) -> [Family; 5] {
    [
        Family::counter(
            "esker_events_delivered_total",
            "Events written to subscribers, including those written on resume.",
            metrics.each(|worker| worker.delivered.get()),
        )
        .shown_as("events_delivered"),
        Family::counter(
            "esker_sent_bytes_total",
            "Bytes written to sockets.",
            metrics.each(|worker| worker.bytes_sent.get()),
        )
        .shown_as("bytes_sent"),
        Family::counter(
            "esker_gaps_total",
            "Gap events sent to slow subscribers that missed evicted events.",
            metrics.each(|worker| worker.gaps.get()),
        )
        .shown_as("gaps"),
        Family::counter(
            "esker_resume_gaps_total",
            "Gap events sent to subscribers that reconnected with a position that is unknown or no longer retained.",
            metrics.each(|worker| worker.resume_gaps.get()),
        )
        .shown_as("resume_gaps"),
        Family::histogram(
            "esker_delivery_latency_seconds",
            "Time from assigning an event's id to writing it to a subscriber's socket, for each subscriber that was \
             up to date; a record's id is assigned before it is stored.",
            metrics.latency(),
        )
        .shown_as("delivery_latency_seconds"),
    ]
}

fn history(service: &Service, counts: &HubCounts) -> [Family; 7] {
    let in_flight: Vec<_> = service.hub.in_flight().collect();
    let settings = &service.settings;
    [
        Family::gauge("esker_topics", "Topics that retain an event or have a subscriber.", counts.topics)
            .shown_as("topics"),
        Family::gauge("esker_topics_max", "Maximum number of topics (--max-topics).", settings.max_topics),
        Family::gauge("esker_history_events", "Events retained in the history of all topics.", counts.history_events)
            .shown_as("history_events"),
        Family::gauge("esker_history_bytes", "Memory used by retained events.", counts.history_bytes)
            .shown_as("history_bytes"),
        Family::gauge(
            "esker_history_max_bytes",
            "Maximum memory for retained events (--history-bytes).",
            settings.history_bytes,
        ),
        Family::gauge(
            "esker_inbox_frames",
            "Events in the worker's inbox that it has not yet processed.",
            Samples::by_index("worker", in_flight.iter().map(|&(frames, _)| frames as u64)),
        ),
        Family::gauge(
            "esker_inbox_bytes",
            "Bytes of the events in the worker's inbox that it has not yet processed.",
            Samples::by_index("worker", in_flight.iter().map(|&(_, bytes)| bytes as u64)),
        ),
    ]
}

fn store(status: &Status) -> [Family; 9] {
    let state = match status.health {
        Health::Ready => 0,
        Health::Full(_) => 1,
        Health::Failed { .. } | Health::Removed { .. } => 2,
        Health::Closed => 3,
        Health::Locked { .. } => 4,
    };
    let states = ["ready", "full", "failed", "closed", "locked"];
    [
        Family::gauge(
            "esker_store_state",
            "1 for the current state of the store: ready, full (no space left), failed (disk failure, or files removed), \
             closed, or locked (another program holds the database); 0 for the others.",
            Samples::by_word("state", &states, |index| (index == state).into()),
        )
        .shown(View::Word("store")),
        Family::counter("esker_store_commits_total", "Transactions of the store, each with one fsync.", status.commits)
            .shown_as("store_commits"),
        Family::histogram(
            "esker_store_commit_seconds",
            "Duration of the store's transactions, including fsync.",
            status.commit_time,
        )
        .shown_as("store_commit_seconds"),
        Family::gauge("esker_store_queue_records", "Inserts waiting for a transaction.", status.queued)
            .shown_as("store_queued"),
        Family::gauge(
            "esker_store_queue_bytes",
            "Bytes of the inserts waiting for a transaction.",
            status.queued_bytes,
        ),
        Family::gauge("esker_store_log_bytes", "Bytes in use in the store's write-ahead log.", status.wal_bytes)
            .shown_as("store_log_bytes"),
        Family::gauge("esker_store_database_bytes", "Bytes of the database, without its log.", status.database_bytes)
            .shown_as("store_database_bytes"),
        Family::gauge("esker_store_free_bytes", "Bytes of the database that are free.", status.free_bytes)
            .shown_as("store_free_bytes"),
        Family::counter(
            "esker_store_pruned_total",
            "Versions of records removed because of --versions or --versions-age.",
            status.pruned,
        )
        .shown_as("store_pruned"),
    ]
}

fn refused_inserts(metrics: &Metrics, status: &Status) -> [Family; 1] {
    let by_store = StoreError::NAMES.iter().zip(status.refused);
    let by_worker = InsertRefusal::NAMES.iter().enumerate();
    let by_worker = by_worker.map(|(kind, name)| (name, metrics.sum(|worker| worker.inserts_refused.get(kind))));
    let sample = |(name, count): (&&'static str, u64)| (Label::Word(name), Number::Whole(count));
    [Family::counter(
        "esker_store_refusals_total",
        "Inserts rejected, by reason, excluding bad tokens and oversized bodies: busy (too many waiting), locked \
         (another program has locked the database), full (no space left), failed (disk failure), closed (the store \
         is closed), invalid (not a record), memory (--latest-bytes), draining, timeout (no response from the store \
         or the engine in time), rate (--publish-rate), engine (it can't be reached, refuses, or has too much to do), \
         conflict (If-Match or If-None-Match), key (an Idempotency-Key that was used for another name).",
        Samples::By("reason", by_store.chain(by_worker).map(sample).collect()),
    )
    .shown(View::Each("store_refusals"))]
}

fn records(service: &Service, counts: &HubCounts, status: &Status) -> [Family; 6] {
    [
        Family::gauge(
            "esker_subscribed_name_bytes",
            "Memory of the names that streams of /events?event= are limited to; at most a quarter of --latest-bytes.",
            counts.subscribed_name_bytes,
        )
        .shown_as("subscribed_name_bytes"),
        Family::gauge(
            "esker_audit_page_bytes",
            "Memory of audit pages that are waiting, being read or being sent.",
            service.pages.bytes(),
        )
        .shown_as("audit_page_bytes"),
        Family::counter("esker_store_records_total", "Records stored since the broker started.", status.records)
            .shown_as("records"),
        Family::gauge("esker_record_names", "Number of record names.", counts.record_names).shown_as("record_names"),
        Family::gauge("esker_record_bytes", "Memory used by the newest record of every name.", counts.record_bytes)
            .shown_as("record_bytes"),
        Family::gauge(
            "esker_record_max_bytes",
            "Maximum memory for the newest records (--latest-bytes).",
            service.settings.latest_bytes,
        ),
    ]
}
