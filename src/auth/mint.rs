//! Making tokens, for operators and for trying things out. Backends sign their own.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{Secret, crypto};

/// A token (HS256) for these names until a second since the Unix epoch. One name that is no prefix
/// becomes `sub`, any others `topics`.
pub fn mint(secret: &Secret, names: &[String], expires: u64) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    let claims = match names {
        [name] if !name.ends_with('*') => json!({"sub": name, "exp": expires}),
        names => json!({"topics": names, "exp": expires}),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.bytes()))
}
