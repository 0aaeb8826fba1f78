//! Makes tokens without the library that the broker parses them with, so that they can be invalid in every way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::{Broker, Response};

/// The secret for publishers' tokens.
pub const PUBLISHER: &str = "the publisher's secret, of 32 bytes or more";
/// The secret for subscribers' tokens.
pub const SUBSCRIBER: &str = "the subscriber's secret, of 32 bytes or more";
/// The environment of a broker with both secrets.
pub const SECRETS: [(&str, &str); 2] = [("ESKER_PUBLISHER_SECRET", PUBLISHER), ("ESKER_SUBSCRIBER_SECRET", SUBSCRIBER)];

/// Returns the current time in seconds, as in tokens.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

/// Returns a publisher's token for one entry of `topics`, valid for longer than any test.
pub fn publisher(entry: &str) -> String {
    sign_hmac("HS256", &topic_claims(entry, now() + 3600), PUBLISHER)
}

/// Returns a subscriber's token for one entry of `topics`, valid for longer than any test.
pub fn subscriber(entry: &str) -> String {
    subscriber_until(entry, now() + 3600)
}

/// Returns a subscriber's token that expires at this time.
pub fn subscriber_until(entry: &str, expires: u64) -> String {
    sign_hmac("HS256", &topic_claims(entry, expires), SUBSCRIBER)
}

/// Returns claims with one entry of `topics`.
pub fn topic_claims(entry: &str, expires: u64) -> Value {
    json!({"exp": expires, "topics": [entry]})
}

/// Signs claims with HS256, HS384 or HS512.
pub fn sign_hmac(algorithm: &str, claims: &Value, secret: impl AsRef<[u8]>) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
    sign_raw(&header, &claims.to_string(), hash(algorithm), secret)
}

/// Signs arbitrary texts in place of the header and the claims.
pub fn sign_raw(header: &str, claims: &str, hash: hmac::Algorithm, secret: impl AsRef<[u8]>) -> String {
    let message = message(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hash, secret.as_ref()), message.as_bytes());
    join(&message, tag.as_ref())
}

fn hash(algorithm: &str) -> hmac::Algorithm {
    match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        other => panic!("{other} is not an HMAC algorithm"),
    }
}

/// Returns the part of a token that is signed.
pub fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header), base64url(claims))
}

/// Joins the signed part and its signature to a token.
pub fn join(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", base64url(signature))
}

/// Decodes a token's claims without verifying them.
pub fn decode_claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a token has claims")).expect("base64url");
    serde_json::from_slice(&claims).expect("claims are JSON")
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the Authorization field with a token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Returns the Cookie field with a token among other cookies.
pub fn cookie(token: &str) -> String {
    format!("Cookie: theme=dark; esker_token={token}; lang=de\r\n")
}

/// Requests a stream with these fields and disconnects. Returns the response: only the head of a stream, or the whole error.
pub fn try_subscribe(broker: &Broker, target: &str, fields: &str) -> Response {
    let mut connection = broker.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let head = Response::without_body(connection.head());
    match head.field("Content-Length").map(str::parse) {
        Some(length) => Response { body: connection.take(length.expect("a length is a number")), ..head },
        None => head,
    }
}

/// Asserts that a token has expired by this moment, at most a second and a half ago.
pub fn assert_in_time(expires: u64, moment: SystemTime) {
    let late = moment.duration_since(UNIX_EPOCH + Duration::from_secs(expires)).expect("not before its time");
    assert!(late < Duration::from_millis(1500), "{late:?} late");
}

/// Asserts a 401 or 403 response with all its fields, and a detail that contains this part.
pub fn assert_denied(response: &Response, status: u16, part: &str) {
    assert_eq!(response.status, status, "{part}: {response:?}");
    let challenge = response.field("WWW-Authenticate").expect("a challenge");
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains(part), "{part} is not in {detail:?}");
}
