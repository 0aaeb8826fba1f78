//! JWK Sets as key files: `kid` chooses the key, keys that are not for tokens are ignored, and invalid sets are refused with a
//! reason.

use serde_json::{Value, json};

use super::support::openssl::KeyPair;
use super::support::tokens::{self, SECRETS, assert_denied, bearer, now};
use super::support::{Broker, Response, TempDir, run};

fn claims() -> Value {
    tokens::topic_claims("topicone1", now() + 600)
}

/// Starts a broker that verifies subscribers' tokens with this set.
fn start(set: &Value) -> (Broker, TempDir) {
    let home = TempDir::new();
    let path = home.path.join("jwks.json");
    std::fs::write(&path, set.to_string()).expect("a file can be written");
    let environment = [SECRETS[0], ("ESKER_LOG", "debug")];
    (Broker::start_with_tokens(&["--subscriber-key", &path.display().to_string()], &environment), home)
}

fn try_subscribe(broker: &Broker, token: &str) -> Response {
    tokens::try_subscribe(broker, "/subscribe/topicone1", &bearer(token))
}

/// Returns the key with these members added or replaced.
fn with(mut key: Value, members: &Value) -> Value {
    key.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    key
}

#[test]
fn the_kid_chooses_among_keys_of_all_kinds() {
    let kinds = [
        (KeyPair::rsa(2048), "rsa", &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        (KeyPair::ec("P-256"), "p256", &["ES256"]),
        (KeyPair::ec("P-384"), "p384", &["ES384"]),
        (KeyPair::ed25519(), "ed", &["EdDSA"]),
    ];
    let keys: Vec<_> = kinds.iter().map(|(pair, kid, _)| pair.jwk(kid)).collect();
    let (broker, _home) = start(&json!({ "keys": keys }));
    for (pair, kid, algorithms) in &kinds {
        for algorithm in *algorithms {
            assert_eq!(try_subscribe(&broker, &pair.sign_as(kid, algorithm, &claims())).status, 200, "{algorithm}");
            assert_eq!(try_subscribe(&broker, &pair.sign(algorithm, &claims())).status, 200, "{algorithm}, no kid");
        }
        let (_, other, _) = kinds.iter().find(|(_, other, _)| other != kid).expect("there are several");
        let wrong = try_subscribe(&broker, &pair.sign_as(other, algorithms[0], &claims()));
        assert_denied(&wrong, 401, "the token's `alg` does not match the subscriber key; sign with");
        let unknown = try_subscribe(&broker, &pair.sign_as("s3cret", algorithms[0], &claims()));
        assert_denied(&unknown, 401, "send the broker SIGHUP");
        assert_eq!(unknown.field("Connection"), None, "no signature was verified");
        assert!(!unknown.json().to_string().contains("s3cret"));
    }
    let (pair, _, _) = &kinds[3];
    for (kid, status) in [(json!("ed\0"), 401), (json!(5), 401), (json!(["ed"]), 401), (json!(null), 200)] {
        let token = pair.sign_with_header(&json!({"alg": "EdDSA", "kid": kid}), &claims());
        assert_eq!(try_subscribe(&broker, &token).status, status, "{kid}");
    }
    broker.assert_healthy();
}

#[test]
fn a_forged_token_closes_the_connection() {
    let [first, second] = [KeyPair::ed25519(), KeyPair::ed25519()];
    let (broker, _home) = start(&json!({"keys": [first.jwk("1"), second.jwk("2")]}));
    let forger = KeyPair::ed25519();
    for token in [
        forger.sign_as("1", "EdDSA", &claims()),
        forger.sign("EdDSA", &claims()),
        second.sign_as("1", "EdDSA", &claims()),
    ] {
        let response = try_subscribe(&broker, &token);
        assert_denied(&response, 401, "signature");
        assert_eq!(response.field("Connection"), Some("close"));
    }
    broker.assert_healthy();
}

/// As in the sets of Keycloak, which has a key for encryption, and of Microsoft, which adds certificates.
#[test]
fn keys_that_are_not_for_tokens_are_ignored() {
    let [signing, other, weak] = [KeyPair::rsa(2048), KeyPair::rsa(2048), KeyPair::rsa(1024)];
    let set = json!({"keys": [
        with(other.jwk("enc"), &json!({"use": "enc", "alg": "RSA-OAEP", "x5c": ["MIIC"], "x5t": "x"})),
        with(weak.jwk("weak"), &json!({"use": "sig"})),
        with(signing.jwk("sig"), &json!({"use": "sig", "alg": "RS256", "x5c": ["A".repeat(20_000)]})),
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "pq"},
    ]});
    let (broker, _home) = start(&set);
    let denied = |pair: &KeyPair, kid: &str, algorithm: &str, part: &str| {
        assert_denied(&try_subscribe(&broker, &pair.sign_as(kid, algorithm, &claims())), 401, part);
    };
    assert_eq!(try_subscribe(&broker, &signing.sign_as("sig", "RS256", &claims())).status, 200);
    denied(&signing, "sig", "PS256", "sign with RS256");
    denied(&other, "enc", "RS256", "`kid`");
    denied(&weak, "weak", "RS256", "`kid`");
    broker.signal("HUP");
    for part in
        ["key 1 of the set is not for signatures", "key 2 of the set is an RSA key with less than 2048", "key 4"]
    {
        let line = broker.wait_for_log(part);
        assert_eq!(line.contains("WARN"), part.contains("RSA"), "{line}");
    }
}

#[test]
fn a_key_may_be_without_a_set_and_without_a_kid() {
    let pair = KeyPair::ec("P-256");
    let mut key = pair.jwk("");
    key.as_object_mut().expect("an object").remove("kid");
    for set in [key.clone(), json!({ "keys": [key] })] {
        let (broker, _home) = start(&set);
        for token in [pair.sign("ES256", &claims()), pair.sign_as("any", "ES256", &claims())] {
            assert_eq!(try_subscribe(&broker, &token).status, 200);
        }
    }
}

#[test]
fn invalid_sets_are_refused_at_startup() {
    let pair = KeyPair::ed25519();
    let key = pair.jwk("1");
    let private = with(key.clone(), &json!({"d": "AAAA"}));
    let many = vec![key.clone(); 33];
    let padded = with(key.clone(), &json!({"x5c": ["A".repeat(200_000)]}));
    for (content, part) in [
        ("{".to_owned(), "invalid or incomplete"),
        (json!({"keys": [key]}).to_string().replace('}', ""), "invalid or incomplete"),
        ("{}".into(), "has no key"),
        (json!({"keys": []}).to_string(), "has no key"),
        (json!({"keys": {"1": key}}).to_string(), "has no key"),
        (json!({"issuer": "https://i", "jwks_uri": "https://i/jwks"}).to_string(), "jwks_uri"),
        (json!({"keys": [key, private]}).to_string(), "private key (`d`)"),
        (json!({"keys": [key, {"kty": "oct", "k": "s3cret"}]}).to_string(), "symmetric key (`oct`)"),
        (
            json!({"keys": [with(key.clone(), &json!({"use": "enc"}))]}).to_string(),
            "its first key is not for signatures",
        ),
        (json!({"keys": [with(key.clone(), &json!({"crv": "Ed448"}))]}).to_string(), "an unsupported curve"),
        (json!({"keys": [KeyPair::rsa(1024).jwk("1")]}).to_string(), "less than 2048"),
        (json!({ "keys": many }).to_string(), "33 keys"),
        (json!({"keys": [padded]}).to_string(), "longer than 128 KiB"),
        (json!([key]).to_string(), "not a JWK Set"),
    ] {
        let home = TempDir::new();
        let path = home.path.join("jwks.json").display().to_string();
        std::fs::write(&path, &content).expect("a file can be written");
        let (code, out, err) = run(&["--port", "0", "--subscriber-key", &path], &SECRETS[..1]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{part}: {err}");
        assert!([part, "the subscriber key file", &path].iter().all(|part| err.contains(part)), "{part}: {err}");
        assert!(!err.contains("s3cret"), "{err}");
    }
}
