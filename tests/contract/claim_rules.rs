//! Which claims tokens must have, as far as options decide: `--leeway`, `--audience`, `--issuer` and `--topics-claim`.

use serde_json::{Value, json};

use super::support::tokens::{self, SECRETS, SUBSCRIBER, assert_denied, bearer, now, sign_hmac};
use super::support::{Broker, Response, run};

/// Subscribes with a token that has these claims in addition to `exp`.
fn subscribe_with(broker: &Broker, claims: &Value) -> Response {
    let mut all = json!({"exp": now() + 60});
    all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
    tokens::try_subscribe(broker, "/subscribe/topicone1", &bearer(&sign_hmac("HS256", &all, SUBSCRIBER)))
}

#[test]
fn a_token_may_come_a_little_before_its_time() {
    for (arguments, leeway) in [(&[][..], 5), (&["--leeway", "2m"], 120), (&["--leeway", "0s"], 0)] {
        let broker = Broker::start_with_tokens(arguments, &SECRETS);
        let with = |name: &str, time: u64| subscribe_with(&broker, &json!({"sub": "topicone1", name: time}));
        assert_eq!(with("nbf", now() + leeway).status, 200, "{leeway}");
        assert_denied(&with("nbf", now() + leeway + 60), 401, "not valid before");
        assert_denied(&with("exp", now()), 401, "expired at");
    }
}

#[test]
fn the_audience_and_the_issuer_are_checked() {
    let environment = [&SECRETS[..], &[("ESKER_AUDIENCE", "https://events.example.com")]].concat();
    let broker = Broker::start_with_tokens(&["--issuer", "https://id.example.com/"], &environment);
    let with = |aud: Value, iss: Value| subscribe_with(&broker, &json!({"sub": "topicone1", "aud": aud, "iss": iss}));
    let (ours, issuer) = (json!("https://events.example.com"), json!("https://id.example.com/"));
    assert_eq!(with(ours.clone(), issuer.clone()).status, 200);
    assert_eq!(with(json!(["https://id.example.com/userinfo", ours]), issuer.clone()).status, 200);
    assert_eq!(subscribe_with(&broker, &json!({"sub": "topicone1", "iss": issuer})).status, 200, "no audience");
    assert_denied(&with(json!("esker"), issuer), 401, "\"https://events.example.com\"");
    for other in [
        json!("https://id.example.com"),
        json!("https://ID.example.com/"),
        json!(""),
        json!(["https://id.example.com/"]),
    ] {
        assert_denied(&with(ours.clone(), other), 401, "another issuer; get a token from \"https://id.example.com/\"");
    }
    let without = subscribe_with(&broker, &json!({"sub": "topicone1"}));
    assert_denied(&without, 401, "the token has no `iss`, which must be \"https://id.example.com/\"");
    assert_eq!(without.field("Connection"), None);
}

#[test]
fn topics_may_be_in_a_claim_of_another_name() {
    for claim in ["cognito:groups", "https://example.com/topics", "realm.roles", "topics"] {
        let broker = Broker::start_with_tokens(&["--topics-claim", claim], &SECRETS);
        assert_eq!(subscribe_with(&broker, &json!({claim: ["offline_access", "topicone1"]})).status, 200, "{claim}");
        assert_eq!(subscribe_with(&broker, &json!({claim: ["topic*"]})).status, 200, "{claim}");
        assert_denied(&subscribe_with(&broker, &json!({claim: ["topictwo2"]})), 403, "list of topics");
        let nested = json!({"cognito": {"groups": ["*"]}, "realm": {"roles": ["*"]}, "other": ["*"]});
        assert_denied(&subscribe_with(&broker, &nested), 403, "topicone1");
        for wrong in [json!("topicone1"), json!(["topicone1", 5]), json!({"topicone1": true}), json!(null)] {
            assert_denied(&subscribe_with(&broker, &json!({ claim: wrong })), 401, &format!("`{claim}`"));
        }
    }
    let broker = Broker::start_with_tokens(&["--topics-claim", "groups"], &SECRETS);
    assert_denied(&subscribe_with(&broker, &json!({"topics": ["*"]})), 403, "topicone1");
    assert_eq!(subscribe_with(&broker, &json!({"topics": 5, "groups": ["*"]})).status, 200);
}

#[test]
fn invalid_rules_are_wrong_usage() {
    for (option, value, part) in [
        ("--leeway", "11m", "--leeway must be at most 10m"),
        ("--leeway", "5", "such as 15s"),
        ("--audience", "", "--audience must not be empty"),
        ("--issuer", "", "--issuer must not be empty"),
        ("--topics-claim", "", "--topics-claim must not be empty"),
        ("--topics-claim", "sub", "--topics-claim can't be \"sub\""),
    ] {
        let (code, _, err) = run(&["--port", "0", option, value], &SECRETS);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(part), "{err}");
    }
}
