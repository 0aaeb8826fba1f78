//! Tokens signed with HMAC: which are good, for what, where they are shown, and that without one nothing is given.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::tokens::{self, PUBLISHER, SECRETS, SUBSCRIBER, assert_denied, bearer, cookie, hs, knock, now};
use super::support::{Broker, Response};

fn secured() -> Broker {
    Broker::start_secured(&[], &SECRETS)
}

/// A publish with these fields.
fn publish(broker: &Broker, fields: &str) -> Response {
    broker.post("/publish/topicone1", fields, "data: x")
}

/// A subscriber's token with these claims beside `exp`.
fn listener(claims: &Value) -> String {
    let mut all = json!({"exp": now() + 60});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    hs("HS256", &all, SUBSCRIBER)
}

#[test]
fn every_length_of_hmac_is_good_for_its_own_role_and_for_no_other() {
    let broker = secured();
    for algorithm in ["HS256", "HS384", "HS512"] {
        let claims = tokens::allowing("topicone1", now() + 60);
        let [to_publish, to_subscribe] = [PUBLISHER, SUBSCRIBER].map(|secret| bearer(&hs(algorithm, &claims, secret)));
        let mut stream = broker.subscribe("/subscribe/topicone1", &to_subscribe);
        stream.opening();
        assert_eq!(publish(&broker, &to_publish).status, 200, "{algorithm}");
        assert_eq!(stream.data(1), ["x"]);
        assert_denied(&publish(&broker, &to_subscribe), 401, "publisher key");
        assert_denied(&knock(&broker, "/subscribe/topicone1", &to_publish), 401, "subscriber key");
    }
    assert_eq!(broker.stats()["events_published"], 3);
}

#[test]
fn without_a_token_only_health_and_preflights_are_answered() {
    let broker = secured();
    assert_denied(&publish(&broker, ""), 401, "a token is required");
    for target in ["/subscribe/topicone1", "/stats"] {
        let response = knock(&broker, target, "");
        assert_denied(&response, 401, "a token is required");
        assert_eq!(
            response.field("WWW-Authenticate"),
            Some("Bearer realm=\"esker\""),
            "no error where nothing was shown"
        );
        assert_eq!(broker.ask(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n")).status, 204);
    }
    broker.assert_well();
}

#[test]
fn a_good_token_for_other_names_is_forbidden() {
    let broker = secured();
    for claims in [
        json!({"sub": "topictwo2"}),
        json!({"sub": "topicone"}),
        json!({"sub": "topicone12"}),
        json!({"sub": "*"}),
        json!({"sub": "topic*"}),
        json!({"sub": ""}),
        json!({"topics": []}),
        json!({"topics": ["", "topictwo2", "topicone1x*", "*one1", "topic*1", "events", "stats"]}),
        json!({}),
    ] {
        let response = knock(&broker, "/subscribe/topicone1", &bearer(&listener(&claims)));
        assert_denied(&response, 403, "topicone1");
        assert!(response.field("WWW-Authenticate").is_some_and(|text| text.contains("insufficient_scope")));
    }
    assert_denied(&publish(&broker, &bearer(&tokens::publisher("topictwo2"))), 403, "topicone1");
    broker.assert_well();
}

#[test]
fn names_prefixes_and_the_asterisk_open_what_they_say() {
    let broker = secured();
    for claims in [
        json!({"sub": "topicone1"}),
        json!({"sub": "TOPICone1"}),
        json!({"topics": ["topictwo2", "topicone1"]}),
        json!({"topics": ["Topic*"]}),
        json!({"topics": ["topicone1*"]}),
        json!({"topics": ["*"]}),
        json!({"sub": "topictwo2", "topics": ["topicone1"]}),
        json!({"sub": "topicone1", "topics": [], "aud": ["esker", "another"], "nbf": now(), "iss": 5, "jti": {}}),
    ] {
        let token = bearer(&listener(&claims));
        for target in ["/subscribe/topicone1", "/subscribe/TopicOne1", "/subscribe/topicone%31"] {
            assert_eq!(knock(&broker, target, &token).status, 200, "{target} {claims}");
        }
    }
}

#[test]
fn a_subscription_to_several_topics_needs_them_all() {
    let broker = secured();
    let token = bearer(&listener(&json!({"topics": ["topicone1", "news*"]})));
    assert_eq!(knock(&broker, "/subscribe/topicone1,newspaper", &token).status, 200);
    for topics in ["topicone1,topictwo2", "topictwo2,topicone1", "topicone1,newspaper,topictwo2"] {
        assert_denied(&knock(&broker, &format!("/subscribe/{topics}"), &token), 403, "topictwo2");
    }
}

#[test]
fn the_numbers_need_a_publishers_token_for_stats() {
    let broker = secured();
    let ask = |token: &str| broker.ask(format!("GET /stats HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(token)));
    for entry in ["stats", "STATS", "*"] {
        assert_eq!(ask(&tokens::publisher(entry)).status, 200, "{entry}");
    }
    // Prefixes are of topics.
    assert_denied(&ask(&tokens::publisher("st*")), 403, "stats");
    assert_denied(&ask(&tokens::publisher("topicone1")), 403, "stats");
    assert_denied(&ask(&tokens::subscriber("stats")), 401, "publisher key");
}

#[test]
fn the_field_counts_before_the_query_and_that_before_the_cookie() {
    let broker = secured();
    let good = tokens::subscriber("topicone1");
    let in_query = |token: &str| format!("/subscribe/topicone1?x=y&token={token}");
    let bare = "/subscribe/topicone1".to_owned();
    for (target, fields, status) in [
        (bare.clone(), bearer(&good), 200),
        (bare.clone(), bearer(&good).replace("Authorization: Bearer", "aUTHORIZATION:bEARER"), 200),
        (in_query(&good), String::new(), 200),
        (bare.clone(), cookie(&good), 200),
        (in_query("bad"), bearer(&good) + &cookie("bad"), 200),
        (in_query(&good), bearer("bad") + &cookie(&good), 401),
        (in_query(&good), cookie("bad"), 200),
        (in_query("bad"), cookie(&good), 401),
        // An empty one is one that was shown in a field, where nobody sends it by chance.
        (in_query(&good), "Authorization: Bearer\r\n".into(), 401),
        (in_query(""), cookie(&good), 200),
        // What a proxy asked for is not meant for the broker.
        (in_query(&good), "Authorization: Basic YTpi\r\n".into(), 200),
        (bare, "Authorization: Basic YTpi\r\n".into(), 401),
    ] {
        assert_eq!(knock(&broker, &target, &fields).status, status, "{target} {fields}");
    }
}

/// The answer comes before the body, and before the word to send it.
/// A browser keeps an old cookie of the host beside that of its domain, and sends both.
#[test]
fn of_several_cookies_the_first_good_one_counts() {
    let broker = secured();
    let good = tokens::subscriber("topicone1");
    let other = tokens::subscriber("topictwo2");
    let expired = tokens::subscriber_until("topicone1", now() - 1);
    let forged = hs("HS256", &tokens::allowing("topicone1", now() + 60), PUBLISHER);
    let shown = |tokens: &[&str]| {
        let cookies: Vec<_> = tokens.iter().map(|token| format!("esker_token={token}")).collect();
        knock(&broker, "/subscribe/topicone1", &format!("Cookie: {}\r\n", cookies.join("; ")))
    };
    for tokens in [[&expired, &good], [&forged, &good], [&good, &forged], [&"nonsense".to_owned(), &good]] {
        assert_eq!(shown(&tokens.map(String::as_str)).status, 200, "{tokens:?}");
    }
    assert_denied(&shown(&[&other, &good]), 403, "topicone1");
    let refused = shown(&[&expired, &forged]);
    assert_denied(&refused, 401, "expired");
    assert_eq!(refused.field("Connection"), Some("close"), "one of them has a bad signature");
    assert_denied(&shown(&[&expired, "x", "y", "z", &good]), 401, "expired");
}

#[test]
fn a_refused_publish_is_not_asked_for_its_body() {
    let broker = secured();
    let ask = |token: &str, framing: &str| {
        let mut connection = broker.connect();
        let fields = format!("{}{framing}", bearer(token));
        connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        Response::without_body(connection.head()).status
    };
    for expecting in
        ["Expect: 100-continue\r\nContent-Length: 7\r\n", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"]
    {
        assert_eq!(ask(&tokens::publisher("topicone1"), expecting), 100);
        assert_eq!(ask(&tokens::publisher("topictwo2"), expecting), 403);
        assert_eq!(ask("bad", expecting), 401);
    }
    assert_eq!(ask("bad", ""), 401);
    assert_eq!(ask("bad", "Content-Length: 1000000\r\n"), 401);
    broker.assert_well();
}

/// A body can take as long as its sender likes; the token is no longer good for what it came with.
#[test]
fn a_token_must_be_good_when_the_body_has_come_as_well() {
    let broker = secured();
    publish(&broker, &bearer(&tokens::publisher("topicone1")));
    let expires = now() + 2;
    let claims = tokens::allowing("topicone1", expires);
    let begin = |line: &str, secret: &str| {
        let mut connection = broker.connect();
        let token = bearer(&hs("HS256", &claims, secret));
        connection.send(format!("{line} HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n{token}\r\ndata: "));
        connection
    };
    let mut stream = begin("GET /subscribe/topicone1?last_event_id=0", SUBSCRIBER);
    let mut head = begin("HEAD /subscribe/topicone1", SUBSCRIBER);
    let mut publish = begin("POST /publish/topicone1", PUBLISHER);
    while now() < expires {
        thread::sleep(Duration::from_millis(50));
    }
    stream.send("x");
    assert_denied(&stream.response(), 401, "the token expired at");
    head.send("x");
    assert_eq!(Response::without_body(head.head()).status, 401);
    publish.send("x");
    assert_denied(&publish.response(), 401, "the token expired at");
    let stats = broker.stats();
    assert_eq!((stats["events_published"].as_u64(), stats["requests_denied"].as_u64()), (Some(1), Some(3)));
}
