//! Tokens of the tests' own making, without the library that reads them in the broker, so that they can be as wrong
//! as need be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::{Broker, Response};

/// The secret of publishers' tokens.
pub const PUBLISHER: &str = "the publisher's secret, of 32 bytes or more";
/// The secret of subscribers' tokens.
pub const SUBSCRIBER: &str = "the subscriber's secret, of 32 bytes or more";
/// The environment of a broker that knows both.
pub const SECRETS: [(&str, &str); 2] = [("ESKER_PUBLISHER_SECRET", PUBLISHER), ("ESKER_SUBSCRIBER_SECRET", SUBSCRIBER)];

/// The time as tokens have it.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

/// A publisher's token for one entry of `topics`, good for longer than any test.
pub fn publisher(entry: &str) -> String {
    hs("HS256", &allowing(entry, now() + 3600), PUBLISHER)
}

/// The same for a subscriber.
pub fn subscriber(entry: &str) -> String {
    subscriber_until(entry, now() + 3600)
}

/// A subscriber's token that expires then.
pub fn subscriber_until(entry: &str, expires: u64) -> String {
    hs("HS256", &allowing(entry, expires), SUBSCRIBER)
}

/// Claims with one entry of `topics`.
pub fn allowing(entry: &str, expires: u64) -> Value {
    json!({"exp": expires, "topics": [entry]})
}

/// Signs claims with HS256, HS384 or HS512.
pub fn hs(algorithm: &str, claims: &Value, secret: impl AsRef<[u8]>) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
    signed(&header, &claims.to_string(), hash(algorithm), secret)
}

/// Signs whatever texts are to stand in the header's and the claims' place.
pub fn signed(header: &str, claims: &str, hash: hmac::Algorithm, secret: impl AsRef<[u8]>) -> String {
    let message = message(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hash, secret.as_ref()), message.as_bytes());
    joined(&message, tag.as_ref())
}

fn hash(algorithm: &str) -> hmac::Algorithm {
    match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        other => panic!("{other} is no HMAC"),
    }
}

/// What is signed.
pub fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header), base64url(claims))
}

/// A token of what was signed and its signature.
pub fn joined(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", base64url(signature))
}

/// What a token says, unverified.
pub fn claims_of(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a token has claims")).expect("base64url");
    serde_json::from_slice(&claims).expect("claims are JSON")
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The field that shows a token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The field with a token among other cookies.
pub fn cookie(token: &str) -> String {
    format!("Cookie: theme=dark; esker_token={token}; lang=de\r\n")
}

/// Asks for a stream with these fields, and leaves at once: its head, or the whole refusal.
pub fn knock(broker: &Broker, target: &str, fields: &str) -> Response {
    let mut connection = broker.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let head = Response::without_body(connection.head());
    match head.field("Content-Length").map(str::parse) {
        Some(length) => Response { body: connection.take(length.expect("a length is a number")), ..head },
        None => head,
    }
}

/// Demands that this moment is in the second in which a token expires, or at most half a second after it.
pub fn assert_in_time(expires: u64, moment: SystemTime) {
    let late = moment.duration_since(UNIX_EPOCH + Duration::from_secs(expires)).expect("not before its time");
    assert!(late < Duration::from_millis(1500), "{late:?} late");
}

/// Demands 401 or 403 by the book, with a detail that has this part.
pub fn assert_denied(response: &Response, status: u16, part: &str) {
    assert_eq!(response.status, status, "{part}: {response:?}");
    let challenge = response.field("WWW-Authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains(part), "{part} is not in {detail:?}");
}
