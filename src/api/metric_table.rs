//! The table of the broker's numbers, of which `/stats` and `/metrics` are two views: what there is, what it is called in
//! both, and where it is counted. Refuses to know how either is written.

use crate::hub::HubCounts;
use crate::logging;
use crate::metrics::{
    BodyRefusal, CODES, Close, Family, InsertRefusal, Label, LimitedVerification, Metrics, Number, PublishRefusal,
    Samples, TurnedAway, Unread, View, WorkerMetrics,
};
use crate::quota::RateLimiter;
use crate::store::{Health, Status, StoreError};

use super::{Context, Service};

/// All rows.
pub(super) fn table(context: Context<'_>) -> Vec<Family> {
    let service = context.service;
    let (counts, status) = (service.hub.counts(), service.store.status());
    let mut table = Vec::new();
    table.extend(broker(context));
    table.extend(connections(service));
    table.extend(buffers(service));
    table.extend(requests(&service.metrics));
    table.extend(streams(service, &counts));
    table.extend(events(service, &counts));
    table.extend(delivery(&service.metrics));
    table.extend(history(service, &counts));
    table.extend(store(&status));
    table.extend(refused_inserts(&service.metrics, &status));
    table.extend(records(service, &counts, &status));
    table
}

fn broker(context: Context<'_>) -> [Family; 6] {
    let service = context.service;
    let version = Samples::by_word("version", &[env!("CARGO_PKG_VERSION")], |_| 1);
    [
        Family::gauge("esker_build_info", "1, with the broker's version.", version).shown(View::Word("version")),
        Family::gauge(
            "process_start_time_seconds",
            "When the broker started, in seconds since the Unix epoch.",
            service.metrics.started_seconds(),
        ),
        Family::gauge("esker_uptime_seconds", "Seconds since the broker started.", context.now.millis / 1000)
            .shown_as("uptime_seconds"),
        Family::gauge("esker_threads", "Worker threads; the label worker has their indexes.", service.settings.threads)
            .shown_as("threads"),
        Family::gauge("esker_draining", "1 while the broker shuts down.", service.is_draining())
            .shown(View::Truth("draining")),
        Family::counter(
            "esker_log_lines_dropped_total",
            "Lines of the log that were dropped because standard error took no more.",
            logging::dropped_lines(),
        )
        .shown_as("log_lines_dropped"),
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
            "Open connections, those of subscribers among them, those to --admin apart.",
            metrics.each(|worker| worker.connections.get()),
        )
        .shown_as("clients"),
        Family::gauge("esker_connections_max", "As many as --max-connections allows.", settings.max_connections),
        Family::counter(
            "esker_connections_accepted_total",
            "Connections taken in.",
            metrics.each(|worker| worker.accepted.get()),
        )
        .shown_as("connections_accepted"),
        Family::counter(
            "esker_connections_refused_total",
            "address: connections closed at once by --max-connections-per-ip. limit: how often somebody was found waiting when \
             --max-connections was reached. descriptors: how often accepting stopped for want of them. Those who wait stay \
             in the backlog.",
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
            "Memory of request bodies that are being received or wait for room; at most 256 MiB, or more with a large --max-body.",
            service.bodies.bytes(),
        )
        .shown_as("bodies_bytes"),
        Family::counter(
            "esker_bodies_refused_total",
            "Request bodies not taken, by reason: larger than --max-body, all bodies together held too much memory, those of one \
             client did, slower than 1 KiB/s.",
            metrics.sum_by("reason", &BodyRefusal::NAMES, |worker| &worker.bodies_refused),
        )
        .shown(View::Each("bodies_refused")),
        Family::gauge(
            "esker_unsent_bytes",
            "Memory of answers that clients have not taken and of requests that wait behind them, pages of histories apart; \
             at most 64 MiB.",
            metrics.each(|worker| worker.buffered.get()),
        )
        .shown_as("unsent_bytes"),
        Family::counter(
            "esker_unsent_closed_total",
            "Connections closed because of answers they had not read, by reason: slower than 8 KiB/s after --stall, all together \
             held too much memory.",
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
            "Requests whose head was understood.",
            metrics.each(|worker| worker.requests.get()),
        )
        .shown_as("requests"),
        Family::counter(
            "esker_responses_total",
            "Answers by status code, those that open a stream among them.",
            Samples::By("code", by_code),
        ),
        Family::counter(
            "esker_requests_denied_total",
            "Requests answered with 401 or 403 for their token, or for the page that sent them.",
            metrics.sum(|worker| worker.denied.get()),
        )
        .shown_as("requests_denied"),
        Family::counter(
            "esker_verifications_limited_total",
            "Requests whose token was not verified at once because their address had sent too many with a bad signature: \
             delayed; refused, at once or after a delay, with 429 or, for a stream, a time to come back.",
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
        Family::gauge("esker_subscribers_max", "As many as --max-subscribers allows.", settings.max_subscribers),
        Family::gauge(
            "esker_subscribers_stalled",
            "Streams whose socket takes no more for now: they lag behind.",
            metrics.each(|worker| worker.stalled.get()),
        )
        .shown_as("subscribers_stalled"),
        Family::gauge(
            "esker_subscriber_subs",
            "Different subs among the tokens of open streams, if --max-subscribers-per-sub counts them.",
            service.quotas.places.as_ref().map_or(0, |places| places.subjects()),
        ),
        Family::gauge("esker_record_subscribers", "Open streams of /events.", counts.record_subscribers)
            .shown_as("record_subscribers"),
        Family::counter("esker_streams_opened_total", "Streams opened.", metrics.sum(|worker| worker.opened.get()))
            .shown_as("streams_opened"),
        Family::counter(
            "esker_streams_closed_total",
            "Streams ended, by reason: the peer left, talked on and on, took no byte for --stall, its token expired, the \
             broker drained, too much was kept for it alone, or the system could not watch its socket.",
            metrics.sum_by("reason", &Close::NAMES, |worker| &worker.closed),
        )
        .shown(View::Each("streams_closed")),
        Family::counter(
            "esker_streams_expired_total",
            "Streams whose token expired; one whose socket is full is closed a moment later.",
            metrics.sum(|worker| worker.expired.get()),
        )
        .shown_as("streams_expired"),
        Family::counter(
            "esker_streams_turned_away_total",
            "Streams answered with a time to come back and the end, by reason: as many subscribers or topics as there may be, \
             draining, as many streams of the token's sub as --max-subscribers-per-sub allows, a token that was not verified in \
             time because too many forged ones had come from its address, as many names of records as a quarter of \
             --latest-bytes holds.",
            metrics.sum_by("reason", &TurnedAway::NAMES, |worker| &worker.turned_away),
        )
        .shown_as("streams_turned_away"),
    ]
}

fn events(service: &Service, counts: &HubCounts) -> [Family; 4] {
    let metrics = &service.metrics;
    [
        Family::counter("esker_events_published_total", "Events accepted, records apart.", counts.published)
            .shown_as("events_published"),
        Family::counter(
            "esker_events_duplicate_total",
            "Events not accepted again because the topic retained their publisher's id.",
            counts.duplicates,
        )
        .shown_as("events_duplicate"),
        Family::counter(
            "esker_publishes_refused_total",
            "Publishes not accepted, by reason, bad tokens and oversized bodies apart; rate: beyond --publish-rate.",
            metrics.sum_by("reason", &PublishRefusal::NAMES, |worker| &worker.publishes_refused),
        )
        .shown(View::Each("publishes_refused")),
        Family::gauge(
            "esker_publish_buckets",
            "Publishers of whom --publish-rate keeps a bucket: those who have just published, and some whose bucket is full again.",
            service.quotas.pace.as_ref().map_or(0, RateLimiter::buckets),
        ),
    ]
}

fn delivery(metrics: &Metrics) -> [Family; 5] {
    [
        Family::counter(
            "esker_events_delivered_total",
            "Events written to subscribers, missed ones among them.",
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
            "Gaps told to subscribers that fell behind farther than the history reaches.",
            metrics.each(|worker| worker.gaps.get()),
        )
        .shown_as("gaps"),
        Family::counter(
            "esker_resume_gaps_total",
            "Gaps told to subscribers that came back with a position that is no longer retained, or unknown.",
            metrics.each(|worker| worker.resume_gaps.get()),
        )
        .shown_as("resume_gaps"),
        Family::histogram(
            "esker_delivery_latency_seconds",
            "From an event's id to its write into the socket of a subscriber that was caught up, once for each of them; \
             a record has its id before it is stored.",
            metrics.latency(),
        )
        .shown_as("delivery_latency_seconds"),
    ]
}

fn history(service: &Service, counts: &HubCounts) -> [Family; 7] {
    let debts: Vec<_> = service.hub.debts().collect();
    let settings = &service.settings;
    [
        Family::gauge("esker_topics", "Topics that retain an event or have a subscriber.", counts.topics)
            .shown_as("topics"),
        Family::gauge("esker_topics_max", "As many as --max-topics allows.", settings.max_topics),
        Family::gauge("esker_history_events", "Events retained.", counts.history_events).shown_as("history_events"),
        Family::gauge("esker_history_bytes", "What they cost in memory.", counts.history_bytes)
            .shown_as("history_bytes"),
        Family::gauge("esker_history_max_bytes", "As much as --history-bytes allows.", settings.history_bytes),
        Family::gauge(
            "esker_inbox_frames",
            "Events that the worker was sent and has not yet served.",
            Samples::by_index("worker", debts.iter().map(|&(frames, _)| frames as u64)),
        ),
        Family::gauge(
            "esker_inbox_bytes",
            "Their bytes.",
            Samples::by_index("worker", debts.iter().map(|&(_, bytes)| bytes as u64)),
        ),
    ]
}

fn store(status: &Status) -> [Family; 6] {
    let state = match status.health {
        Health::Ready => 0,
        Health::Full(_) => 1,
        Health::Failed { .. } => 2,
        Health::Closed => 3,
    };
    let states = ["ready", "full", "failed", "closed"];
    [
        Family::gauge(
            "esker_store_state",
            "1 for the state that the store is in: ready, full disk, failed disk, closed.",
            Samples::by_word("state", &states, |index| (index == state).into()),
        )
        .shown(View::Word("store")),
        Family::counter("esker_store_commits_total", "Transactions of inserts, each with one fsync.", status.commits)
            .shown_as("store_commits"),
        Family::histogram(
            "esker_store_commit_seconds",
            "How long those transactions took, fsync and all.",
            status.commit_time,
        )
        .shown_as("store_commit_seconds"),
        Family::gauge("esker_store_queue_records", "Inserts that wait for a transaction.", status.queued)
            .shown_as("store_queued"),
        Family::gauge("esker_store_queue_bytes", "Their bytes.", status.queued_bytes),
        Family::gauge("esker_store_log_bytes", "Bytes of the store's log in use.", status.log_bytes)
            .shown_as("store_log_bytes"),
    ]
}

fn refused_inserts(metrics: &Metrics, status: &Status) -> [Family; 1] {
    let by_store = StoreError::NAMES.iter().zip(status.refused);
    let by_worker = InsertRefusal::NAMES.iter().enumerate();
    let by_worker = by_worker.map(|(kind, name)| (name, metrics.sum(|worker| worker.inserts_refused.get(kind))));
    let sample = |(name, count): (&&'static str, u64)| (Label::Word(name), Number::Whole(count));
    [Family::counter(
        "esker_store_refusals_total",
        "Inserts not stored, by reason, bad tokens and oversized bodies apart: too many waited, another program held \
         the database, the disk was full, has failed, the store was closed, no record, --latest-bytes, draining, no answer in time, --publish-rate.",
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
            "Memory of audit pages that wait, are read or are being sent.",
            service.pages.held(),
        )
        .shown_as("audit_page_bytes"),
        Family::counter("esker_store_records_total", "Records stored since the start.", status.records)
            .shown_as("records"),
        Family::gauge("esker_record_names", "Names that records have.", counts.record_names).shown_as("record_names"),
        Family::gauge("esker_record_bytes", "What the newest record of each costs in memory.", counts.record_bytes)
            .shown_as("record_bytes"),
        Family::gauge("esker_record_max_bytes", "As much as --latest-bytes allows.", service.settings.latest_bytes),
    ]
}
