//! Creates tokens, for operators and for first experiments. Backends sign their own.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{Secret, crypto};

/// Creates a token for `names`, signed with HS256, that expires at `expires`, in seconds since the Unix epoch. A single name
/// that is not a prefix becomes `sub`; otherwise all names become `topics`.
pub fn mint(secret: &Secret, names: &[String], expires: u64) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    let claims = match names {
        [name] if !name.ends_with('*') => json!({"sub": name, "exp": expires}),
        names => json!({"topics": names, "exp": expires}),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.bytes()))
}
