//! Creates tokens, for operators and for first experiments. Backends sign their own.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{ClaimRules, Secret, crypto};

/// Creates a token for `names`, signed with HS256, that is issued at `issued` and expires at `expires`, in seconds since the Unix
/// epoch. A single name that is not a prefix becomes `sub`; otherwise all names become the claim that lists topics by these
/// rules.
pub fn mint(
    secret: &Secret,
    names: &[String],
    issued: u64,
    expires: u64,
    rules: &ClaimRules,
) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    let mut claims = match names {
        [name] if !name.ends_with('*') => json!({"sub": name, "iat": issued, "exp": expires}),
        names => json!({&*rules.topics_claim: names, "iat": issued, "exp": expires}),
    };
    if let Some(issuer) = &rules.issuer {
        claims["iss"] = json!(**issuer);
    }
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.bytes()))
}
