//! `esker token`: the broker accepts the tokens it makes.

use std::time::{Instant, SystemTime};

use super::scale::lock_machine;
use super::support::tokens::{SECRETS, assert_denied, assert_in_time, bearer, decode_claims, now, try_subscribe};
use super::support::{Broker, EXPIRED, Response, run};

/// Makes a token with the broker's own secrets.
fn make_token(arguments: &[&str]) -> String {
    let (code, out, err) = run(&[&["token"], arguments].concat(), &SECRETS);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
    let token = out.strip_suffix('\n').expect("a line").to_owned();
    assert!(!token.contains(char::is_whitespace), "more than one line: {out:?}");
    token
}

fn publish(broker: &Broker, topic: &str, token: &str) -> Response {
    broker.post(&format!("/publish/{topic}"), &bearer(token), "data: x")
}

/// Returns whether the broker opens a stream.
fn can_subscribe(broker: &Broker, topics: &str, token: &str) -> bool {
    let status = try_subscribe(broker, &format!("/subscribe/{topics}"), &bearer(token)).status;
    assert!([200, 403].contains(&status), "{status}");
    status == 200
}

#[test]
fn a_token_allows_what_was_requested() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let one = make_token(&["--publish", "TopicOne1"]);
    assert_eq!(publish(&broker, "topicone1", &one).status, 200);
    assert_denied(&publish(&broker, "topictwo2", &one), 403, "topictwo2");
    let several = make_token(&["--publish", "topicone1", "--publish=topictwo2", "--publish", "stats"]);
    assert_eq!(
        ["topicone1", "topictwo2", "topicthree3"].map(|topic| publish(&broker, topic, &several).status),
        [200, 200, 403]
    );
    assert_eq!(broker.request(format!("GET /stats HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(&several))).status, 200);

    let prefix = make_token(&["--subscribe", "news*", "--subscribe", "topicone1"]);
    assert!(can_subscribe(&broker, "newspaper1,topicone1,news1234", &prefix));
    assert!(!can_subscribe(&broker, "topictwo2", &prefix));
    assert!(can_subscribe(&broker, "topicone1,whatever1", &make_token(&["--subscribe", "*"])));
    assert_denied(&publish(&broker, "topicone1", &make_token(&["--subscribe", "*"])), 401, "publisher key");
    broker.assert_healthy();
}

#[test]
fn a_token_is_valid_for_an_hour_or_as_requested() {
    for (arguments, seconds) in
        [(&[][..], 3600), (&["--ttl", "90s"], 90), (&["--ttl=2h"], 7200), (&["--ttl", "1ms"], 0)]
    {
        let before = now();
        let claims = decode_claims(&make_token(&[&["--publish", "topicone1"], arguments].concat()));
        let issued = claims["iat"].as_u64().expect("whole seconds");
        assert!((before..=now()).contains(&issued), "{arguments:?}: {issued} at {before}");
        let expires = claims["exp"].as_u64().expect("whole seconds");
        // A margin for passing the token on is added, and the result is rounded up.
        assert!((before + seconds..=now() + seconds + 2).contains(&expires), "{arguments:?}: {expires} at {before}");
    }
}

#[test]
fn a_stream_lasts_as_long_as_its_token() {
    let _lock = lock_machine();
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let asked = Instant::now();
    let token = make_token(&["--subscribe", "topicone1", "--ttl", "3s"]);
    let opened = Instant::now();
    let mut stream = broker.subscribe("/subscribe/topicone1", &bearer(&token));
    stream.opening();
    assert_eq!(stream.event().text, EXPIRED);
    assert_eq!(stream.chunk(), None);
    let (since_asked, since_opened) = (asked.elapsed().as_secs_f64(), opened.elapsed().as_secs_f64());
    assert!(
        since_asked >= 3.0 && since_opened <= 4.5,
        "{since_asked} s after the token was made, {since_opened} s after the stream was opened"
    );
    assert_in_time(decode_claims(&token)["exp"].as_u64().expect("whole seconds"), SystemTime::now());
}

#[test]
fn no_token_is_made_without_a_valid_secret() {
    for (environment, status, part) in [
        (&[][..], 1, "ESKER_PUBLISHER_SECRET"),
        (&SECRETS[1..], 1, "ESKER_PUBLISHER_SECRET"),
        (&[("ESKER_PUBLISHER_SECRET", "short")], 2, "openssl rand"),
    ] {
        let (code, out, err) = run(&["token", "--publish", "topicone1"], environment);
        assert_eq!((code, out.as_str()), (Some(status), ""), "{err}");
        assert!(err.contains(part) && !err.contains("short"), "{err}");
    }
    for arguments in [
        &["token"][..],
        &["token", "--publish", "short77"],
        &["token", "--publish", "topicone1", "--subscribe", "topicone1"],
        &["token", "--subscribe", "stats"],
        &["token", "--subscribe", "revoke"],
        &["token", "--publish", "topicone1", "--ttl", "0s"],
    ] {
        let (code, out, err) = run(arguments, &SECRETS);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.ends_with("esker token --help shows all options\n"), "{err}");
    }
}

#[test]
fn a_token_follows_the_rules_in_the_environment() {
    let rules = [("ESKER_ISSUER", "https://id.example.com/"), ("ESKER_TOPICS_CLAIM", "https://example.com/topics")];
    let environment = [&SECRETS[..], &rules].concat();
    let broker = Broker::start_with_tokens(&[], &environment);
    for names in [&["topicone1"][..], &["topic*"], &["topicone1", "topictwo2"]] {
        let arguments: Vec<_> =
            ["token"].into_iter().chain(names.iter().flat_map(|name| ["--publish", name])).collect();
        let (code, out, err) = run(&arguments, &environment);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{names:?}");
        assert_eq!(publish(&broker, "topicone1", out.trim_end()).status, 200, "{names:?}");
        let without = make_token(&arguments[1..]);
        assert_denied(&publish(&broker, "topicone1", &without), 401, "no `iss`");
    }
}
