//! Why a key can't be used, with messages for the operator of the broker.

use std::fmt;

use super::jwk::MAX_KEYS;
use super::key::{MAX_RSA_BITS, MIN_RSA_BITS, MIN_SECRET};

/// Why a key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is too short: its length in bytes.
    Short(usize),
    /// The secret is a key in PEM.
    PemSecret,
    /// The file contains no key in PEM.
    NoPem,
    /// The file contains more than one public key.
    Several,
    /// The file contains a private key.
    Private,
    /// The file contains a certificate.
    Certificate,
    /// No supported algorithm uses this kind of key.
    Unsupported,
    /// The RSA key is too small or too large: the size of its modulus in bits.
    RsaBits(u64),
    /// The secret is a JSON Web Key or a JWK Set.
    JwkSecret,
    /// The file begins like a JWK Set, and is not valid JSON.
    Json,
    /// The file is JSON without a key.
    NoJwk,
    /// The JWK Set has too many keys: their number.
    ManyJwks(usize),
    /// The JWK Set has a private key.
    PrivateJwk,
    /// The JWK Set has a symmetric key.
    SymmetricJwk,
    /// No key of the JWK Set can verify tokens: what is wrong with the first one.
    UnusableJwk(&'static str),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(len) => write!(
                f,
                "has {len} bytes, but a secret needs at least {MIN_SECRET}; generate one with: openssl rand -base64 48"
            ),
            Self::PemSecret => f.write_str(
                "is a PEM key, not a secret; use `publisher_key` or `subscriber_key` with the file of a public key",
            ),
            Self::Several => f.write_str(
                "has several public keys; keep one, and move the previous one to a file with this name \
                             and .previous at the end",
            ),
            Self::NoPem => f.write_str("has no public key in PEM (-----BEGIN PUBLIC KEY-----), and is not a JWK Set"),
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
            Self::JwkSecret => f.write_str(
                "is a JSON Web Key, not a secret; use `publisher_key` or `subscriber_key` with the file of a JWK Set",
            ),
            Self::Json => f.write_str("is not a valid JWK Set: its JSON is invalid or incomplete; fetch it again"),
            Self::NoJwk => f.write_str(
                "is JSON, but has no key; use a JWK Set, which has a list of `keys`, from the address that the issuer \
                 calls jwks_uri",
            ),
            Self::ManyJwks(keys) => {
                write!(f, "is a JWK Set of {keys} keys; leave out unused keys, so that at most {MAX_KEYS} remain")
            }
            Self::PrivateJwk => f.write_str(
                "has a private key (`d`), which only the signer should have; use a JWK Set with public keys only",
            ),
            Self::SymmetricJwk => f.write_str(
                "has a symmetric key (`oct`), which is a secret; use a JWK Set with public keys only, or \
                 `publisher_secret` and `subscriber_secret` without a key file",
            ),
            Self::UnusableJwk(reason) => write!(
                f,
                "is a JWK Set without a key that can verify tokens, which may be RSA, EC on P-256 or P-384, or \
                 Ed25519; its first key {reason}"
            ),
        }
    }
}

impl std::error::Error for KeyError {}
