//! Whose a token is, as a number: what one holder may take is counted by it. Refuses to know what is counted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The same for all tokens of one holder. A keyed hash, so that a name of any length is counted in eight bytes and nobody
/// can choose two names that are counted as one; of a million names any two are with a probability of 3 in 100 million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever the token's `sub` names.
    Subject(u64),
    /// Whoever has this token, which has no `sub`.
    Bearer(u64),
}

/// Tells holders apart; all workers of a broker share one.
#[derive(Default)]
pub(super) struct Principals(RandomState);

impl Principals {
    /// Whose a genuine token is.
    pub(super) fn of(&self, subject: Option<&str>, token: &[u8]) -> Principal {
        match subject {
            Some(subject) => Principal::Subject(self.0.hash_one(subject)),
            None => Principal::Bearer(self.0.hash_one(signed_part(token))),
        }
    }
}

/// Without the signature, of which whoever has the token can make others that are as good: (r, s) and (r, -s) with ECDSA.
fn signed_part(token: &[u8]) -> &[u8] {
    let end = token.iter().rposition(|&byte| byte == b'.').unwrap_or(token.len());
    &token[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_known_by_name_or_else_by_what_was_signed() {
        let holders = Principals::default();
        let of = |subject: Option<&str>, token: &str| holders.of(subject, token.as_bytes());
        assert_eq!(of(Some("user:1"), "a.b.c"), of(Some("user:1"), "d.e.f"));
        assert_ne!(of(Some("user:1"), "a.b.c"), of(Some("user:2"), "a.b.c"));
        assert_ne!(of(Some("User:1"), "a.b.c"), of(Some("user:1"), "a.b.c"), "as RFC 7519 compares them");
        assert!(matches!(of(Some(""), "a.b.c"), Principal::Subject(_)));
        assert_eq!(of(None, "a.b.c"), of(None, "a.b.d"), "another signature of the same");
        assert_ne!(of(None, "a.b.c"), of(None, "a.c.c"));
        assert_ne!(of(None, "a.b.c"), Principals::default().of(None, b"a.b.c"), "nobody else can foresee it");
        assert!(matches!(of(None, "a.b.c"), Principal::Bearer(_)));
    }
}
