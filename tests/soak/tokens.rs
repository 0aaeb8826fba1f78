//! Tokens of the soak's own making.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// The environment of a broker that knows both secrets.
pub const SECRETS: [(&str, &str); 2] = [("ESKER_PUBLISHER_SECRET", PUBLISHER), ("ESKER_SUBSCRIBER_SECRET", SUBSCRIBER)];
/// A second in which no soak runs any more, whatever it does to the clock.
pub const FAR: u64 = 1 << 40;

const PUBLISHER: &str = "the publisher's secret of a soak, which is nobody's";
const SUBSCRIBER: &str = "the subscriber's secret of a soak, nobody's as well";

/// For everything.
pub fn publisher() -> String {
    signed(FAR, "*", PUBLISHER)
}

/// For one entry of `topics`, until this second.
pub fn subscriber(expires: u64, entry: &str) -> String {
    signed(expires, entry, SUBSCRIBER)
}

/// One that is signed with the wrong secret.
pub fn forged() -> String {
    signed(FAR, "*", "a secret that no broker knows of, long enough")
}

fn signed(expires: u64, entry: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{expires},"topics":["{entry}"]}}"#));
    let message = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}
