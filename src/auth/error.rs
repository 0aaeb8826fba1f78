//! Why a token was not accepted, in words for the developer who holds it. What depends on a claim is
//! said only once the signature has shown that the token is genuine.

use std::fmt;

use super::Role;
use super::claims::AUDIENCE;
use crate::clock::imf_fixdate;

/// See the module's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// There is none.
    Missing,
    /// Not three base64url parts with JSON in the first two, or an unknown algorithm. Also what jsonwebtoken stumbles
    /// over before the claims come to be judged here: one twice, or a list or object in a plain one's place.
    Malformed,
    /// The algorithm is none of the key's family.
    Algorithm(Role, &'static str),
    /// The header asks for an extension.
    Critical,
    /// The signature is not that of the role's key.
    Signature(Role),
    /// The claims are no JSON object, or one of them is there twice or of a type beyond all reason.
    Claims,
    /// `exp` is missing or no whole number.
    Expiry,
    /// `nbf` is no whole number.
    NotBefore,
    /// `sub` is no text.
    Subject,
    /// `topics` is no list of texts.
    Topics,
    /// `aud` does not name this broker.
    Audience,
    /// `exp` has come.
    Expired {
        /// `exp`
        at: u64,
        /// The present second.
        now: u64,
    },
    /// `nbf` has not come.
    TooEarly {
        /// `nbf`
        from: u64,
        /// The present second.
        now: u64,
    },
}

impl AuthError {
    /// Returns whether the token's signature was verified and is good: it is the owner of the key who made it as it is.
    pub(super) fn is_of_genuine(&self) -> bool {
        !matches!(self, Self::Missing | Self::Malformed | Self::Algorithm(..) | Self::Signature(_))
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
            Self::Subject => f.write_str("the token's `sub` must be one topic, as a JSON string"),
            Self::Topics => {
                f.write_str("the token's `topics` must be a JSON list of topics, or of prefixes ending in *")
            }
            Self::Audience => write!(
                f,
                "the token's `aud` is for another audience; leave it out, or set it to \
                                         {AUDIENCE:?}"
            ),
            Self::Expired { at, now } => {
                write!(f, "the token expired at {}, {} s ago; get a new one", imf_fixdate(*at), now - at)
            }
            Self::TooEarly { from, now } => {
                write!(f, "the token is not valid before {}, in {} s", imf_fixdate(*from), from - now)
            }
        }
    }
}
