//! A cache of tokens whose signature is valid. A backend sends the same token with every publish, and many pages may share
//! one; verifying a signature takes 2 µs (HMAC) to 1.5 ms (ES384). Each worker has its own cache, so nothing is shared or
//! locked.

use std::collections::HashMap;
use std::sync::Arc;

use super::claims::Claims;
use super::{AuthError, Keyring, Role};

/// The maximum number of cached tokens per role.
const MAX_TOKENS: usize = 256;
/// Longer tokens are not cached, in bytes.
const MAX_TOKEN_BYTES: usize = 2 << 10;

/// One worker's cache. Replacing a role's keys empties the cache of that role.
#[derive(Default)]
pub struct TokenCache {
    publisher: CachedTokens,
    subscriber: CachedTokens,
    has_failed: bool,
    /// The `sub` of the last token that was accepted, for the access log.
    subject: Option<String>,
}

/// The claims of a token whose signature is valid, or why it is never accepted.
pub(super) type Verdict = Result<Claims, AuthError>;

/// The cached tokens of one role. The map's hash is keyed at random, so the duration of a lookup reveals nothing about the
/// tokens in it.
#[derive(Default)]
pub(super) struct CachedTokens {
    keyring: Option<Arc<Keyring>>,
    verdicts: HashMap<Box<[u8]>, Verdict>,
}

impl TokenCache {
    /// Notes that the verification of a token failed.
    pub(super) fn note_failure(&mut self) {
        self.has_failed = true;
    }

    /// Returns whether the verification of a token failed since the last call.
    pub fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// Notes the `sub` of a token that was accepted.
    pub fn note_subject(&mut self, subject: Option<String>) {
        self.subject = subject;
    }

    /// Returns the `sub` of the token that was accepted since the last call.
    pub fn take_subject(&mut self) -> Option<String> {
        self.subject.take()
    }

    /// Returns the tokens that this keyring has verified. Forgets those of a previous keyring.
    pub(super) fn for_keyring(&mut self, role: Role, keyring: &Arc<Keyring>) -> &mut CachedTokens {
        let cached = match role {
            Role::Publisher => &mut self.publisher,
            Role::Subscriber => &mut self.subscriber,
        };
        if !cached.keyring.as_ref().is_some_and(|known| Arc::ptr_eq(known, keyring)) {
            *cached = CachedTokens { keyring: Some(Arc::clone(keyring)), verdicts: HashMap::new() };
        }
        cached
    }
}

impl CachedTokens {
    /// Returns the verdict on a token, if it is cached.
    pub(super) fn get(&self, token: &[u8]) -> Option<&Verdict> {
        self.verdicts.get(token)
    }

    /// Adds a token. A full cache forgets all tokens, which is simpler than an order of eviction and good enough.
    pub(super) fn insert(&mut self, token: &[u8], verdict: Verdict) {
        if token.len() > MAX_TOKEN_BYTES {
            return;
        }
        if self.verdicts.len() == MAX_TOKENS {
            self.verdicts.clear();
        }
        self.verdicts.insert(token.into(), verdict);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::auth::claims::RawClaims;
    use crate::auth::{ClaimRules, Key, Revocations, Secret};

    fn keyring() -> Arc<Keyring> {
        Arc::new(Key::from_secret(&Secret::new(vec![7; 32]).unwrap()).into())
    }

    #[test]
    fn the_cache_is_bounded_and_replacing_keys_empties_it() {
        let (json, rules) = (RawValue::from_string(r#"{"exp": 5}"#.to_owned()).unwrap(), ClaimRules::default());
        let claims = Claims::parse(&RawClaims::read(&json, &rules).unwrap(), &rules, &Revocations::default());
        let (mut cache, keys) = (TokenCache::default(), keyring());
        for number in 0..1000_usize {
            cache.for_keyring(Role::Publisher, &keys).insert(&number.to_le_bytes(), claims.clone());
            assert!(cache.for_keyring(Role::Publisher, &keys).verdicts.len() <= MAX_TOKENS);
        }
        cache.for_keyring(Role::Publisher, &keys).insert(&[0; MAX_TOKEN_BYTES + 1], claims);
        assert!(cache.for_keyring(Role::Publisher, &keys).get(&[0; MAX_TOKEN_BYTES + 1]).is_none());
        let last = 999_usize.to_le_bytes();
        assert!(cache.for_keyring(Role::Publisher, &keys).get(&last).is_some());
        assert!(cache.for_keyring(Role::Subscriber, &keys).get(&last).is_none());
        assert!(cache.for_keyring(Role::Publisher, &keyring()).get(&last).is_none());
        assert!(cache.for_keyring(Role::Publisher, &keys).get(&last).is_none());
    }
}
