//! Limits per principal: simultaneous streams, and events per second. Limits are exact, count over all workers, are released
//! however a stream ends, and affect no other principal.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use super::scale::lock_machine;
use super::support::tokens::{self, PUBLISHER, SECRETS, SUBSCRIBER, bearer, now, sign_hmac};
use super::support::{Broker, Connection, Crowd, Response, Stream, TIMEOUT, TempDir, connect_small, run};

/// Returns a subscriber's token with this `sub`, for one topic.
fn subscriber_token(sub: &str) -> String {
    subscriber_token_until(sub, now() + 3600)
}

fn subscriber_token_until(sub: &str, expires: u64) -> String {
    sign_hmac("HS256", &json!({"exp": expires, "sub": sub, "topics": ["topicone1", "events"]}), SUBSCRIBER)
}

/// Returns a publisher's token with this `sub`.
fn publisher_token(sub: &str) -> String {
    sign_hmac("HS256", &json!({"exp": now() + 3600, "sub": sub, "topics": ["topic*", "events"]}), PUBLISHER)
}

fn open(broker: &Broker, sub: &str) -> Stream {
    broker.subscribe("/subscribe/topicone1", &bearer(&subscriber_token(sub)))
}

/// Returns whether the stream was accepted. A refused stream gets a reconnection time and ends.
fn is_accepted(stream: &mut Stream) -> bool {
    let opening = stream.opening();
    if opening.starts_with(":\n") {
        return true;
    }
    assert!(opening.starts_with(": the token's sub has reached --max-subscribers-per-sub"), "{opening}");
    let retry = opening.lines().find_map(|line| line.strip_prefix("retry: ")).expect("a reconnection time");
    assert!((5_000..=15_000).contains(&retry.parse::<u64>().expect("a number")), "{retry}");
    assert_eq!(stream.chunk(), None);
    assert!(stream.connection.is_closed());
    false
}

/// Opens a stream, retrying until it is accepted.
fn open_when_accepted(broker: &Broker, sub: &str) -> Stream {
    let begin = Instant::now();
    loop {
        let mut stream = open(broker, sub);
        if is_accepted(&mut stream) {
            return stream;
        }
        assert!(begin.elapsed() < TIMEOUT, "the permit is never released");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn start_limited(arguments: &[&str]) -> Broker {
    Broker::start_with_tokens(&[&["--max-subscribers-per-sub", "3", "--threads", "2"], arguments].concat(), &SECRETS)
}

#[test]
fn the_stream_limit_of_a_subject_is_exact_across_workers() {
    let broker = start_limited(&[]);
    let mut inside: Vec<_> = (0..3).map(|_| open(&broker, "user:1")).collect();
    assert!(inside.iter_mut().all(is_accepted));
    assert!((0..4).all(|_| !is_accepted(&mut open(&broker, "user:1"))), "on every worker");
    let records = format!("GET /events HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(&subscriber_token("user:1")));
    assert!(broker.request(&records).text().starts_with(": the token's sub"), "streams of records count as well");
    assert!(
        is_accepted(&mut open(&broker, "user:2")) && is_accepted(&mut open(&broker, "USER:1")),
        "other principals have their own limit"
    );
    let head = format!("HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(&subscriber_token("user:1")));
    let mut connection = broker.connect();
    connection.send(head);
    assert!(connection.head().starts_with("HTTP/1.1 200 OK\r\n"), "a HEAD request does not count as a stream");

    let metrics = broker.metrics_once("disconnected", |metrics| metrics.sum("esker_subscribers") == 3.0);
    let turned_away = |reason| metrics.labeled("esker_streams_turned_away_total", "reason", reason);
    assert_eq!(["full", "draining", "sub", "topics"].map(turned_away), [0.0, 0.0, 5.0, 0.0]);
    assert_eq!(metrics.value("esker_subscriber_subs"), 1.0);
    assert_eq!(broker.stats()["streams_turned_away"], 5);
    for _ in 0..20 {
        drop(inside.remove(0));
        inside.push(open_when_accepted(&broker, "user:1"));
    }
}

#[test]
fn tokens_without_a_sub_are_not_counted() {
    let broker = start_limited(&[]);
    let shared = bearer(&tokens::subscriber("topicone1"));
    let mut audience: Vec<_> = (0..10).map(|_| broker.subscribe("/subscribe/topicone1", &shared)).collect();
    assert!(audience.iter_mut().all(is_accepted));
    assert_eq!(broker.metrics().value("esker_subscriber_subs"), 0.0);
}

#[test]
fn a_permit_is_released_however_its_stream_ends() {
    let _lock = lock_machine();
    let broker = start_limited(&["--stall", "1s", "--heartbeat", "200ms"]);
    let fill = |token: &str| {
        let mut streams = [(); 3].map(|()| broker.subscribe("/subscribe/topicone1", &bearer(token)));
        assert!(streams.iter_mut().all(is_accepted));
        assert!(!is_accepted(&mut open(&broker, "user:1")));
        streams
    };
    let none_is_left = |what: &str| broker.metrics_once(what, |metrics| metrics.value("esker_subscriber_subs") == 0.0);
    drop(fill(&subscriber_token("user:1")));
    none_is_left("left");

    let mut expiring = fill(&subscriber_token_until("user:1", now() + 3));
    expiring.iter_mut().for_each(|stream| while stream.chunk().is_some() {});
    none_is_left("expired");

    let [mut talker, mut ender, resetter] = fill(&subscriber_token("user:1"));
    ender.connection.shutdown_write();
    rustix::net::sockopt::set_socket_linger(&resetter.connection.socket, Some(Duration::ZERO)).expect("an option");
    drop(resetter);
    let begin = Instant::now();
    while talker.connection.socket.write_all(&[b'x'; 1 << 16]).is_ok() {
        assert!(begin.elapsed() < TIMEOUT, "the broker never closes the connection");
    }
    none_is_left("talked, ended or reset");

    let mut paused = Crowd::new();
    let target = format!("/subscribe/topicone1?token={}", subscriber_token("user:1"));
    paused.join_paused(3, &target, || connect_small(broker.address));
    broker.metrics_once("joined", |metrics| metrics.sum("esker_subscribers") == 3.0);
    assert!(!is_accepted(&mut open(&broker, "user:1")));
    let (large, pass) = (format!("data: {}", "x".repeat(900_000)), bearer(&publisher_token("user:9")));
    while broker.metrics().sum("esker_subscribers_stalled") < 3.0 {
        assert_eq!(broker.post("/publish/topicone1", &pass, &large).status, 200);
    }
    none_is_left("stalled");
    drop(fill(&subscriber_token("user:1")));
}

#[test]
fn ten_thousand_subjects_leak_nothing() {
    const SUBJECTS: usize = 5_000;
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&["--max-subscribers-per-sub", "2", "--threads", "2"], &SECRETS);
    let mut crowd = Crowd::new();
    for round in 0..2 {
        // The first half are subscribed before, and the second half afterwards.
        let target = |number: usize| {
            format!("/subscribe/topicone1?token={}", subscriber_token(&format!("user:{round}:{}", number / 2)))
        };
        let members = crowd.join(broker.address, 2 * SUBJECTS, target);
        let metrics = broker.metrics();
        assert_eq!(metrics.value("esker_subscriber_subs"), SUBJECTS as f64);
        assert_eq!(metrics.labeled("esker_streams_turned_away_total", "reason", "sub"), 0.0);
        crowd.disconnect(members);
        broker.metrics_once("disconnected", |metrics| metrics.value("esker_subscriber_subs") == 0.0);
    }
}

/// Publishes this many events on an existing connection.
fn publish(connection: &mut Connection, token: &str, events: usize) -> Response {
    let (body, pass) = ("data: x\n\n".repeat(events), bearer(token));
    let length = body.len();
    connection
        .send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{pass}Content-Length: {length}\r\n\r\n{body}"));
    connection.response()
}

fn insert(connection: &mut Connection, token: &str) -> Response {
    let (body, pass) = ("{\"event\":\"a\",\"data\":1}", bearer(token));
    let length = body.len();
    connection.send(format!("POST /insert HTTP/1.1\r\nHost: h\r\n{pass}Content-Length: {length}\r\n\r\n{body}"));
    connection.response()
}

/// Asserts that the response is a refusal, and returns its Retry-After in seconds.
fn assert_refused(response: &Response) -> u64 {
    assert_eq!(response.status, 429, "{response:?}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    assert_eq!(response.json()["title"], "Too Many Requests");
    let seconds = response.field("Retry-After").expect("a time").parse().expect("seconds");
    let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("--publish-rate") && detail.ends_with(&format!("try again in {seconds} s")), "{detail}");
    seconds
}

#[test]
fn a_publisher_has_one_burst_across_workers_and_then_its_rate() {
    let broker =
        Broker::start_with_tokens(&["--publish-rate", "1", "--publish-burst", "20", "--threads", "2"], &SECRETS);
    let (mut one, mut other) = (broker.connect(), broker.connect());
    let token = publisher_token("backend:1");
    let begin = Instant::now();
    assert_eq!(publish(&mut one, &token, 15).status, 200);
    // Another token with the same `sub` on another worker, and records, share the burst.
    let sibling = sign_hmac("HS256", &json!({"exp": now() + 60, "sub": "backend:1", "topics": ["*"]}), PUBLISHER);
    assert_eq!(publish(&mut other, &sibling, 4).status, 200);
    assert_eq!(insert(&mut other, &token).status, 200);
    let seconds =
        [publish(&mut one, &token, 10), publish(&mut other, &sibling, 10)].map(|response| assert_refused(&response));
    assert!((1..=10).contains(&seconds[0]) && seconds[1] <= seconds[0], "{seconds:?}: ten events at one a second");
    let large = publish(&mut one, &token, 21);
    assert_eq!((large.status, large.field("Retry-After")), (413, None), "a batch above the burst is never accepted");
    assert!(large.text().contains("the body has 21 events, but --publish-burst allows at most 20 at once"));
    assert_eq!(
        publish(&mut one, &publisher_token("backend:2"), 20).status,
        200,
        "other principals have their own limit"
    );

    // Tokens that the bucket has gained in the meantime, one by one.
    let mut accepted = 20;
    let wait = loop {
        match insert(&mut other, &token) {
            response if response.status == 200 => accepted += 1,
            response => break assert_refused(&response),
        }
    };
    assert!(accepted <= 20 + begin.elapsed().as_secs(), "{accepted} within {:?}", begin.elapsed());
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!((wait, publish(&mut one, &token, 1).status), (1, 200), "Retry-After is exact");
    let metrics = broker.metrics();
    assert_eq!(metrics.labeled("esker_publishes_refused_total", "reason", "rate"), 3.0);
    assert_eq!(metrics.labeled("esker_store_refusals_total", "reason", "rate"), 1.0);
    assert_eq!(metrics.labeled("esker_responses_total", "code", "429"), 3.0);
    assert_eq!((metrics.value("esker_events_published_total"), metrics.value("esker_publish_buckets")), (40.0, 2.0));
    assert_eq!(broker.stats()["publishes_refused"]["rate"], 3);
}

#[test]
fn a_token_without_a_sub_has_its_own_bucket() {
    let broker = Broker::start_with_tokens(&["--publish-rate", "1", "--publish-burst", "2"], &SECRETS);
    let mut connection = broker.connect();
    let token = |topic: &str| sign_hmac("HS256", &json!({"exp": now() + 3600, "topics": [topic]}), PUBLISHER);
    let (one, other) = (token("topicone1"), token("topic*"));
    assert_eq!(publish(&mut connection, &one, 2).status, 200);
    assert_refused(&publish(&mut connection, &one, 2));
    assert_eq!(publish(&mut connection, &other, 2).status, 200);
}

#[test]
fn requests_that_publish_nothing_cost_nothing() {
    let broker = Broker::start_with_tokens(&["--publish-rate", "1", "--publish-burst", "1"], &SECRETS);
    let mut connection = broker.connect();
    let pass = bearer(&publisher_token("backend:1"));
    assert_eq!(broker.post("/publish/topicone1", &pass, "no field").status, 400);
    assert_eq!(broker.post("/publish/othername", &pass, "data: x").status, 403);
    assert_eq!(broker.post("/insert", &pass, "no JSON").status, 400);
    assert_eq!(publish(&mut connection, &publisher_token("backend:1"), 1).status, 200);
}

#[test]
fn the_buckets_of_many_publishers_are_released() {
    let broker = Broker::start_with_tokens(&["--publish-rate", "1000", "--publish-burst", "1"], &SECRETS);
    let mut connection = broker.connect();
    for number in 0..10_000 {
        assert_eq!(publish(&mut connection, &publisher_token(&format!("backend:{number}")), 1).status, 200);
    }
    let buckets = broker.metrics().value("esker_publish_buckets");
    assert!(buckets < 2_000.0, "{buckets} buckets, though each is full again after a millisecond");
}

/// Limits persist over a change of keys: permits and buckets belong to principals, not to keys.
#[test]
fn a_reload_resets_no_limit() {
    let home = TempDir::new();
    let key = super::support::openssl::KeyPair::ed25519();
    let path = home.path.join("key.pem");
    std::fs::write(&path, key.public_pem()).expect("a file can be written");
    let arguments = ["--publisher-key", path.to_str().expect("UTF-8"), "--publish-rate", "1", "--publish-burst", "2"];
    let broker =
        Broker::start_with_tokens(&[&arguments[..], &["--max-subscribers-per-sub", "1"]].concat(), &SECRETS[1..]);
    let token = key.sign("EdDSA", &json!({"exp": now() + 60, "sub": "backend:1", "topics": ["*"]}));
    let mut connection = broker.connect();
    assert_eq!(publish(&mut connection, &token, 2).status, 200);
    let _stream = open_when_accepted(&broker, "user:1");
    broker.signal("HUP");
    broker.wait_for_log("were reloaded");
    assert_refused(&publish(&mut connection, &token, 2));
    assert!(!is_accepted(&mut open(&broker, "user:1")));
}

#[test]
fn a_limit_without_effect_is_refused_at_startup() {
    for (arguments, advice) in [
        (
            &["--no-auth", "--max-subscribers-per-sub", "5"][..],
            "counts per token, but with --no-auth there are no tokens",
        ),
        (&["--no-auth", "--publish-rate", "5"], "counts per token, but with --no-auth there are no tokens"),
        (&["--publish-burst", "5"], "--publish-burst requires --publish-rate"),
        (&["--publish-rate", "0"], "--publish-rate must be at least 1"),
        (&["--publish-rate", "1000001"], "--publish-rate must be at most 1000000"),
        (&["--publish-rate", "1/s"], "give a whole number"),
        (&["--max-subscribers-per-sub", "0"], "--max-subscribers-per-sub must be at least 1"),
    ] {
        let (code, _, log) = run(&[arguments, &["--port", "0"]].concat(), &SECRETS);
        assert_eq!(code, Some(2), "{arguments:?}: {log}");
        assert!(log.contains(advice), "{arguments:?}: {log}");
    }
    let variables = [("ESKER_MAX_SUBSCRIBERS_PER_SUB", "1"), ("ESKER_PUBLISH_RATE", "1"), ("ESKER_PUBLISH_BURST", "1")];
    let broker = Broker::start_with_tokens(&[], &[&SECRETS[..], &variables].concat());
    let mut connection = broker.connect();
    assert_eq!(publish(&mut connection, &publisher_token("backend:1"), 1).status, 200);
    assert_refused(&publish(&mut connection, &publisher_token("backend:1"), 1));
    let mut first = open(&broker, "user:1");
    assert!(is_accepted(&mut first) && !is_accepted(&mut open(&broker, "user:1")));
}
