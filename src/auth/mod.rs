//! Tokens: from what a client shows to the [`Grant`] it gets for it. JSON Web Tokens (RFC 7519) by
//! the checklist of RFC 8725. Knows no socket and no HTTP, reads no clock and no file.

mod claims;
mod crypto;
mod error;
mod grant;
mod key;
mod mint;
mod principal;
mod token_cache;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

pub use error::AuthError;
pub use grant::Grant;
pub use key::{Key, KeyError, Keyring, Secret};
pub use mint::mint;
pub use principal::Principal;
pub use token_cache::TokenCache;
use token_cache::Verdict;

use claims::Claims;
use principal::Principals;

/// What a token must be signed for. Each role has keys of its own, so that a page that may listen
/// can't publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishing, inserting and the broker's numbers.
    Publisher,
    /// Subscribing and reading records.
    Subscriber,
}

impl Role {
    /// The environment variable of its HMAC secret.
    pub fn secret_variable(self) -> &'static str {
        match self {
            Self::Publisher => "ESKER_PUBLISHER_SECRET",
            Self::Subscriber => "ESKER_SUBSCRIBER_SECRET",
        }
    }

    /// The option of its key file.
    pub fn key_option(self) -> &'static str {
        match self {
            Self::Publisher => "--publisher-key",
            Self::Subscriber => "--subscriber-key",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}

/// Who is let in.
pub enum Auth {
    /// Everybody (`--no-auth`).
    Open,
    /// Who shows a token.
    Tokens(Keyrings),
}

/// Both roles' keys; they can be replaced while they are in use.
pub struct Keyrings {
    publisher: RwLock<Arc<Keyring>>,
    subscriber: RwLock<Arc<Keyring>>,
    holders: Principals,
}

impl Auth {
    /// Tokens are verified by these keys.
    pub fn tokens(publisher: Keyring, subscriber: Keyring) -> Self {
        crypto::install();
        Self::Tokens(Keyrings {
            publisher: RwLock::new(Arc::new(publisher)),
            subscriber: RwLock::new(Arc::new(subscriber)),
            holders: Principals::default(),
        })
    }
}

impl Keyrings {
    /// Returns what a token allows at this moment (seconds since the Unix epoch), if it was verified lately. Costs next to
    /// nothing.
    pub fn recall(
        &self,
        role: Role,
        token: &[u8],
        now: u64,
        verified: &mut TokenCache,
    ) -> Option<Result<Grant, AuthError>> {
        let keyring = self.of(role).read().unwrap_or_else(PoisonError::into_inner);
        let verdict = verified.by(role, &keyring).get(token)?;
        Some(judge(verdict, now))
    }

    /// Verifies a token and returns what it allows at this moment. Whatever a genuine token comes to is remembered, for it
    /// may be shown again.
    pub fn verify(&self, role: Role, token: &[u8], now: u64, verified: &mut TokenCache) -> Result<Grant, AuthError> {
        let keyring = Arc::clone(&self.of(role).read().unwrap_or_else(PoisonError::into_inner));
        let verdict = keyring
            .verify(role, token)
            .and_then(|raw| Ok(Claims::parse(&raw)?.of(self.holders.of(raw.subject(), token))));
        let grant = judge(&verdict, now);
        if verdict.as_ref().err().is_none_or(AuthError::is_of_genuine) {
            verified.by(role, &keyring).put(token, verdict);
        } else {
            verified.note_failure();
        }
        grant
    }

    /// From now on the role's tokens are verified by these keys. Streams that are open stay so.
    pub fn replace(&self, role: Role, keyring: Keyring) {
        *self.of(role).write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }

    fn of(&self, role: Role) -> &RwLock<Arc<Keyring>> {
        match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        }
    }
}

fn judge(verdict: &Verdict, now: u64) -> Result<Grant, AuthError> {
    verdict.as_ref().map_err(Clone::clone)?.at(now)
}

#[cfg(test)]
mod tests;
