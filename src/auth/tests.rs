//! Tests of authentication as a whole: valid, altered and forged tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_000_000;
const PUBLISHER: &[u8] = b"the publisher's secret, of 32 bytes or more";
const SUBSCRIBER: &[u8] = b"the subscriber's secret, of 32 bytes or more";

fn keyring(secret: &[u8]) -> Keyring {
    Key::from_secret(&Secret::new(secret).unwrap()).into()
}

fn keyrings() -> Keyrings {
    match Auth::tokens(keyring(PUBLISHER), keyring(SUBSCRIBER), ClaimRules::default()) {
        Auth::Tokens(keyrings) => keyrings,
        Auth::Open => panic!("these are keys"),
    }
}

fn sign(header: &Header, claims: &Value, secret: &[u8]) -> String {
    crypto::install();
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn authorize(keyrings: &Keyrings, role: Role, token: &[u8], now: u64) -> Result<Grant, AuthError> {
    let mut cache = TokenCache::default();
    let first = look_up_or_verify(keyrings, role, token, now, &mut cache);
    let second = look_up_or_verify(keyrings, role, token, now, &mut cache);
    assert_eq!(first, second, "a cached token gives the same result");
    first
}

fn look_up_or_verify(
    keyrings: &Keyrings,
    role: Role,
    token: &[u8],
    now: u64,
    cache: &mut TokenCache,
) -> Result<Grant, AuthError> {
    keyrings.look_up(role, token, now, cache).unwrap_or_else(|| keyrings.verify(role, token, now, cache))
}

fn good_claims() -> Value {
    json!({"exp": NOW + 10, "sub": "greeting1"})
}

#[test]
fn all_hmac_algorithms_are_accepted_with_the_roles_own_key() {
    let keyrings = keyrings();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = sign(&Header::new(algorithm), &good_claims(), PUBLISHER);
        let grant = authorize(&keyrings, Role::Publisher, token.as_bytes(), NOW).unwrap();
        assert!(grant.allows_topic("greeting1") && !grant.allows_topic("greeting2"));
        let error = authorize(&keyrings, Role::Subscriber, token.as_bytes(), NOW).unwrap_err();
        assert_eq!(error, AuthError::Signature(Role::Subscriber));
    }
}

#[test]
fn a_minted_token_is_accepted_until_it_expires() {
    let (keyrings, secret) = (keyrings(), Secret::new(SUBSCRIBER).unwrap());
    for (names, allowed, other) in [
        (vec!["greeting1".to_owned()], "greeting1", "greeting2"),
        (vec!["news*".into(), "events".into()], "newspaper1", "greeting2"),
        (vec!["*".into()], "greeting1", "\u{0}"),
    ] {
        let token = mint(&secret, &names, NOW, NOW + 1, &ClaimRules::default()).unwrap();
        let grant = authorize(&keyrings, Role::Subscriber, token.as_bytes(), NOW).unwrap();
        assert!(grant.allows_topic(allowed) && (names == ["*"] || !grant.allows_topic(other)));
        let error = authorize(&keyrings, Role::Subscriber, token.as_bytes(), NOW + 1).unwrap_err();
        assert_eq!(error, AuthError::Expired { at: NOW + 1, now: NOW + 1 });
    }
}

#[test]
fn tokens_of_the_previous_key_are_accepted_and_those_of_a_removed_key_are_not() {
    let (keyrings, next) = (keyrings(), b"the next secret, of 32 bytes or more");
    let old = sign(&Header::default(), &good_claims(), PUBLISHER);
    let new = sign(&Header::default(), &good_claims(), next);
    let mut cache = TokenCache::default();
    let mut authorize =
        |token: &str| look_up_or_verify(&keyrings, Role::Publisher, token.as_bytes(), NOW, &mut cache).map(|_| ());
    assert_eq!((authorize(&old), authorize(&new)), (Ok(()), Err(AuthError::Signature(Role::Publisher))));
    let both = Keyring { previous: vec![keyring(PUBLISHER).current], ..keyring(next) };
    keyrings.replace(Role::Publisher, both);
    assert_eq!((authorize(&old), authorize(&new)), (Ok(()), Ok(())));
    keyrings.replace(Role::Publisher, keyring(next));
    assert_eq!((authorize(&old), authorize(&new)), (Err(AuthError::Signature(Role::Publisher)), Ok(())));
}

#[test]
fn errors_in_a_token_of_the_previous_key_are_reported() {
    let (keyrings, next) = (keyrings(), b"the next secret, of 32 bytes or more");
    keyrings.replace(Role::Publisher, Keyring { previous: vec![keyring(PUBLISHER).current], ..keyring(next) });
    let authorize = |token: String| authorize(&keyrings, Role::Publisher, token.as_bytes(), NOW).unwrap_err();
    assert_eq!(authorize(sign(&Header::default(), &json!(["exp"]), PUBLISHER)), AuthError::Claims);
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::default() };
    assert_eq!(authorize(sign(&header, &good_claims(), PUBLISHER)), AuthError::Critical);
    assert_eq!(authorize(sign(&Header::default(), &good_claims(), SUBSCRIBER)), AuthError::Signature(Role::Publisher));
}

#[test]
fn critical_extensions_are_refused() {
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::default() };
    let token = sign(&header, &good_claims(), PUBLISHER);
    assert_eq!(authorize(&keyrings(), Role::Publisher, token.as_bytes(), NOW), Err(AuthError::Critical));
}

#[test]
fn a_repeated_claim_is_refused() {
    for claims in [
        r#"{"exp":1000010,"topics":["greeting1"],"topics":["*"]}"#,
        r#"{"exp":1000010,"exp":1000020,"sub":"greeting1"}"#,
        r#"{"exp":1000010,"sub":["greeting1"]}"#,
        r#"{"exp":[1000010],"sub":"greeting1"}"#,
        r#"["exp"]"#,
    ] {
        let parts = [r#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = parts.join(".");
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, PUBLISHER);
        let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes()));
        let token = format!("{signed}.{signature}");
        assert_eq!(authorize(&keyrings(), Role::Publisher, token.as_bytes(), NOW), Err(AuthError::Claims), "{claims}");
    }
}

#[test]
fn a_key_in_the_header_is_ignored() {
    // The secret that signs the token, in base64url.
    let key = "dGhlIGZvcmdlcidzIHNlY3JldCwgb2YgMzIgYnl0ZXMgb3IgbW9yZQ";
    let jwk = serde_json::from_value(json!({"kty": "oct", "k": key, "alg": "HS256"})).unwrap();
    let header = Header { jwk: Some(jwk), kid: Some("/dev/null".into()), ..Header::default() };
    let token = sign(&header, &good_claims(), b"the forger's secret, of 32 bytes or more");
    let error = authorize(&keyrings(), Role::Publisher, token.as_bytes(), NOW).unwrap_err();
    assert_eq!(error, AuthError::Signature(Role::Publisher));
}

#[test]
fn files_without_a_public_key_have_distinct_errors() {
    let error = |text: &str| Key::from_pem(text.as_bytes()).err();
    assert_eq!(error(""), Some(KeyError::NoPem));
    assert_eq!(error("a secret in the wrong place"), Some(KeyError::NoPem));
    assert_eq!(error("-----BEGIN PRIVATE KEY-----\n"), Some(KeyError::Private));
    assert_eq!(error("-----BEGIN EC PRIVATE KEY-----\n"), Some(KeyError::Private));
    assert_eq!(error("-----BEGIN CERTIFICATE-----\n"), Some(KeyError::Certificate));
    let two = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".repeat(2);
    assert_eq!(error(&two), Some(KeyError::Several));
    let after_parameters =
        "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n".to_owned() + &two[..two.len() / 2];
    assert_eq!(error(&after_parameters), Some(KeyError::Unsupported), "one key, but not a valid one");
    assert_eq!(Secret::new(two), Err(KeyError::PemSecret));
    assert_eq!(error("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), Some(KeyError::Unsupported));
}

/// A truncated key would reject every token without a hint at the cause.
#[test]
fn an_ed25519_key_must_have_32_bytes() {
    let key = |len: u8| {
        let algorithm = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
        let point = [&[3, len + 1, 0][..], &vec![7; len.into()]].concat();
        let der = [&[0x30, 10 + len][..], &algorithm, &point].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        Key::from_pem(pem.as_bytes()).err()
    };
    assert_eq!(key(32), None);
    for len in [0, 31, 33] {
        assert_eq!(key(len), Some(KeyError::Unsupported), "{len}");
    }
}

proptest! {
    #[test]
    fn a_token_with_any_byte_altered_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let token = sign(&Header::default(), &good_claims(), PUBLISHER).into_bytes();
        let mut altered = token.clone();
        altered[at.index(token.len())] = byte;
        let result = authorize(&keyrings(), Role::Publisher, &altered, NOW);
        prop_assert_eq!(result.is_ok(), altered == token);
    }

    /// Claims of any type are accepted or refused with a message; nothing panics.
    #[test]
    fn any_signed_claims_are_evaluated(exp in any::<f64>(), text in ".{0,20}", number in any::<i64>()) {
        for value in [json!(exp), json!(text), json!(number), json!([number]), json!({text: exp})] {
            for claims in [
                json!({ "exp": value }),
                json!({"exp": NOW + 10, "nbf": value, "sub": value, "topics": [value]}),
                json!({"exp": NOW + 10, "aud": value, "topics": value}),
                value.clone(),
            ] {
                let token = sign(&Header::default(), &claims, PUBLISHER);
                if let Err(error) = authorize(&keyrings(), Role::Publisher, token.as_bytes(), NOW) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), dots in "[A-Za-z0-9_.=-]{0,200}") {
        for token in [bytes.as_slice(), dots.as_bytes()] {
            prop_assert!(authorize(&keyrings(), Role::Publisher, token, NOW).is_err());
        }
    }
}

#[test]
fn tokens_with_a_valid_signature_are_cached_and_forgeries_are_not() {
    let keyrings = keyrings();
    let is_cached = |token: &str| {
        let mut cache = TokenCache::default();
        let _ = keyrings.verify(Role::Publisher, token.as_bytes(), NOW, &mut cache);
        keyrings.look_up(Role::Publisher, token.as_bytes(), NOW, &mut cache).is_some()
    };
    let validly_signed = [
        good_claims(),
        json!({"exp": 0}),
        json!({"exp": NOW + 9, "nbf": NOW + 6}),
        json!({"exp": NOW + 9, "aud": "x"}),
        json!({"exp": "x"}),
        json!(5),
    ];
    for claims in validly_signed {
        assert!(is_cached(&sign(&Header::default(), &claims, PUBLISHER)), "{claims}");
        assert!(!is_cached(&sign(&Header::default(), &claims, SUBSCRIBER)), "{claims}");
    }
    for token in ["", "x", "a.b.c"] {
        assert!(!is_cached(token), "{token}");
    }
}
