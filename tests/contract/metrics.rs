//! `/metrics`: whom it is shown to, that each number is moved by its cause and by nothing else, and that the numbers
//! agree with each other. That Prometheus reads it is shown in `observe`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::records::insert;
use super::scale::turn;
use super::support::tokens::{self, SECRETS, assert_denied, bearer, knock};
use super::support::{Broker, Connection, Crowd, Metrics, PATIENCE, connect_small};

const CLOSED: &str = "esker_streams_closed_total";
const ASK: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\n";

fn closed(metrics: &Metrics, reason: &str) -> f64 {
    metrics.by(CLOSED, "reason", reason)
}

/// What is open is what was opened and has not ended.
fn assert_balanced(metrics: &Metrics, open: f64) {
    let (opened, closed) = (metrics.of("esker_streams_opened_total"), metrics.sum(CLOSED));
    assert_eq!((opened - closed, metrics.sum("esker_subscribers")), (open, open), "{metrics:?}");
}

#[test]
fn metrics_are_shown_to_whom_stats_are() {
    let broker = Broker::start_secured(&[], &SECRETS);
    assert_denied(&broker.get("/metrics"), 401, "token");
    let other = bearer(&tokens::publisher("topicone1"));
    assert_denied(&knock(&broker, "/metrics", &other), 403, "stats");
    assert_denied(&knock(&broker, "/metrics", &bearer(&tokens::subscriber("stats"))), 401, "");
    let pass = bearer(&tokens::publisher("stats"));
    let answer = broker.ask(format!("{ASK}{pass}\r\n"));
    assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("no-store")));
    assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut connection = broker.connect();
    connection.send(format!("HEAD /metrics HTTP/1.1\r\nHost: h\r\n{pass}Connection: close\r\n\r\n"));
    assert!(connection.head().starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(connection.is_closed(), "HEAD has no body");
    let refused = broker.post("/metrics", "", "x");
    assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert!(broker.get("/nothing").text().contains("GET /metrics"));
    let metrics = broker.metrics_once("alone", |metrics| metrics.sum("esker_connections") == 1.0);
    assert_eq!(metrics.of("esker_requests_denied_total"), 3.0);
    assert_eq!(["401", "403"].map(|code| metrics.by("esker_responses_total", "code", code)), [2.0, 1.0]);
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
        ("threads", "esker_threads"),
        ("topics", "esker_topics"),
    ] {
        assert_eq!(stats[member].as_f64(), Some(metrics.sum(name)), "{member}");
    }
    let latency = &stats["delivery_latency_seconds"];
    assert_eq!(latency["count"].as_f64(), Some(metrics.of("esker_delivery_latency_seconds_count")));
    assert_eq!(latency["sum"].as_f64(), Some(metrics.of("esker_delivery_latency_seconds_sum")));
    let buckets = latency["buckets"].as_array().expect("buckets");
    assert_eq!((buckets.len(), &buckets[0][0], &buckets[15][0]), (16, &0.0001.into(), &10.0.into()));
    assert_eq!((stats["store"].as_str(), stats["draining"].as_bool()), (Some("ready"), Some(false)));
    assert_eq!(stats["store_commit_seconds"]["count"], 1);
    assert_eq!(stats["streams_closed"]["peer"], 0);
}

/// Until the broker has had enough of it.
fn talk(mut connection: Connection) {
    let (begin, part) = (Instant::now(), vec![b'x'; 4 << 20]);
    while connection.socket.write_all(&part).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the broker listens for ever");
    }
}

#[test]
fn every_way_in_which_a_stream_ends_is_counted() {
    let _turn = turn();
    let broker = Broker::start(&["--threads", "1", "--stall", "1s", "--heartbeat", "200ms"]);
    let open = || {
        let mut stream = broker.subscribe("/subscribe/topicone1", "");
        stream.opening();
        stream
    };
    let (stays, leaves, talks) = (open(), open(), open());
    assert_balanced(&broker.metrics(), 3.0);
    drop(leaves);
    assert_balanced(&broker.metrics_once("left", |metrics| closed(metrics, "peer") == 1.0), 2.0);
    talk(talks.connection);
    assert_balanced(&broker.metrics_once("closed", |metrics| closed(metrics, "talkative") == 1.0), 1.0);

    let mut deaf = Crowd::new();
    deaf.join_deaf(3, "/subscribe/topicdeaf1", || connect_small(broker.address));
    broker.metrics_once("joined", |metrics| metrics.sum("esker_subscribers") == 4.0);
    let large = format!("data: {}", "x".repeat(900_000));
    while broker.metrics().sum("esker_subscribers_stalled") < 3.0 {
        broker.publish("topicdeaf1", &large);
    }
    let metrics = broker.metrics_once("closed", |metrics| closed(metrics, "stalled") == 3.0);
    assert_eq!(metrics.sum("esker_subscribers_stalled"), 0.0);
    assert_balanced(&metrics, 1.0);

    // Requests that have begun are answered though the broker drains.
    let (mut publish, mut ask) = (broker.connect(), broker.connect());
    publish.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata");
    ask.send(ASK);
    // The one worker has read them when it answers this.
    broker.metrics();
    broker.signal("TERM");
    let mut stays = stays;
    while stays.chunk().is_some() {}
    publish.send(": x");
    assert_eq!(publish.response().status, 503);
    ask.send("\r\n");
    let metrics = Metrics::parse(&ask.response().text());
    assert_balanced(&metrics, 0.0);
    assert_eq!((closed(&metrics, "drained"), metrics.of("esker_draining")), (1.0, 1.0));
    assert_eq!(metrics.by("esker_publishes_refused_total", "reason", "draining"), 1.0);
    let reasons = ["peer", "talkative", "stalled", "expired", "drained", "shed", "failed"];
    assert_eq!(reasons.map(|reason| closed(&metrics, reason)), [1.0, 1.0, 3.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn the_end_of_a_token_is_counted_as_such() {
    let _turn = turn();
    let broker = Broker::start_secured(&[], &SECRETS);
    let token = bearer(&tokens::subscriber_until("topicone1", tokens::now() + 2));
    let mut stream = broker.subscribe("/subscribe/topicone1", &token);
    assert_balanced(&broker.metrics(), 1.0);
    while stream.chunk().is_some() {}
    let metrics = broker.metrics();
    assert_eq!((closed(&metrics, "expired"), metrics.of("esker_streams_expired_total")), (1.0, 1.0));
    assert_balanced(&metrics, 0.0);
}

#[test]
fn whoever_is_caught_up_is_timed_for_each_event() {
    const LIVE: usize = 30;
    let broker = Broker::start(&["--threads", "2"]);
    (0..10).for_each(|number| drop(broker.publish("topicone1", &format!("data: {number}"))));
    let latest = |metrics: &Metrics| metrics.of("esker_delivery_latency_seconds_count");
    let mut streams: Vec<_> = (0..LIVE).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    let mut records = broker.subscribe("/events", "");
    streams.iter_mut().chain([&mut records]).for_each(|stream| drop(stream.opening()));
    // What a subscriber missed is delivered and not timed.
    let mut resumed = broker.subscribe("/subscribe/topicone1", "Last-Event-ID: 0\r\n");
    assert_eq!(resumed.data(10).len(), 10);
    let metrics = broker.metrics_once("resumed", |metrics| metrics.sum("esker_events_delivered_total") == 10.0);
    assert_eq!(latest(&metrics), 0.0);
    drop(resumed);
    broker.metrics_once("left", |metrics| closed(metrics, "peer") == 1.0);

    (0..20).for_each(|number| drop(broker.publish("topicone1", &format!("data: {number}"))));
    broker.publish("topicone1", &"data: x\n\n".repeat(50));
    insert(&broker, "a", "1");
    streams.iter_mut().for_each(|stream| drop(stream.data(70)));
    records.event();
    let expected = (LIVE * 70 + 1) as f64;
    let metrics = broker.metrics_once("all", |metrics| metrics.sum("esker_events_delivered_total") == expected + 10.0);
    assert_eq!(latest(&metrics), expected);
    let below = |bound: &str| metrics.by("esker_delivery_latency_seconds_bucket", "le", bound);
    assert_eq!((below("+Inf"), below("10")), (expected, expected));
    let mean = metrics.of("esker_delivery_latency_seconds_sum") / expected;
    assert!(mean < 1.0, "{mean} s on this machine, on average");
}

#[test]
fn whatever_is_refused_is_counted_with_its_reason() {
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
    let publishes = |reason| metrics.by("esker_publishes_refused_total", "reason", reason);
    assert_eq!(["invalid", "room", "topics", "draining"].map(publishes), [2.0, 0.0, 1.0, 0.0]);
    let inserts = |reason| metrics.by("esker_store_refusals_total", "reason", reason);
    assert_eq!(["busy", "failed", "invalid", "memory"].map(inserts), [0.0, 0.0, 1.0, 1.0]);
    let code = |code| metrics.by("esker_responses_total", "code", code);
    assert_eq!(["200", "400", "503", "other"].map(code), [7.0, 4.0, 2.0, 0.0]);
    assert_eq!(metrics.sum("esker_requests_total"), 13.0, "garbage is no request, and this one is");
    let turned_away = |reason| metrics.by("esker_streams_turned_away_total", "reason", reason);
    assert_eq!(["full", "draining", "sub", "topics"].map(turned_away), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!((metrics.of("esker_events_published_total"), metrics.of("esker_events_duplicate_total")), (2.0, 1.0));
    assert_eq!(metrics.of("esker_store_commit_seconds_count"), metrics.of("esker_store_commits_total"));
    assert!(metrics.of("esker_store_commit_seconds_sum") > 0.0);
    assert_balanced(&metrics, 1.0);
}

/// Those that hold no more than their metric says, and those that are refused for it.
#[test]
fn what_bodies_hold_is_shown() {
    let broker = Broker::start(&["--max-body", "1000"]);
    let large = broker.post("/publish/topicone1", "", "x".repeat(1001));
    assert_eq!(large.status, 413);
    let mut body = broker.connect();
    body.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n");
    body.send("data: x");
    let metrics = broker.metrics_once("come", |metrics| metrics.of("esker_bodies_bytes") == 7.0);
    let refused = |reason| metrics.by("esker_bodies_refused_total", "reason", reason);
    assert_eq!(["large", "memory", "share", "slow"].map(refused), [1.0, 0.0, 0.0, 0.0]);
    drop(body);
    broker.metrics_once("gone", |metrics| metrics.of("esker_bodies_bytes") == 0.0);
}

#[test]
fn gaps_are_counted_by_how_they_came_about() {
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
    let metrics = broker.metrics_once("told", |metrics| metrics.sum("esker_gaps_total") == 1.0);
    assert_eq!(metrics.sum("esker_resume_gaps_total"), 1.0);
}

/// A connection that has begun to ask, so that it is not idle.
fn begin(broker: &Broker) -> Connection {
    let mut connection = broker.connect();
    connection.send(ASK);
    connection
}

/// Asks on a connection that has begun to, and begins anew.
fn ask(connection: &mut Connection) -> Metrics {
    connection.send(format!("\r\n{ASK}"));
    Metrics::parse(&connection.response().text())
}

fn refused(metrics: &Metrics, reason: &str) -> f64 {
    metrics.by("esker_connections_refused_total", "reason", reason)
}

/// The same once this reason is counted.
fn refusing(connection: &mut Connection, reason: &str) -> Metrics {
    let begin = Instant::now();
    loop {
        let metrics = ask(connection);
        if refused(&metrics, reason) >= 1.0 {
            return metrics;
        }
        assert!(begin.elapsed() < PATIENCE, "never {reason}: {metrics:?}");
    }
}

#[test]
fn connections_that_are_not_taken_in_are_counted() {
    let broker = Broker::start(&["--max-connections-per-ip", "1"]);
    let mut inside = begin(&broker);
    assert_eq!(refused(&ask(&mut inside), "address"), 0.0);
    assert!(broker.connect().is_closed() && broker.connect().is_closed());
    let metrics = ask(&mut inside);
    assert_eq!((refused(&metrics, "address"), refused(&metrics, "limit")), (2.0, 0.0));
    assert_eq!((metrics.sum("esker_connections_accepted_total"), metrics.sum("esker_connections")), (1.0, 1.0));

    let broker = Broker::start(&["--max-connections", "1", "--heartbeat", "200ms"]);
    let mut inside = begin(&broker);
    let _ = ask(&mut inside);
    // It looks again and again, and finds itself full; but nobody waits.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(refused(&ask(&mut inside), "limit"), 0.0);
    let _waits = broker.connect();
    assert_eq!(refused(&refusing(&mut inside, "limit"), "descriptors"), 0.0);
    let metrics = ask(&mut inside);
    assert_eq!(metrics.of("esker_connections_max"), 1.0);

    let broker = Broker::start(&["--heartbeat", "200ms"]);
    let mut inside = begin(&broker);
    let open = ask(&mut inside).of("process_open_fds");
    assert!((6.0..100.0).contains(&open), "{open}");
    broker.limit_descriptors(3);
    let _waits = broker.connect();
    let metrics = refusing(&mut inside, "descriptors");
    assert_eq!(refused(&metrics, "limit"), 0.0);
    assert_eq!(metrics.of("process_max_fds"), 3.0);
}
