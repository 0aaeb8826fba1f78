//! What a token allows: access to names, until the token expires.

use std::sync::Arc;

use super::{Principal, TokenIdentity};

/// Access to a set of names, until a time. Names are compared in lower case, as topics are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    names: Names,
    validity: Validity,
    principal: Option<Principal>,
}

/// How long a grant is valid: until its token expires or is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// When the token expires, in seconds since the Unix epoch.
    pub expires: Option<u64>,
    /// The token's identity for revocation.
    pub token: Option<TokenIdentity>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    Everything,
    Listed(Arc<[Pattern]>),
}

/// One entry of a token's list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Grant {
    /// Returns a grant of all names that never expires, for a broker that requires no tokens.
    pub fn everything() -> Self {
        Self { names: Names::Everything, validity: Validity::default(), principal: None }
    }

    /// Creates a grant that expires at `expires`, in seconds since the Unix epoch. An asterisk has no special meaning in
    /// `name`; an entry that ends in one is a prefix.
    pub(super) fn new(name: Option<&str>, entries: &[&str], expires: u64) -> Self {
        let name = name.map(|name| Pattern::Exact(name.to_ascii_lowercase()));
        let patterns = name.into_iter().chain(entries.iter().map(|entry| Pattern::parse(entry)));
        let validity = Validity { expires: Some(expires), token: None };
        Self { names: Names::Listed(patterns.collect()), validity, principal: None }
    }

    /// Sets the token's identity for revocation.
    pub(super) fn with_identity(self, identity: TokenIdentity) -> Self {
        Self { validity: Validity { token: Some(identity), ..self.validity }, ..self }
    }

    /// Sets the principal.
    pub(super) fn with_principal(self, principal: Principal) -> Self {
        Self { principal: Some(principal), ..self }
    }

    /// Returns whether this is the grant of a broker that requires no tokens.
    pub fn is_unrestricted(&self) -> bool {
        self.names == Names::Everything
    }

    /// Returns whether the grant includes a topic, whose name must be in lower case.
    pub fn allows_topic(&self, name: &str) -> bool {
        self.any_matches(|pattern| match pattern {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        })
    }

    /// Returns whether the grant includes a name that is not a topic: `events` or `stats`. Prefixes apply to topics, so only
    /// `*` includes such a name.
    pub fn allows(&self, name: &str) -> bool {
        self.any_matches(|pattern| match pattern {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => prefix.is_empty(),
        })
    }

    fn any_matches(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        match &self.names {
            Names::Everything => true,
            Names::Listed(patterns) => patterns.iter().any(matches),
        }
    }

    /// Returns the time at which the grant expires, in seconds since the Unix epoch.
    #[cfg(any(test, feature = "internals"))]
    pub fn expires(&self) -> Option<u64> {
        self.validity.expires
    }

    /// Returns how long the grant is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Returns the principal of the token. `None` if the broker requires no tokens.
    pub fn principal(&self) -> Option<Principal> {
        self.principal
    }
}

impl Pattern {
    fn parse(entry: &str) -> Self {
        let folded = entry.to_ascii_lowercase();
        match folded.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(folded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_allows_its_names_and_prefixes() {
        let grant = Grant::new(Some("Weather*"), &["Greeting1", "news*", "a*b"], 5);
        for (name, is_allowed) in [
            ("greeting1", true),
            ("greeting12", false),
            ("news", true),
            ("newspaper1", true),
            ("new", false),
            ("weather1", false),
            ("axb", false),
            ("", false),
        ] {
            assert_eq!(grant.allows_topic(name), is_allowed, "{name}");
        }
        assert_eq!(grant.expires(), Some(5));
    }

    #[test]
    fn an_asterisk_alone_allows_everything() {
        assert!(!Grant::new(None, &[], 5).allows("events"));
        let grant = Grant::new(None, &["*"], 5);
        assert!(grant.allows("events") && grant.allows_topic("greeting1") && Grant::everything().allows("stats"));
    }

    #[test]
    fn prefixes_apply_to_topics_only() {
        let grant = Grant::new(Some("stats"), &["e*"], 5);
        assert!(grant.allows("stats") && !grant.allows("events") && grant.allows_topic("eventful1"));
    }
}
