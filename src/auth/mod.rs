//! Authentication: verifies tokens and returns what they allow, as a [`Grant`]. Tokens are JSON Web Tokens (RFC 7519),
//! checked as RFC 8725 recommends. Independent of sockets, HTTP, clocks and files.

mod claim_rules;
mod claims;
mod crypto;
mod error;
mod grant;
mod jwk;
mod key;
mod key_error;
mod key_set;
#[cfg(any(feature = "cli", test))]
mod mint;
mod principal;
mod revocation;
mod revocations;
mod subject;
mod token_cache;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

pub use claim_rules::ClaimRules;
pub use error::AuthError;
pub use grant::{Grant, Validity};
pub use key::{Key, Secret};
pub use key_error::KeyError;
pub use key_set::{KeySet, Keyring};
#[cfg(any(feature = "cli", test))]
pub use mint::mint;
pub use principal::Principal;
pub use revocation::{Revocation, RevocationError};
pub use revocations::{MAX_REVOCATIONS, Recent, Revocations, TokenIdentity};
pub use subject::subject_of;
pub use token_cache::TokenCache;
use token_cache::Verdict;

use claims::{Claims, RawClaims};
use principal::PrincipalHasher;

/// What a request must be authorized for. Each role has its own keys, so that a token for subscribing can't publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishing events, inserting records and reading statistics.
    Publisher,
    /// Subscribing to topics and reading records.
    Subscriber,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}

/// Which requests are authorized.
pub enum Auth {
    /// All requests (`--no-auth`).
    Open,
    /// Requests with a valid token.
    Tokens(Keyrings),
}

/// The keys of both roles, which can be replaced while the broker runs.
pub struct Keyrings {
    publisher: RwLock<Arc<Keyring>>,
    subscriber: RwLock<Arc<Keyring>>,
    rules: ClaimRules,
    principals: PrincipalHasher,
    revocations: Arc<Revocations>,
}

impl Auth {
    /// Requires tokens that are signed with these keys, and whose claims follow these rules.
    pub fn tokens(publisher: Keyring, subscriber: Keyring, rules: ClaimRules) -> Self {
        crypto::install();
        Self::Tokens(Keyrings {
            publisher: RwLock::new(Arc::new(publisher)),
            subscriber: RwLock::new(Arc::new(subscriber)),
            rules,
            principals: PrincipalHasher::default(),
            revocations: Arc::default(),
        })
    }

    /// Returns the table of revoked tokens. `None` if no tokens are required.
    pub fn revocations(&self) -> Option<&Arc<Revocations>> {
        match self {
            Self::Open => None,
            Self::Tokens(keyrings) => Some(&keyrings.revocations),
        }
    }

    /// Returns whether the token of a request or a stream is revoked.
    pub fn is_revoked(&self, token: Option<TokenIdentity>) -> bool {
        self.revocations().zip(token).is_some_and(|(revocations, token)| revocations.is_revoked(token))
    }
}

impl Keyrings {
    /// Returns what a cached token allows at `now`, in seconds since the Unix epoch; `None` if it is not in the cache. Cheap.
    pub fn look_up(
        &self,
        role: Role,
        token: &[u8],
        now: u64,
        cache: &mut TokenCache,
    ) -> Option<Result<Grant, AuthError>> {
        let keyring = self.keyring(role).read().unwrap_or_else(PoisonError::into_inner);
        let verdict = cache.for_keyring(role, &keyring).get(token)?;
        Some(self.evaluate(verdict, now))
    }

    /// Verifies a token and returns what it allows at `now`, in seconds since the Unix epoch. Caches the result if the
    /// signature is valid, even if the claims allow nothing: the client may send the token again.
    pub fn verify(&self, role: Role, token: &[u8], now: u64, cache: &mut TokenCache) -> Result<Grant, AuthError> {
        let keyring = Arc::clone(&self.keyring(role).read().unwrap_or_else(PoisonError::into_inner));
        let verdict =
            keyring.verify(role, token).and_then(|json| RawClaims::read(&json, &self.rules)).and_then(|raw| {
                let claims = Claims::parse(&raw, &self.rules, &self.revocations)?;
                Ok(claims.with_principal(self.principals.identify(raw.subject(), token)))
            });
        let grant = self.evaluate(&verdict, now);
        if verdict.as_ref().err().is_none_or(AuthError::has_valid_signature) {
            cache.for_keyring(role, &keyring).insert(token, verdict);
        } else {
            cache.note_failure();
        }
        grant
    }

    /// Replaces the keys of a role. Open streams stay open.
    pub fn replace(&self, role: Role, keyring: Keyring) {
        *self.keyring(role).write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }

    /// Returns what a verified token allows now: a cached one may have expired or been revoked since.
    fn evaluate(&self, verdict: &Verdict, now: u64) -> Result<Grant, AuthError> {
        let grant = verdict.as_ref().map_err(Clone::clone)?.grant_at(now, &self.rules)?;
        match grant.validity().token {
            Some(token) if self.revocations.is_revoked(token) => {
                self.revocations.count_refusal();
                Err(AuthError::Revoked)
            }
            _ => Ok(grant),
        }
    }

    fn keyring(&self, role: Role) -> &RwLock<Arc<Keyring>> {
        match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        }
    }
}

#[cfg(test)]
mod tests;
