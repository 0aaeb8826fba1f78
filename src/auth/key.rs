//! Keys: an HMAC secret or a public key, checked once when it is taken up. A key fixes the family of
//! algorithms it verifies (RFC 8725 section 3.1), so that a public key is never taken for a secret.

use std::collections::HashSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use simple_asn1::ASN1Block;

use super::claims::RawClaims;
use super::{AuthError, Role};

/// The shortest secret in bytes: as long as the output of SHA-256 (RFC 7518 section 3.2).
pub const MIN_SECRET: usize = 32;
/// The smallest RSA modulus in bits (RFC 7518 section 3.3).
const MIN_RSA_BITS: u64 = 2048;
/// The largest that can be verified with.
const MAX_RSA_BITS: u64 = 8192;
/// The length of an uncompressed point on the curve P-256.
const P256_POINT: usize = 65;
/// The length of an uncompressed point on the curve P-384.
const P384_POINT: usize = 97;

/// The length of a point on the curve Ed25519.
const ED25519_POINT: usize = 32;

/// What each key in PEM begins with (RFC 7468).
const BEGIN: &str = "-----BEGIN ";

/// What stands at both ends of a public key.
const PUBLIC: &str = "PUBLIC KEY-----";

/// An HMAC secret that is long enough. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes, if they are enough, and no key that is meant to be known to others.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if has(&bytes, BEGIN) {
            return Err(KeyError::PemSecret);
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

/// Why a key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret of so many bytes.
    Short(usize),
    /// A secret that is a key in PEM.
    PemSecret,
    /// Nothing in PEM.
    NoPem,
    /// More than one public key.
    Several,
    /// A private key.
    Private,
    /// A certificate.
    Certificate,
    /// A key of a kind that no accepted algorithm takes.
    Unsupported,
    /// An RSA key of so many bits.
    RsaBits(u64),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(
                f,
                "has {len} bytes, but a secret needs at least {MIN_SECRET}; generate one with: openssl rand -base64 48"
            ),
            Self::PemSecret => f.write_str(
                "is a PEM key, not a secret; use --publisher-key or --subscriber-key with the file of a public key",
            ),
            Self::Several => f.write_str(
                "has several public keys; keep one, and move the previous one to a file with this name \
                             and .previous at the end",
            ),
            Self::NoPem => f.write_str("has no public key in PEM (-----BEGIN PUBLIC KEY-----)"),
            Self::Private => f.write_str(
                "has a private key, which only the signer should have; extract the public key with: openssl pkey \
                 -in FILE -pubout",
            ),
            Self::Certificate => {
                f.write_str("has a certificate; extract its public key with: openssl x509 -in FILE -noout -pubkey")
            }
            Self::Unsupported => f.write_str(
                "has no complete public key of a supported kind; use RSA (rsaEncryption), EC on the named curve \
                 P-256 or P-384 with an uncompressed point, or Ed25519",
            ),
            Self::RsaBits(bits) => {
                write!(f, "has an RSA key of {bits} bits; use one with {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// One key and the algorithms it verifies.
pub struct Key {
    decoding: DecodingKey,
    validation: Validation,
    /// The algorithms in words.
    accepted: &'static str,
}

impl Key {
    /// HMAC.
    pub fn from_secret(secret: &Secret) -> Self {
        let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        Self::new(DecodingKey::from_secret(secret.bytes()), &algorithms, "HS256, HS384 or HS512")
    }

    /// A public key in PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        // Parameters may stand before a key.
        let keys = pem.windows(PUBLIC.len()).filter(|window| *window == PUBLIC.as_bytes()).count();
        match keys / 2 {
            _ if has(pem, "PRIVATE KEY-----") => Err(KeyError::Private),
            _ if has(pem, "-----BEGIN CERTIFICATE-----") => Err(KeyError::Certificate),
            _ if keys == 0 => Err(KeyError::NoPem),
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
        match DecodingKey::from_ed_pem(pem) {
            Ok(key) if bytes(&key).len() == ED25519_POINT => Ok(Self::new(key, &[Algorithm::EdDSA], "EdDSA")),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn rsa(key: DecodingKey) -> Result<Self, KeyError> {
        let bits = rsa_bits(bytes(&key)).ok_or(KeyError::Unsupported)?;
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

    /// The curve shows in the point: its length, and that it is on the curve at all.
    fn ec(key: DecodingKey) -> Result<Self, KeyError> {
        let point = bytes(&key);
        match point.len() {
            P256_POINT if is_on_curve(&ECDH_P256, point) => Ok(Self::new(key, &[Algorithm::ES256], "ES256")),
            P384_POINT if is_on_curve(&ECDH_P384, point) => Ok(Self::new(key, &[Algorithm::ES384], "ES384")),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn new(decoding: DecodingKey, algorithms: &[Algorithm], accepted: &'static str) -> Self {
        // What the claims say is judged with the broker's own clock, and strictly.
        let validation = Validation {
            algorithms: algorithms.to_vec(),
            required_spec_claims: HashSet::new(),
            validate_exp: false,
            validate_nbf: false,
            validate_aud: false,
            ..Validation::default()
        };
        Self { decoding, validation, accepted }
    }

    /// The claims of a token that was signed with this key.
    fn verify(&self, role: Role, token: &[u8]) -> Result<RawClaims, AuthError> {
        let decoded = jsonwebtoken::decode(token, &self.decoding, &self.validation);
        let decoded = decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidAlgorithm => AuthError::Algorithm(role, self.accepted),
            ErrorKind::InvalidSignature => AuthError::Signature(role),
            // The claims are read last, and only if the signature is good.
            ErrorKind::Json(_) if jsonwebtoken::decode_header(token).is_ok() => AuthError::Claims,
            _ => AuthError::Malformed,
        })?;
        match decoded.header.crit {
            None => Ok(decoded.claims),
            Some(_) => Err(AuthError::Critical),
        }
    }
}

/// A role's keys: what is signed with either is accepted.
pub struct Keyring {
    /// The one in use.
    pub current: Key,
    /// The one before, for tokens that are still out.
    pub previous: Option<Key>,
}

impl Keyring {
    pub(super) fn verify(&self, role: Role, token: &[u8]) -> Result<RawClaims, AuthError> {
        let denial = match self.current.verify(role, token) {
            Err(denial @ (AuthError::Signature(_) | AuthError::Algorithm(..))) => denial,
            verified => return verified,
        };
        match self.previous.as_ref().map(|previous| previous.verify(role, token)) {
            None | Some(Err(AuthError::Algorithm(..))) => Err(denial),
            // Also where the current key is of another kind: the signature was verified, and is bad.
            Some(verified) => verified,
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A key's bytes: none of those made here is given as components.
fn bytes(key: &DecodingKey) -> &[u8] {
    key.try_get_as_bytes().unwrap_or_default()
}

/// The modulus's bits of an `RSAPublicKey` (RFC 8017 appendix A.1.1).
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

/// Agreeing on a key with a point checks it in every way that there is.
fn is_on_curve(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let point = agreement::UnparsedPublicKey::new(curve, point);
    EphemeralPrivateKey::generate(curve, &SystemRandom::new())
        .and_then(|key| agreement::agree_ephemeral(key, &point, |_| ()))
        .is_ok()
}
