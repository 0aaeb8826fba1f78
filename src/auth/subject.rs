//! Reads a token's `sub` for the access log.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Returns the `sub` of a token whose signature was verified.
pub fn subject_of(token: &[u8]) -> Option<String> {
    let payload = token.split(|&b| b == b'.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_from_the_payload() {
        let token = |claims: &str| format!("eyJ.{}.sig", URL_SAFE_NO_PAD.encode(claims)).into_bytes();
        assert_eq!(subject_of(&token("{\"exp\":1,\"sub\":\"user:1\"}")).as_deref(), Some("user:1"));
        for other in ["{\"exp\":1}", "{\"sub\":1}", "[]", "x"] {
            assert_eq!(subject_of(&token(other)), None, "{other}");
        }
        assert_eq!(subject_of(b"eyJ"), None);
    }
}
