//! Makes tokens as an application would: HMAC over JSON. Independent of the broker's code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

pub const PUBLISHER: &[u8] = b"secret-of-publishers-0123456789abcdef";
pub const SUBSCRIBER: &[u8] = b"secret-of-subscribers-0123456789abcd";

/// Returns a header field with a token for every topic.
pub fn field(secret: &[u8], expires: u64) -> String {
    field_with(secret, &format!("\"exp\":{expires}"))
}

/// Returns a header field with a token for every topic, which can be revoked by this `jti`.
pub fn field_with_id(secret: &[u8], expires: u64, id: usize) -> String {
    field_with(secret, &format!("\"exp\":{expires},\"jti\":\"{id}\""))
}

fn field_with(secret: &[u8], claims: &str) -> String {
    let claims = format!("{{{claims},\"topics\":[\"*\"]}}");
    let text = format!("{}.{}", BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#), BASE64.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("Authorization: Bearer {text}.{}\r\n", BASE64.encode(tag))
}
