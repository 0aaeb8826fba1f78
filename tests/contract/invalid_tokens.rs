//! Invalid tokens of every kind are refused with the reason, cause no harm, and never appear in logs or responses.

use ring::hmac::{HMAC_SHA256, HMAC_SHA512};
use serde_json::{Value, json};

use super::support::tokens::{self, PUBLISHER, SECRETS, SUBSCRIBER, assert_denied, bearer, now, sign_hmac, sign_raw};
use super::support::{Broker, Response};

const HS256: &str = r#"{"alg":"HS256"}"#;

fn publish(broker: &Broker, fields: &str) -> Response {
    broker.post("/publish/topicone1", fields, "data: x")
}

/// Returns a publisher's token with one extra claim.
fn token_with_claim(name: &str, value: Value) -> String {
    let mut claims = tokens::topic_claims("topicone1", now() + 60);
    claims[name] = value;
    sign_hmac("HS256", &claims, PUBLISHER)
}

/// Tokens with malformed parts, each with a part of the expected error.
fn malformed_tokens() -> Vec<(String, &'static str)> {
    let valid = tokens::publisher("topicone1");
    let claims = tokens::topic_claims("topicone1", now() + 60).to_string();
    let (message, signature) = valid.rsplit_once('.').expect("a signature");
    let (_, payload) = message.split_once('.').expect("claims");
    let sign = |header: &str, claims: &str| sign_raw(header, claims, HMAC_SHA256, PUBLISHER);
    let deep = format!("{{\"exp\":1,\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let twice = format!("{{\"exp\":1,{}", &claims[1..]);
    let is = "not a supported signed JWT";
    let has = "claims must be a JSON object";
    vec![
        ("x".into(), is),
        ("..".into(), is),
        (message.into(), is),
        (format!(".{payload}.{signature}"), is),
        (format!("{valid}.{payload}"), is),
        (format!("{message}.{payload}.{signature}.{signature}"), is),
        (format!("{valid}="), is),
        (format!("{message}.+/+/"), is),
        (format!("\"{valid}\""), is),
        (format!("{valid} {valid}"), is),
        (format!("{message}.\u{e9}\u{1f980}"), is),
        (sign("no JSON", &claims), is),
        (sign("[]", &claims), is),
        (sign("{}", &claims), is),
        (sign(r#"{"alg":5}"#, &claims), is),
        (sign(r#"{"alg":null}"#, &claims), is),
        (sign(r#"{"alg":"hs256"}"#, &claims), is),
        (sign(r#"{"alg":"HS257"}"#, &claims), is),
        (sign(HS256, "no JSON"), has),
        (sign(HS256, ""), has),
        (sign(HS256, "[]"), has),
        (sign(HS256, "\"exp\""), has),
        (sign(HS256, &deep), "expired"),
        (sign(HS256, &twice), has),
        ("x".repeat(15_000), is),
        (".".repeat(15_000), is),
        ("a.".repeat(7_000), is),
        (sign(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, &claims), "crit"),
    ]
}

/// Tokens signed with another key, or for another algorithm.
fn forged_tokens() -> Vec<(String, &'static str)> {
    let valid = tokens::publisher("topicone1");
    let claims = tokens::topic_claims("topicone1", now() + 60);
    let (message, signature) = valid.rsplit_once('.').expect("a signature");
    let (header, _) = message.split_once('.').expect("claims");
    let unsigned = |algorithm: &str| tokens::message(&json!({ "alg": algorithm }).to_string(), &claims.to_string());
    let mut all = vec![
        (sign_hmac("HS256", &claims, "some other secret, of 32 bytes or more"), "signature"),
        (sign_hmac("HS256", &claims, ""), "signature"),
        (sign_hmac("HS256", &claims, SUBSCRIBER), "signature"),
        (format!("{header}.{}.{signature}", tokens::base64url(r#"{"topics":["*"],"exp":99999999999}"#)), "signature"),
        (format!("{message}.{}", &signature[..20]), "signature"),
        (format!("{message}."), "signature"),
        (format!("{header}..{signature}"), "signature"),
        (format!("{message}=.{signature}"), "signature"),
        (sign_raw(HS256, &claims.to_string(), HMAC_SHA512, PUBLISHER), "signature"),
        (sign_raw(r#"{"alg":"HS512"}"#, &claims.to_string(), HMAC_SHA256, PUBLISHER), "signature"),
    ];
    for none in ["none", "None", "NONE", "nOnE"] {
        all.push((unsigned(none) + ".", "never none"));
        all.push((format!("{}.{signature}", unsigned(none)), "never none"));
    }
    for other in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"] {
        let header = json!({ "alg": other }).to_string();
        all.push((sign_raw(&header, &claims.to_string(), HMAC_SHA256, PUBLISHER), "HS256, HS384 or HS512"));
    }
    all
}

/// Correctly signed tokens with invalid claims.
fn tokens_with_invalid_claims() -> Vec<(String, &'static str)> {
    let no_number =
        [json!("9999999999"), json!(9e9), json!(9_999_999_999.5), json!(null), json!(true), json!([9]), json!({})];
    let mut all = vec![
        (sign_hmac("HS256", &json!({"topics": ["topicone1"]}), PUBLISHER), "must have `exp`"),
        // The number of seconds depends on when the request arrives.
        (token_with_claim("exp", json!(now() - 90)), " s ago; get a new one"),
        (token_with_claim("exp", json!(now())), "expired at"),
        (token_with_claim("exp", json!(0)), "01 Jan 1970"),
        (token_with_claim("exp", json!(-1)), "expired at"),
        (token_with_claim("nbf", json!(now() + 90)), "not valid before"),
        (token_with_claim("nbf", json!(u64::MAX)), "not valid before"),
        (token_with_claim("aud", json!("another")), "`aud`"),
        (token_with_claim("aud", json!(["another"])), "`aud`"),
    ];
    for value in no_number {
        all.push((token_with_claim("exp", value.clone()), "`exp`"));
        all.push((token_with_claim("nbf", value), "`nbf`"));
    }
    for value in [json!(5), json!(["topicone1"]), json!(null), json!({"topicone1": 1})] {
        all.push((token_with_claim("sub", value), "`sub`"));
    }
    for value in [json!("topicone1"), json!("*"), json!(["topicone1", 5]), json!(null), json!({"topicone1": 1})] {
        all.push((token_with_claim("topics", value), "`topics`"));
    }
    all
}

#[test]
fn invalid_tokens_are_refused_with_the_reason() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let bad = [malformed_tokens(), forged_tokens(), tokens_with_invalid_claims()].concat();
    for (token, part) in &bad {
        assert_denied(&publish(&broker, &bearer(token)), 401, part);
    }
    // The same token in a query, if it fits there.
    for (token, part) in bad.iter().filter(|(token, _)| token.len() < 2000) {
        let encoded: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = broker.post(&format!("/publish/topicone1?token={encoded}"), "", "data: x");
        assert_denied(&response, 401, part);
    }
    broker.assert_healthy();
    let stats = broker.stats();
    assert_eq!(stats["events_published"], 0);
    assert!(stats["requests_denied"].as_u64() >= Some(bad.len() as u64), "{stats}");
}

#[test]
fn only_a_bad_signature_closes_the_connection() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let mut connection = broker.connect();
    let mut send_request = |query: &str, fields: &str| {
        connection.send(format!("GET /stats{query} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let response = connection.response();
        assert_eq!(response.field("Connection"), None, "{fields}");
        response.status
    };
    assert_eq!(send_request("", ""), 401);
    for (token, _) in
        malformed_tokens().iter().filter(|(token, _)| token.len() < 8000).chain(&tokens_with_invalid_claims())
    {
        assert_eq!(send_request("", &bearer(token)), 401, "{token}");
    }
    assert_eq!(send_request("", &bearer(&tokens::publisher("topicone1"))), 403);
    assert_eq!(send_request("", &bearer(&tokens::publisher("stats"))), 200);

    let forged = sign_hmac("HS256", &tokens::topic_claims("stats", now() + 60), SUBSCRIBER);
    let requests = [
        (String::new(), bearer(&forged)),
        (format!("?token={forged}"), String::new()),
        (String::new(), tokens::cookie(&forged)),
    ];
    for (query, fields) in requests {
        let mut connection = broker.connect();
        // In a pipeline, nothing after the forged token gets a response.
        connection.send(format!("GET /stats{query} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").repeat(3));
        let response = connection.response();
        assert_denied(&response, 401, "signature");
        assert_eq!(response.field("Connection"), Some("close"));
        assert!(connection.is_closed());
    }
    broker.assert_healthy();
}

/// A token may be as long as a head allows; beyond that, the head is refused like any other.
#[test]
fn a_token_may_be_as_large_as_a_head_allows() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let many: Vec<_> = (0..500).map(|number| format!("topic{number:05}")).chain(["topicone1".into()]).collect();
    let token = sign_hmac("HS256", &json!({"exp": now() + 60, "topics": many}), PUBLISHER);
    assert!(token.len() > 8000);
    assert_eq!(publish(&broker, &bearer(&token)).status, 200);
    for token in ["x".repeat(20_000), "x".repeat(1 << 20), "\u{0}".into(), "a\rb".into()] {
        let response = publish(&broker, &bearer(&token));
        assert!([400, 431].contains(&response.status), "{response:?}");
    }
    assert_eq!(broker.get(&format!("/stats?token={}", "x".repeat(9000))).status, 414);
    let twice = bearer(&tokens::publisher("stats")).repeat(2);
    assert_eq!(
        broker.request(format!("GET /stats HTTP/1.1\r\nHost: h\r\n{twice}\r\n")).status,
        400,
        "with two tokens in one query it is unclear which one counts"
    );
    broker.assert_healthy();
}

/// Request lines with a valid or malformed token in the query, each with header fields.
fn requests_with_token(token: &str) -> Vec<(String, &'static str)> {
    vec![
        (format!("POST /publish/topicone1?token={token}"), "Content-Length: 7\r\n"),
        (
            format!("POST /publish/topicone1?event=%FF&token={token}"),
            "Content-Type: text/plain\r\nContent-Length: 7\r\n",
        ),
        (format!("POST /publish/topicone1?token={token}"), "Content-Length: x\r\n"),
        (format!("POST /publish/short?token={token}"), "Content-Length: 7\r\n"),
        (format!("HEAD /subscribe/topicone1?token={token}"), ""),
        (format!("GET /subscribe/topicone1,?token={token}"), ""),
        (format!("GET /stats?token={token}"), ""),
        (format!("GET /nothing?token={token}"), ""),
        (format!("DELETE /stats?token={token}"), ""),
        (format!("BREW /stats?token={token}"), ""),
        (format!("GET /stats?token={token}%zz"), ""),
        (format!("GET /stats?token={token}#"), ""),
        (format!("GET /stats?token={token}\u{e9}"), ""),
        (format!("GET stats?token={token}"), ""),
        (format!("GET /stats?token={token} {token}"), ""),
        (format!("GET /stats?token={token}"), "Host: h\r\n"),
        (format!("GET /stats?token={token}"), "Expect: x\r\n"),
        (format!("GET http://{token}/stats?token={token}"), ""),
    ]
}

/// Logs at the most verbose level, and provokes every kind of response.
#[test]
fn tokens_never_appear_in_logs_or_responses() {
    let environment = [&SECRETS[..], &[("ESKER_LOG", "trace")]].concat();
    let broker = Broker::start_with_tokens(&[], &environment);
    let tokens = [
        tokens::publisher("*"),
        tokens::subscriber("*"),
        tokens::publisher("topictwo2"),
        tokens::subscriber_until("topicone1", now() - 5),
        "s3cretgarbage".to_owned(),
        "s3cret.garbage.%F0%9F%A6%80".to_owned(),
    ];
    // The header is the same for many tokens; the claims and the signature are secret.
    let parts: Vec<_> = tokens.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 5).collect();
    let is_own = |part: &&str| !tokens::base64url(r#"{"alg":"HS256","typ":"JWT"}"#).eq(part);
    let assert_hidden =
        |text: &str| parts.iter().filter(|part| is_own(part)).for_each(|part| assert!(!text.contains(*part), "{text}"));
    for token in &tokens {
        for (line, fields) in requests_with_token(token) {
            let mut connection = broker.connect();
            connection.send(format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\ndata: x"));
            assert_hidden(&String::from_utf8_lossy(&connection.read_to_end()));
        }
    }
    broker.assert_healthy();
    assert_hidden(&broker.stats().to_string());
    broker.signal("TERM");
    let (_, log) = broker.wait();
    let is_logged = |status| log.contains(&format!("{status} to 127.0.0.1: "));
    assert!(is_logged(401) && is_logged(403), "refusals are logged at this level, with the client's address: {log}");
    assert!(log.contains("tokens are refused (first: "), "{log}");
    assert_hidden(&log);
}
