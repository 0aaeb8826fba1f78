//! Makes tokens for the soak.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// The environment variables with both secrets.
pub const SECRETS: [(&str, &str); 2] = [("ESKER_PUBLISHER_SECRET", PUBLISHER), ("ESKER_SUBSCRIBER_SECRET", SUBSCRIBER)];
/// A time far in the future, however the clock is set.
pub const FAR: u64 = 1 << 40;

const PUBLISHER: &str = "a publisher's secret that only the soak uses";
const SUBSCRIBER: &str = "a subscriber's secret that only the soak uses";

/// Returns a publisher's token for every topic.
pub fn publisher() -> String {
    signed(FAR, "*", PUBLISHER)
}

/// Returns a subscriber's token for one entry of `topics`, until this second.
pub fn subscriber(expires: u64, entry: &str) -> String {
    signed(expires, entry, SUBSCRIBER)
}

/// Returns a token that is signed with the wrong secret.
pub fn forged() -> String {
    signed(FAR, "*", "a secret that the broker does not know")
}

fn signed(expires: u64, entry: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{expires},"topics":["{entry}"]}}"#));
    let message = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}
