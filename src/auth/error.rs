//! The reasons for rejecting a token, with messages for the developer of the client. A message reveals something about a claim
//! only after the signature was verified.

use std::fmt;
use std::sync::Arc;

use super::Role;
use crate::clock::imf_fixdate;

/// Why a token was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// The request has no token.
    Missing,
    /// The token is not three base64url parts with a JSON header, or its algorithm is unknown.
    Malformed,
    /// The algorithm is not one of those that the key supports, which the text lists.
    Algorithm(Role, &'static str),
    /// No key has the token's `kid`.
    UnknownKey(Role),
    /// Too many keys could have signed the token.
    AmbiguousKey(Role),
    /// The header requires an extension (`crit`).
    Critical,
    /// The signature does not match the role's key.
    Signature(Role),
    /// The claims are not a JSON object, or one of them is repeated or can't be decoded.
    Claims,
    /// `exp` is missing or not a whole number.
    Expiry,
    /// `nbf` is not a whole number.
    NotBefore,
    /// `iat` is not a number.
    IssuedAt,
    /// `sub` is not a string.
    Subject,
    /// `jti` is not a string.
    TokenId,
    /// The claim of this name is not a list of strings.
    Topics(Arc<str>),
    /// `aud` does not name this audience.
    Audience(Arc<str>),
    /// `iss` is not this issuer.
    Issuer(Arc<str>),
    /// There is no `iss`, which must be this issuer.
    NoIssuer(Arc<str>),
    /// `exp` has passed.
    Expired {
        /// `exp`, in seconds since the Unix epoch.
        at: u64,
        /// The current time, in the same unit.
        now: u64,
    },
    /// `nbf` is in the future.
    TooEarly {
        /// `nbf`, in seconds since the Unix epoch.
        from: u64,
        /// The current time, in the same unit.
        now: u64,
    },
    /// It was revoked.
    Revoked,
}

impl AuthError {
    /// Returns whether the token's signature is valid, so that the key's owner made the token exactly as it is.
    pub(super) fn has_valid_signature(&self) -> bool {
        !matches!(
            self,
            Self::Missing
                | Self::Malformed
                | Self::Algorithm(..)
                | Self::UnknownKey(_)
                | Self::AmbiguousKey(_)
                | Self::Signature(_)
        )
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "a token is required: send `Authorization: Bearer <token>`, `?token=<token>`, or the cookie \
                 esker_token",
            ),
            Self::Malformed => f.write_str(
                "the token is not a supported signed JWT: it must be header.claims.signature in base64url without \
                 padding, and the header a JSON object with an `alg` such as HS256, RS256, ES256 or EdDSA, never \
                 none",
            ),
            Self::Algorithm(role, accepted) => {
                write!(f, "the token's `alg` does not match the {role} key; sign with {accepted}")
            }
            Self::UnknownKey(role) => write!(
                f,
                "no {role} key has the token's `kid`; get a new token, or if the issuer has a new key, put its JWK Set \
                 into the broker's key file and send the broker SIGHUP"
            ),
            Self::AmbiguousKey(role) => write!(
                f,
                "the token fits too many {role} keys of the JWK Set; sign it with the key's `kid` in its header"
            ),
            Self::Critical => f.write_str(
                "the token's header has `crit`, but no JWT extensions are supported; \
                                           leave it out",
            ),
            Self::Signature(role) => write!(
                f,
                "the token's signature does not match the {role} key, which this request requires; sign with that key"
            ),
            Self::Claims => f.write_str(
                "the token's claims must be a JSON object without repeated members: `exp` and `nbf` whole seconds, \
                 `sub` one topic, `topics` a list",
            ),
            Self::Expiry => f.write_str("the token must have `exp`: whole seconds since 1970, as a JSON number"),
            Self::NotBefore => f.write_str("the token's `nbf` must be whole seconds since 1970, as a JSON number"),
            Self::IssuedAt => f.write_str("the token's `iat` must be seconds since 1970, as a JSON number"),
            Self::Subject => f.write_str("the token's `sub` must be one topic, as a JSON string"),
            Self::TokenId => f.write_str("the token's `jti` must be a JSON string"),
            Self::Topics(claim) => {
                write!(f, "the token's `{claim}` must be a JSON list of topics, or of prefixes ending in *")
            }
            Self::Audience(expected) => {
                write!(
                    f,
                    "the token's `aud` does not include the expected audience; leave it out, or set it to {expected:?}"
                )
            }
            Self::Issuer(expected) => {
                write!(f, "the token's `iss` is another issuer; get a token from {expected:?}, exactly as written")
            }
            Self::NoIssuer(expected) => {
                write!(f, "the token has no `iss`, which must be {expected:?}; get a token from that issuer")
            }
            Self::Expired { at, now } => {
                write!(f, "the token expired at {}, {} s ago; get a new one", imf_fixdate(*at), now - at)
            }
            Self::TooEarly { from, now } => {
                write!(f, "the token is not valid before {}, in {} s", imf_fixdate(*from), from - now)
            }
            Self::Revoked => f.write_str("the token was revoked; get a new one"),
        }
    }
}
