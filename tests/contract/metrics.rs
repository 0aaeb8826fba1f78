//! `/metrics`: access, that each number changes for its cause and for nothing else, and that the numbers agree with each other.
//! `observe` tests that Prometheus can read it.

use std::io::Write;
use std::time::{Duration, Instant};

use super::records::insert;
use super::scale::lock_machine;
use super::support::tokens::{self, SECRETS, assert_denied, bearer, try_subscribe};
use super::support::{Broker, Connection, Crowd, Metrics, TIMEOUT, connect_small};

const CLOSED: &str = "esker_streams_closed_total";
const HALF_REQUEST: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\n";

fn closed_streams(metrics: &Metrics, reason: &str) -> f64 {
    metrics.labeled(CLOSED, "reason", reason)
}

/// Asserts that open streams equal streams opened minus streams closed.
fn assert_balanced(metrics: &Metrics, open: f64) {
    let (opened, closed) = (metrics.value("esker_streams_opened_total"), metrics.sum(CLOSED));
    assert_eq!((opened - closed, metrics.sum("esker_subscribers")), (open, open), "{metrics:?}");
}

#[test]
fn metrics_require_the_same_token_as_stats() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    assert_denied(&broker.get("/metrics"), 401, "token");
    let other = bearer(&tokens::publisher("topicone1"));
    assert_denied(&try_subscribe(&broker, "/metrics", &other), 403, "stats");
    assert_denied(&try_subscribe(&broker, "/metrics", &bearer(&tokens::subscriber("stats"))), 401, "");
    let pass = bearer(&tokens::publisher("stats"));
    let response = broker.request(format!("{HALF_REQUEST}{pass}\r\n"));
    assert_eq!((response.status, response.field("Cache-Control")), (200, Some("no-store")));
    assert_eq!(response.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut connection = broker.connect();
    connection.send(format!("HEAD /metrics HTTP/1.1\r\nHost: h\r\n{pass}Connection: close\r\n\r\n"));
    assert!(connection.head().starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(connection.is_closed(), "HEAD has no body");
    let refused = broker.post("/metrics", "", "x");
    assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert!(broker.get("/nothing").text().contains("GET /metrics"));
    let metrics = broker.metrics_once("the only client", |metrics| metrics.sum("esker_connections") == 1.0);
    assert_eq!(metrics.value("esker_requests_denied_total"), 3.0);
    assert_eq!(["401", "403"].map(|code| metrics.labeled("esker_responses_total", "code", code)), [2.0, 1.0]);
}

#[test]
fn stats_and_metrics_are_views_of_one_table() {
    let broker = Broker::start(&["--threads", "2"]);
    let mut streams: Vec<_> = (0..4).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    broker.publish("topicone1", "data: 1");
    streams.iter_mut().for_each(|stream| drop(stream.event()));
    insert(&broker, "a", "1");
    let metrics = broker.metrics_once("delivered", |metrics| metrics.sum("esker_events_delivered_total") == 4.0);
    let stats = broker.stats();
    for (member, name) in [
        ("subscribers", "esker_subscribers"),
        ("streams_opened", "esker_streams_opened_total"),
        ("events_published", "esker_events_published_total"),
        ("events_delivered", "esker_events_delivered_total"),
        ("history_bytes", "esker_history_bytes"),
        ("records", "esker_store_records_total"),
        ("store_commits", "esker_store_commits_total"),
        ("store_pruned", "esker_store_pruned_total"),
        ("store_database_bytes", "esker_store_database_bytes"),
        ("store_free_bytes", "esker_store_free_bytes"),
        ("threads", "esker_threads"),
        ("topics", "esker_topics"),
    ] {
        assert_eq!(stats[member].as_f64(), Some(metrics.sum(name)), "{member}");
    }
    let latency = &stats["delivery_latency_seconds"];
    assert_eq!(latency["count"].as_f64(), Some(metrics.value("esker_delivery_latency_seconds_count")));
    assert_eq!(latency["sum"].as_f64(), Some(metrics.value("esker_delivery_latency_seconds_sum")));
    let buckets = latency["buckets"].as_array().expect("buckets");
    assert_eq!((buckets.len(), &buckets[0][0], &buckets[15][0]), (16, &0.0001.into(), &10.0.into()));
    assert_eq!((stats["store"].as_str(), stats["draining"].as_bool()), (Some("ready"), Some(false)));
    assert_eq!(stats["store_commit_seconds"]["count"], 1);
    assert_eq!(stats["streams_closed"]["peer"], 0);
}

#[test]
fn the_longest_iteration_and_wakeups_are_reported() {
    let broker = Broker::start(&["--threads", "2"]);
    let mut streams: Vec<_> = (0..2).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    broker.publish("topicone1", "data: 1");
    streams.iter_mut().for_each(|stream| drop(stream.event()));
    let metrics = broker.metrics();
    let (longest, woken) = (metrics.value("esker_worker_longest_iteration_seconds"), "esker_worker_wakeups_total");
    assert!(longest > 0.0 && longest < TIMEOUT.as_secs_f64(), "{longest}");
    assert!(metrics.labeled(woken, "worker", "1") >= 1.0, "connections come from the first worker");
    let later = broker.metrics();
    assert!(later.value("esker_worker_longest_iteration_seconds") >= longest);
    assert!(later.sum(woken) >= metrics.sum(woken));
    for waited in ["esker_hub_lock_waits_total", "esker_hub_lock_wait_seconds_total"] {
        assert!(later.value(waited) >= metrics.value(waited), "{waited} never shrinks");
    }
}

/// Sends requests without reading until the broker closes the connection.
fn send_until_closed(mut connection: Connection) {
    let (begin, part) = (Instant::now(), vec![b'x'; 4 << 20]);
    while connection.socket.write_all(&part).is_ok() {
        assert!(begin.elapsed() < TIMEOUT, "the broker never closes the connection");
    }
}

#[test]
fn every_reason_for_a_closed_stream_is_counted() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--threads", "1", "--stall", "1s", "--heartbeat", "200ms"]);
    let open = || {
        let mut stream = broker.subscribe("/subscribe/topicone1", "");
        stream.opening();
        stream
    };
    let (stays, leaves, talks) = (open(), open(), open());
    assert_balanced(&broker.metrics(), 3.0);
    drop(leaves);
    assert_balanced(&broker.metrics_once("disconnected", |metrics| closed_streams(metrics, "peer") == 1.0), 2.0);
    send_until_closed(talks.connection);
    assert_balanced(&broker.metrics_once("closed", |metrics| closed_streams(metrics, "talkative") == 1.0), 1.0);

    let mut paused = Crowd::new();
    paused.join_paused(3, "/subscribe/topicdeaf1", || connect_small(broker.address));
    broker.metrics_once("joined", |metrics| metrics.sum("esker_subscribers") == 4.0);
    let large = format!("data: {}", "x".repeat(900_000));
    while broker.metrics().sum("esker_subscribers_stalled") < 3.0 {
        broker.publish("topicdeaf1", &large);
    }
    let metrics = broker.metrics_once("closed", |metrics| closed_streams(metrics, "stalled") == 3.0);
    assert_eq!(metrics.sum("esker_subscribers_stalled"), 0.0);
    assert_balanced(&metrics, 1.0);

    // Requests in progress are completed while the broker drains.
    let (mut publish, mut probe) = (broker.connect(), broker.connect());
    publish.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata");
    probe.send(HALF_REQUEST);
    // This response proves that the single worker has read the requests sent before.
    broker.metrics();
    broker.signal("TERM");
    let mut stays = stays;
    while stays.chunk().is_some() {}
    publish.send(": x");
    assert_eq!(publish.response().status, 503);
    probe.send("\r\n");
    let metrics = Metrics::parse(&probe.response().text());
    assert_balanced(&metrics, 0.0);
    assert_eq!((closed_streams(&metrics, "drained"), metrics.value("esker_draining")), (1.0, 1.0));
    assert_eq!(metrics.labeled("esker_publishes_refused_total", "reason", "draining"), 1.0);
    let reasons = ["peer", "talkative", "stalled", "expired", "drained", "shed", "failed", "aged", "revoked", "polled"];
    assert_eq!(
        reasons.map(|reason| closed_streams(&metrics, reason)),
        [1.0, 1.0, 3.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    );
}

#[test]
fn an_expired_token_is_counted_as_the_reason() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let token = bearer(&tokens::subscriber_until("topicone1", tokens::now() + 2));
    let mut stream = broker.subscribe("/subscribe/topicone1", &token);
    assert_balanced(&broker.metrics(), 1.0);
    while stream.chunk().is_some() {}
    let metrics = broker.metrics();
    assert_eq!((closed_streams(&metrics, "expired"), metrics.value("esker_streams_expired_total")), (1.0, 1.0));
    assert_balanced(&metrics, 0.0);
}

#[test]
fn only_live_deliveries_are_timed() {
    const LIVE: usize = 30;
    let broker = Broker::start(&["--threads", "2"]);
    (0..10).for_each(|number| drop(broker.publish("topicone1", &format!("data: {number}"))));
    let latest = |metrics: &Metrics| metrics.value("esker_delivery_latency_seconds_count");
    let mut streams: Vec<_> = (0..LIVE).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    let mut records = broker.subscribe("/events", "");
    streams.iter_mut().chain([&mut records]).for_each(|stream| drop(stream.opening()));
    // Events that a subscriber catches up on are delivered but not timed.
    let mut resumed = broker.subscribe("/subscribe/topicone1", "Last-Event-ID: 0\r\n");
    assert_eq!(resumed.data(10).len(), 10);
    let metrics = broker.metrics_once("resumed", |metrics| metrics.sum("esker_events_delivered_total") == 10.0);
    assert_eq!(latest(&metrics), 0.0);
    drop(resumed);
    broker.metrics_once("disconnected", |metrics| closed_streams(metrics, "peer") == 1.0);

    (0..20).for_each(|number| drop(broker.publish("topicone1", &format!("data: {number}"))));
    broker.publish("topicone1", &"data: x\n\n".repeat(50));
    insert(&broker, "a", "1");
    streams.iter_mut().for_each(|stream| drop(stream.data(70)));
    records.event();
    let expected = (LIVE * 70 + 1) as f64;
    let metrics = broker.metrics_once("all", |metrics| metrics.sum("esker_events_delivered_total") == expected + 10.0);
    assert_eq!(latest(&metrics), expected);
    let below = |bound: &str| metrics.labeled("esker_delivery_latency_seconds_bucket", "le", bound);
    assert_eq!((below("+Inf"), below("10")), (expected, expected));
    let mean = metrics.value("esker_delivery_latency_seconds_sum") / expected;
    assert!(mean < 1.0, "the mean is {mean} s");
}

#[test]
fn refusals_are_counted_by_reason() {
    let broker = Broker::start(&["--max-topics", "1", "--max-subscribers", "1", "--latest-bytes", "1"]);
    broker.publish("topicone1", "data: 0");
    let no_topic = broker.get("/subscribe/topictwo2").text();
    assert!(no_topic.contains("--max-topics") && no_topic.contains("retry:"), "{no_topic}");
    let _stream = broker.subscribe("/subscribe/topicone1", "");
    assert_eq!(broker.post("/publish/topicone1", "", "no field").status, 400);
    assert_eq!(broker.post("/publish/topicone1", "", [0xff]).status, 400);
    assert_eq!(broker.post("/publish/topictwo2", "", "data: 1").status, 503);
    broker.publish("topicone1", "id: 1\ndata: 1");
    broker.publish("topicone1", "id: 1\ndata: 1");
    assert_eq!(broker.post("/insert", "", "no JSON").status, 400);
    insert(&broker, "a", "1");
    assert_eq!(broker.post("/insert", "", "{\"event\":\"b\",\"data\":1}").status, 503);
    let full = broker.get("/subscribe/topicone1");
    assert_eq!((full.status, full.text().contains("retry:")), (200, true));
    assert!(full.text().contains("--max-subscribers"), "{}", full.text());
    let mut garbage = broker.connect();
    garbage.send("no HTTP at all\r\n\r\n");
    assert_eq!(garbage.response().status, 400);
    let metrics = broker.metrics();
    let publishes = |reason| metrics.labeled("esker_publishes_refused_total", "reason", reason);
    assert_eq!(["invalid", "room", "topics", "draining"].map(publishes), [2.0, 0.0, 1.0, 0.0]);
    let inserts = |reason| metrics.labeled("esker_store_refusals_total", "reason", reason);
    assert_eq!(["busy", "failed", "invalid", "memory"].map(inserts), [0.0, 0.0, 1.0, 1.0]);
    let code = |code| metrics.labeled("esker_responses_total", "code", code);
    assert_eq!(["200", "400", "503", "other"].map(code), [7.0, 4.0, 2.0, 0.0]);
    assert_eq!(metrics.sum("esker_requests_total"), 13.0, "garbage isn't counted as a request, and this one is");
    let turned_away = |reason| metrics.labeled("esker_streams_turned_away_total", "reason", reason);
    assert_eq!(["full", "draining", "sub", "topics"].map(turned_away), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(
        (metrics.value("esker_events_published_total"), metrics.value("esker_events_duplicate_total")),
        (2.0, 1.0)
    );
    assert_eq!(metrics.value("esker_store_commit_seconds_count"), metrics.value("esker_store_commits_total"));
    assert!(metrics.value("esker_store_commit_seconds_sum") > 0.0);
    assert_balanced(&metrics, 1.0);
}

/// Bodies within the limit that their metric shows, and bodies refused because of it.
#[test]
fn memory_held_by_bodies_is_reported() {
    let broker = Broker::start(&["--max-body", "1000"]);
    let large = broker.post("/publish/topicone1", "", "x".repeat(1001));
    assert_eq!(large.status, 413);
    let mut body = broker.connect();
    body.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
    body.send("data: x");
    let metrics = broker.metrics_once("received", |metrics| metrics.value("esker_bodies_bytes") == 7.0);
    let refused = |reason| metrics.labeled("esker_bodies_refused_total", "reason", reason);
    assert_eq!(["large", "memory", "share", "slow"].map(refused), [1.0, 0.0, 0.0, 0.0]);
    drop(body);
    broker.metrics_once("released", |metrics| metrics.value("esker_bodies_bytes") == 0.0);
}

#[test]
fn gaps_are_counted_by_cause() {
    let broker = Broker::start(&["--history", "2", "--history-bytes", "4M", "--threads", "1"]);
    let mut late = broker.subscribe("/subscribe/topicone1", "Last-Event-ID: 5\r\n");
    assert_eq!(late.event().name.as_deref(), Some("gap"));
    drop(late);
    assert_eq!((broker.metrics().sum("esker_resume_gaps_total"), broker.metrics().sum("esker_gaps_total")), (1.0, 0.0));
    let mut slow = broker.subscribe("/subscribe/topicone1", "");
    slow.opening();
    let large = format!("data: {}", "x".repeat(900_000));
    (0..30).for_each(|_| drop(broker.publish("topicone1", &large)));
    while slow.event().name.as_deref() != Some("gap") {}
    let metrics = broker.metrics_once("reported by a gap", |metrics| metrics.sum("esker_gaps_total") == 1.0);
    assert_eq!(metrics.sum("esker_resume_gaps_total"), 1.0);
}

/// Opens a connection and sends half a request, so that it isn't idle.
fn begin_request(broker: &Broker) -> Connection {
    let mut connection = broker.connect();
    connection.send(HALF_REQUEST);
    connection
}

/// Completes the request in progress, and begins another one.
fn complete_and_begin(connection: &mut Connection) -> Metrics {
    connection.send(format!("\r\n{HALF_REQUEST}"));
    Metrics::parse(&connection.response().text())
}

fn refused_connections(metrics: &Metrics, reason: &str) -> f64 {
    metrics.labeled("esker_connections_refused_total", "reason", reason)
}

/// Returns the metrics once a refusal with this reason is counted.
fn wait_for_refusal(connection: &mut Connection, reason: &str) -> Metrics {
    let begin = Instant::now();
    loop {
        let metrics = complete_and_begin(connection);
        if refused_connections(&metrics, reason) >= 1.0 {
            return metrics;
        }
        assert!(begin.elapsed() < TIMEOUT, "never {reason}: {metrics:?}");
    }
}

#[test]
fn refused_connections_are_counted() {
    let broker = Broker::start(&["--max-connections-per-ip", "1"]);
    let mut inside = begin_request(&broker);
    assert_eq!(refused_connections(&complete_and_begin(&mut inside), "address"), 0.0);
    assert!(broker.connect().is_closed() && broker.connect().is_closed());
    let metrics = complete_and_begin(&mut inside);
    assert_eq!((refused_connections(&metrics, "address"), refused_connections(&metrics, "limit")), (2.0, 0.0));
    assert_eq!((metrics.sum("esker_connections_accepted_total"), metrics.sum("esker_connections")), (1.0, 1.0));

    let broker = Broker::start(&["--max-connections", "1", "--heartbeat", "200ms"]);
    let mut inside = begin_request(&broker);
    let _ = complete_and_begin(&mut inside);
    // The broker checks the queue again and again while it is full, but no connection waits.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(refused_connections(&complete_and_begin(&mut inside), "limit"), 0.0);
    let _waits = broker.connect();
    assert_eq!(refused_connections(&wait_for_refusal(&mut inside, "limit"), "descriptors"), 0.0);
    let metrics = complete_and_begin(&mut inside);
    assert_eq!(metrics.value("esker_connections_max"), 1.0);

    let broker = Broker::start(&["--heartbeat", "200ms"]);
    let mut inside = begin_request(&broker);
    let open = complete_and_begin(&mut inside).value("process_open_fds");
    // It may have inherited some, so the number is compared with the kernel's.
    let counted = broker.descriptors() as f64;
    assert!(open >= 6.0 && (open - counted).abs() <= 2.0, "{open}, {counted}");
    broker.limit_descriptors(3);
    let _waits = broker.connect();
    let metrics = wait_for_refusal(&mut inside, "descriptors");
    assert_eq!(refused_connections(&metrics, "limit"), 0.0);
    assert_eq!(metrics.value("process_max_fds"), 3.0);
}
