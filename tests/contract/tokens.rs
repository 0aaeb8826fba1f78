//! Tokens signed with HMAC: which are valid, what they allow, where they may be sent, and that nothing works without one.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::tokens::{
    self, PUBLISHER, SECRETS, SUBSCRIBER, assert_denied, bearer, cookie, now, sign_hmac, try_subscribe,
};
use super::support::{Broker, Response};

fn secured_broker() -> Broker {
    Broker::start_with_tokens(&[], &SECRETS)
}

/// Publishes with these fields.
fn publish(broker: &Broker, fields: &str) -> Response {
    broker.post("/publish/topicone1", fields, "data: x")
}

/// Returns a subscriber's token with these claims in addition to `exp`.
fn subscriber_token(claims: &Value) -> String {
    let mut all = json!({"exp": now() + 60});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    sign_hmac("HS256", &all, SUBSCRIBER)
}

#[test]
fn each_hmac_algorithm_is_valid_for_its_own_role_only() {
    let broker = secured_broker();
    for algorithm in ["HS256", "HS384", "HS512"] {
        let claims = tokens::topic_claims("topicone1", now() + 60);
        let [to_publish, to_subscribe] =
            [PUBLISHER, SUBSCRIBER].map(|secret| bearer(&sign_hmac(algorithm, &claims, secret)));
        let mut stream = broker.subscribe("/subscribe/topicone1", &to_subscribe);
        stream.opening();
        assert_eq!(publish(&broker, &to_publish).status, 200, "{algorithm}");
        assert_eq!(stream.data(1), ["x"]);
        assert_denied(&publish(&broker, &to_subscribe), 401, "publisher key");
        assert_denied(&try_subscribe(&broker, "/subscribe/topicone1", &to_publish), 401, "subscriber key");
    }
    assert_eq!(broker.stats()["events_published"], 3);
}

#[test]
fn without_a_token_only_health_and_preflights_work() {
    let broker = secured_broker();
    assert_denied(&publish(&broker, ""), 401, "a token is required");
    for target in ["/subscribe/topicone1", "/stats"] {
        let response = try_subscribe(&broker, target, "");
        assert_denied(&response, 401, "a token is required");
        assert_eq!(response.field("WWW-Authenticate"), Some("Bearer realm=\"esker\""), "no error code without a token");
        assert_eq!(broker.request(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n")).status, 204);
    }
    broker.assert_healthy();
}

#[test]
fn a_valid_token_for_other_names_is_forbidden() {
    let broker = secured_broker();
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
        let response = try_subscribe(&broker, "/subscribe/topicone1", &bearer(&subscriber_token(&claims)));
        assert_denied(&response, 403, "topicone1");
        assert!(response.field("WWW-Authenticate").is_some_and(|text| text.contains("insufficient_scope")));
    }
    assert_denied(&publish(&broker, &bearer(&tokens::publisher("topictwo2"))), 403, "topicone1");
    broker.assert_healthy();
}

#[test]
fn names_prefixes_and_the_asterisk_allow_what_they_match() {
    let broker = secured_broker();
    for claims in [
        json!({"sub": "topicone1"}),
        json!({"sub": "TOPICone1"}),
        json!({"topics": ["topictwo2", "topicone1"]}),
        json!({"topics": ["Topic*"]}),
        json!({"topics": ["topicone1*"]}),
        json!({"topics": ["*"]}),
        json!({"sub": "topictwo2", "topics": ["topicone1"]}),
        json!({"sub": "topicone1", "topics": [], "aud": ["esker", "another"], "nbf": now(), "iss": 5, "jti": "x"}),
    ] {
        let token = bearer(&subscriber_token(&claims));
        for target in ["/subscribe/topicone1", "/subscribe/TopicOne1", "/subscribe/topicone%31"] {
            assert_eq!(try_subscribe(&broker, target, &token).status, 200, "{target} {claims}");
        }
    }
}

#[test]
fn a_subscription_to_several_topics_needs_access_to_all() {
    let broker = secured_broker();
    let token = bearer(&subscriber_token(&json!({"topics": ["topicone1", "news*"]})));
    assert_eq!(try_subscribe(&broker, "/subscribe/topicone1,newspaper", &token).status, 200);
    for topics in ["topicone1,topictwo2", "topictwo2,topicone1", "topicone1,newspaper,topictwo2"] {
        assert_denied(&try_subscribe(&broker, &format!("/subscribe/{topics}"), &token), 403, "topictwo2");
    }
}

#[test]
fn stats_require_a_publishers_token_for_stats() {
    let broker = secured_broker();
    let send_request = |token: &str| broker.request(format!("GET /stats HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(token)));
    for entry in ["stats", "STATS", "*"] {
        assert_eq!(send_request(&tokens::publisher(entry)).status, 200, "{entry}");
    }
    // Prefixes match topics only.
    assert_denied(&send_request(&tokens::publisher("st*")), 403, "stats");
    assert_denied(&send_request(&tokens::publisher("topicone1")), 403, "stats");
    assert_denied(&send_request(&tokens::subscriber("stats")), 401, "publisher key");
}

#[test]
fn the_header_precedes_the_query_and_the_query_the_cookie() {
    let broker = secured_broker();
    let valid = tokens::subscriber("topicone1");
    let in_query = |token: &str| format!("/subscribe/topicone1?x=y&token={token}");
    let bare = "/subscribe/topicone1".to_owned();
    for (target, fields, status) in [
        (bare.clone(), bearer(&valid), 200),
        (bare.clone(), bearer(&valid).replace("Authorization: Bearer", "aUTHORIZATION:bEARER"), 200),
        (in_query(&valid), String::new(), 200),
        (bare.clone(), cookie(&valid), 200),
        (in_query("bad"), bearer(&valid) + &cookie("bad"), 200),
        (in_query(&valid), bearer("bad") + &cookie(&valid), 401),
        (in_query(&valid), cookie("bad"), 200),
        (in_query("bad"), cookie(&valid), 401),
        // An empty Authorization field counts as a token, because no client sends one by accident.
        (in_query(&valid), "Authorization: Bearer\r\n".into(), 401),
        (in_query(""), cookie(&valid), 200),
        // Credentials for a proxy are not meant for the broker.
        (in_query(&valid), "Authorization: Basic YTpi\r\n".into(), 200),
        (bare, "Authorization: Basic YTpi\r\n".into(), 401),
    ] {
        assert_eq!(try_subscribe(&broker, &target, &fields).status, status, "{target} {fields}");
    }
}

/// A browser keeps an old cookie of the host in addition to that of its domain, and sends both.
#[test]
fn the_first_valid_of_several_cookies_counts() {
    let broker = secured_broker();
    let valid = tokens::subscriber("topicone1");
    let other = tokens::subscriber("topictwo2");
    let expired = tokens::subscriber_until("topicone1", now() - 1);
    let forged = sign_hmac("HS256", &tokens::topic_claims("topicone1", now() + 60), PUBLISHER);
    let with_cookies = |tokens: &[&str]| {
        let cookies: Vec<_> = tokens.iter().map(|token| format!("esker_token={token}")).collect();
        try_subscribe(&broker, "/subscribe/topicone1", &format!("Cookie: {}\r\n", cookies.join("; ")))
    };
    for tokens in [[&expired, &valid], [&forged, &valid], [&valid, &forged], [&"nonsense".to_owned(), &valid]] {
        assert_eq!(with_cookies(&tokens.map(String::as_str)).status, 200, "{tokens:?}");
    }
    assert_denied(&with_cookies(&[&other, &valid]), 403, "topicone1");
    let refused = with_cookies(&[&expired, &forged]);
    assert_denied(&refused, 401, "expired");
    assert_eq!(refused.field("Connection"), Some("close"), "one of the cookies has a bad signature");
    assert_denied(&with_cookies(&[&expired, "x", "y", "z", &valid]), 401, "expired");
}

#[test]
fn a_refused_publish_gets_its_response_before_the_body() {
    let broker = secured_broker();
    let send_request = |token: &str, framing: &str| {
        let mut connection = broker.connect();
        let fields = format!("{}{framing}", bearer(token));
        connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        Response::without_body(connection.head()).status
    };
    for expecting in
        ["Expect: 100-continue\r\nContent-Length: 7\r\n", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"]
    {
        assert_eq!(send_request(&tokens::publisher("topicone1"), expecting), 100);
        assert_eq!(send_request(&tokens::publisher("topictwo2"), expecting), 403);
        assert_eq!(send_request("bad", expecting), 401);
    }
    assert_eq!(send_request("bad", ""), 401);
    assert_eq!(send_request("bad", "Content-Length: 1000000\r\n"), 401);
    broker.assert_healthy();
}

/// A body can take as long as its sender likes, and the token may expire in the meantime.
#[test]
fn a_token_must_still_be_valid_after_the_body() {
    let broker = secured_broker();
    publish(&broker, &bearer(&tokens::publisher("topicone1")));
    let expires = now() + 2;
    let claims = tokens::topic_claims("topicone1", expires);
    let begin = |line: &str, secret: &str| {
        let mut connection = broker.connect();
        let token = bearer(&sign_hmac("HS256", &claims, secret));
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
