//! Tokens whose signature was found good lately, and what came of them. A backend shows the same token with every publish,
//! and many pages may share one; a signature takes 2 µs (HMAC) to 1.5 ms (ES384) to verify. Each worker has its own, so that
//! nothing is shared or locked.

use std::collections::HashMap;
use std::sync::Arc;

use super::claims::Claims;
use super::{AuthError, Keyring, Role};

/// So many tokens are remembered per role.
const MAX_TOKENS: usize = 256;
/// Longer ones are not.
const MAX_TOKEN: usize = 2 << 10;

/// See the module's page.
#[derive(Default)]
pub struct TokenCache {
    publisher: CachedTokens,
    subscriber: CachedTokens,
    has_failed: bool,
}

/// What a genuine token says, or why that allows nothing at any time.
pub(super) type Verdict = Result<Claims, AuthError>;

/// One role's tokens. The hash of the map is keyed at random, so that the time of a look-up tells
/// nothing about the tokens in it.
#[derive(Default)]
pub(super) struct CachedTokens {
    keyring: Option<Arc<Keyring>>,
    verdicts: HashMap<Box<[u8]>, Verdict>,
}

impl TokenCache {
    /// Notes that a token was verified in vain.
    pub(super) fn note_failure(&mut self) {
        self.has_failed = true;
    }

    /// Returns whether a token was verified in vain since the last call.
    pub fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.has_failed)
    }

    /// What these keys have verified; other keys have verified nothing yet.
    pub(super) fn by(&mut self, role: Role, keyring: &Arc<Keyring>) -> &mut CachedTokens {
        let lately = match role {
            Role::Publisher => &mut self.publisher,
            Role::Subscriber => &mut self.subscriber,
        };
        if !lately.keyring.as_ref().is_some_and(|known| Arc::ptr_eq(known, keyring)) {
            *lately = CachedTokens { keyring: Some(Arc::clone(keyring)), verdicts: HashMap::new() };
        }
        lately
    }
}

impl CachedTokens {
    pub(super) fn get(&self, token: &[u8]) -> Option<&Verdict> {
        self.verdicts.get(token)
    }

    /// Remembers a token. The oldest would be the best to forget; all of them is good enough and simple.
    pub(super) fn put(&mut self, token: &[u8], verdict: Verdict) {
        if token.len() > MAX_TOKEN {
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
    use serde_json::json;

    use super::*;
    use crate::auth::{Key, Secret};

    fn keyring() -> Arc<Keyring> {
        Arc::new(Keyring { current: Key::from_secret(&Secret::new(vec![7; 32]).unwrap()), previous: None })
    }

    #[test]
    fn it_is_bounded_and_forgets_with_the_keys() {
        let claims = Claims::parse(&serde_json::from_value(json!({"exp": 5})).unwrap());
        let (mut verified, keys) = (TokenCache::default(), keyring());
        for number in 0..1000_usize {
            verified.by(Role::Publisher, &keys).put(&number.to_le_bytes(), claims.clone());
            assert!(verified.by(Role::Publisher, &keys).verdicts.len() <= MAX_TOKENS);
        }
        verified.by(Role::Publisher, &keys).put(&[0; MAX_TOKEN + 1], claims);
        assert!(verified.by(Role::Publisher, &keys).get(&[0; MAX_TOKEN + 1]).is_none());
        let last = 999_usize.to_le_bytes();
        assert!(verified.by(Role::Publisher, &keys).get(&last).is_some());
        assert!(verified.by(Role::Subscriber, &keys).get(&last).is_none());
        assert!(verified.by(Role::Publisher, &keyring()).get(&last).is_none());
        assert!(verified.by(Role::Publisher, &keys).get(&last).is_none());
    }
}
