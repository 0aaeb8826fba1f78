//! The principal of a token, reduced to a number by which quotas are counted. Independent of what is counted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Identifies who a token belongs to. A keyed hash, so that a name of any length takes eight bytes and no client can choose two
/// names with the same hash. Among a million names, the probability of any collision is 3 in 100 million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The token's `sub`.
    Subject(u64),
    /// A token without `sub`; all clients with the same token are one principal.
    Bearer(u64),
}

/// Identifies principals. All workers of a broker share one, so that they agree on the hashes.
#[derive(Default)]
pub(super) struct PrincipalHasher(RandomState);

impl PrincipalHasher {
    /// Returns the principal of a token whose signature is valid.
    pub(super) fn identify(&self, subject: Option<&str>, token: &[u8]) -> Principal {
        match subject {
            Some(subject) => Principal::Subject(self.0.hash_one(subject)),
            None => Principal::Bearer(self.0.hash_one(signed_part(token))),
        }
    }
}

/// Returns the token without its signature. Anybody can turn an ECDSA signature (r, s) into another valid one, (r, -s), which
/// must not make a new principal.
fn signed_part(token: &[u8]) -> &[u8] {
    let end = token.iter().rposition(|&byte| byte == b'.').unwrap_or(token.len());
    &token[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_the_subject_or_else_the_signed_part() {
        let hasher = PrincipalHasher::default();
        let identify = |subject: Option<&str>, token: &str| hasher.identify(subject, token.as_bytes());
        assert_eq!(identify(Some("user:1"), "a.b.c"), identify(Some("user:1"), "d.e.f"));
        assert_ne!(identify(Some("user:1"), "a.b.c"), identify(Some("user:2"), "a.b.c"));
        assert_ne!(
            identify(Some("User:1"), "a.b.c"),
            identify(Some("user:1"), "a.b.c"),
            "RFC 7519 compares case-sensitively"
        );
        assert!(matches!(identify(Some(""), "a.b.c"), Principal::Subject(_)));
        assert_eq!(identify(None, "a.b.c"), identify(None, "a.b.d"), "only the signature differs");
        assert_ne!(identify(None, "a.b.c"), identify(None, "a.c.c"));
        assert_ne!(
            identify(None, "a.b.c"),
            PrincipalHasher::default().identify(None, b"a.b.c"),
            "the hash is keyed at random"
        );
        assert!(matches!(identify(None, "a.b.c"), Principal::Bearer(_)));
    }
}
