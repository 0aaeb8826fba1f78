//! Keys: an HMAC secret or a public key, checked once when it is loaded. A key accepts only its own family of algorithms
//! (RFC 8725 section 3.1), so that a public key is never used as an HMAC secret.

use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use serde_json::value::RawValue;
use simple_asn1::ASN1Block;

use super::{AuthError, KeyError, Role, jwk};

/// The minimum length of a secret in bytes: the size of the output of SHA-256 (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;
/// The minimum size of an RSA modulus in bits (RFC 7518 section 3.3).
pub(super) const MIN_RSA_BITS: u64 = 2048;
/// The maximum size of an RSA modulus in bits, which is ring's limit.
pub(super) const MAX_RSA_BITS: u64 = 8192;
/// The length of an uncompressed point on the curve P-256, in bytes.
const P256_POINT: usize = 65;
/// The length of an uncompressed point on the curve P-384, in bytes.
const P384_POINT: usize = 97;
/// The length of a point on the curve Ed25519, in bytes.
const ED25519_POINT: usize = 32;
/// The beginning of each PEM block (RFC 7468).
const PEM_BEGIN: &str = "-----BEGIN ";
/// The end of the first and the last line of a public key in PEM.
const PUBLIC_KEY: &str = "PUBLIC KEY-----";

/// An HMAC secret of sufficient length. Its `Debug` output does not reveal it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Creates a secret from at least [`MIN_SECRET`] bytes. A key in PEM or JSON is an error, because it may be public.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if contains(&bytes, PEM_BEGIN) {
            return Err(KeyError::PemSecret);
        }
        if jwk::is_jwk(&bytes) {
            return Err(KeyError::JwkSecret);
        }
        if bytes.len() < MIN_SECRET {
            return Err(KeyError::Short(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A key and the algorithms that it verifies.
pub struct Key {
    decoding: DecodingKey,
    validation: Validation,
    /// The names of the algorithms, for messages.
    accepted: &'static str,
    /// The name of the key in its JWK Set (`kid`).
    id: Option<Box<str>>,
}

impl Key {
    /// Creates a key that verifies HMAC signatures.
    pub fn from_secret(secret: &Secret) -> Self {
        let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        Self::new(DecodingKey::from_secret(secret.bytes()), &algorithms, "HS256, HS384 or HS512")
    }

    /// Parses a public key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        // Other blocks, such as EC parameters, may precede the key. Each key has a first and a last line.
        let lines = pem.windows(PUBLIC_KEY.len()).filter(|window| *window == PUBLIC_KEY.as_bytes()).count();
        match lines / 2 {
            _ if contains(pem, "PRIVATE KEY-----") => Err(KeyError::Private),
            _ if contains(pem, "-----BEGIN CERTIFICATE-----") => Err(KeyError::Certificate),
            _ if lines == 0 => Err(KeyError::NoPem),
            2.. => Err(KeyError::Several),
            _ => Self::from_public_pem(pem),
        }
    }

    fn from_public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            return Self::rsa(key);
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            return Self::ec(key);
        }
        DecodingKey::from_ed_pem(pem).map_err(|_| KeyError::Unsupported).and_then(Self::ed25519)
    }

    /// Checks an `RSAPublicKey` in DER.
    pub(super) fn rsa(key: DecodingKey) -> Result<Self, KeyError> {
        let bits = rsa_bits(key_bytes(&key)).ok_or(KeyError::Unsupported)?;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        let algorithms = [
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ];
        Ok(Self::new(key, &algorithms, "RS256, RS384, RS512, PS256, PS384 or PS512"))
    }

    /// Finds the curve by the length of the point, and checks that the point is on it.
    pub(super) fn ec(key: DecodingKey) -> Result<Self, KeyError> {
        let point = key_bytes(&key);
        match point.len() {
            P256_POINT if is_on_curve(&ECDH_P256, point) => Ok(Self::new(key, &[Algorithm::ES256], "ES256")),
            P384_POINT if is_on_curve(&ECDH_P384, point) => Ok(Self::new(key, &[Algorithm::ES384], "ES384")),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// Checks a point on the curve Ed25519.
    pub(super) fn ed25519(key: DecodingKey) -> Result<Self, KeyError> {
        match key_bytes(&key).len() {
            ED25519_POINT => Ok(Self::new(key, &[Algorithm::EdDSA], "EdDSA")),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn new(decoding: DecodingKey, algorithms: &[Algorithm], accepted: &'static str) -> Self {
        // `Claims` checks the claims, by the broker's own clock and without leeway.
        let validation = Validation {
            algorithms: algorithms.to_vec(),
            required_spec_claims: HashSet::new(),
            validate_exp: false,
            validate_nbf: false,
            validate_aud: false,
            ..Validation::default()
        };
        Self { decoding, validation, accepted, id: None }
    }

    /// Restricts the key to one of its algorithms. Returns `None` if it does not have an algorithm with this name.
    pub(super) fn restrict_to(mut self, name: &str) -> Option<Self> {
        let (algorithm, name) = jwk::algorithm(name).filter(|(algorithm, _)| self.supports(*algorithm))?;
        self.validation.algorithms = vec![algorithm];
        self.accepted = name;
        Some(self)
    }

    /// Names the key.
    pub(super) fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Returns the name of the key, if it has one.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns whether the key verifies signatures of this algorithm.
    pub(super) fn supports(&self, algorithm: Algorithm) -> bool {
        self.validation.algorithms.contains(&algorithm)
    }

    /// Returns the names of the algorithms, for messages.
    pub(super) fn accepted(&self) -> &'static str {
        self.accepted
    }

    /// Verifies a token's signature and returns its claims as JSON.
    pub(super) fn verify(&self, role: Role, token: &[u8]) -> Result<Box<RawValue>, AuthError> {
        let decoded = jsonwebtoken::decode(token, &self.decoding, &self.validation);
        let decoded = decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidAlgorithm => AuthError::Algorithm(role, self.accepted),
            ErrorKind::InvalidSignature => AuthError::Signature(role),
            // jsonwebtoken reads the claims last, and only if the signature is valid.
            ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_ok() => AuthError::Claims,
            _ => AuthError::Malformed,
        })?;
        match decoded.header.crit {
            None => Ok(decoded.claims),
            Some(_) => Err(AuthError::Critical),
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Returns a key's bytes. Empty for a key given as components, which this module never creates.
fn key_bytes(key: &DecodingKey) -> &[u8] {
    key.try_get_as_bytes().unwrap_or_default()
}

/// Returns the number of bits of the modulus of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_bits(der: &[u8]) -> Option<u64> {
    let blocks = simple_asn1::from_der(der).ok()?;
    match blocks.first()? {
        ASN1Block::Sequence(_, parts) => match parts.as_slice() {
            [ASN1Block::Integer(_, modulus), ASN1Block::Integer(..)] => Some(modulus.bits()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether a point is on the curve. ring checks that completely when it agrees on a key with the point.
fn is_on_curve(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let point = agreement::UnparsedPublicKey::new(curve, point);
    EphemeralPrivateKey::generate(curve, &SystemRandom::new())
        .and_then(|key| agreement::agree_ephemeral(key, &point, |_| ()))
        .is_ok()
}
