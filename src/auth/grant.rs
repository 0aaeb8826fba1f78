//! What a token allows: names, until a moment.

use std::sync::Arc;

use super::Principal;

/// See the module's page. Compares names as topics are folded, to lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    names: Names,
    expires: Option<u64>,
    holder: Option<Principal>,
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
    /// All names, for ever: where nobody asks for tokens.
    pub fn everything() -> Self {
        Self { names: Names::Everything, expires: None, holder: None }
    }

    /// One name, in which an asterisk is nothing special, and entries of a list: names, and prefixes that end
    /// in one. Until this second since the Unix epoch.
    pub(super) fn new(name: Option<&str>, entries: &[&str], expires: u64) -> Self {
        let name = name.map(|name| Pattern::Exact(name.to_ascii_lowercase()));
        let patterns = name.into_iter().chain(entries.iter().map(|entry| Pattern::parse(entry)));
        Self { names: Names::Listed(patterns.collect()), expires: Some(expires), holder: None }
    }

    /// The same for whoever it was given to.
    pub(super) fn of(self, holder: Principal) -> Self {
        Self { holder: Some(holder), ..self }
    }

    /// Whether it allows what is done with this topic, whose name is in lower case.
    pub fn allows_topic(&self, name: &str) -> bool {
        self.any(|pattern| match pattern {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        })
    }

    /// Whether it allows what a name that is no topic stands for. Prefixes are of topics: but for that of
    /// all names they don't reach it.
    pub fn covers(&self, name: &str) -> bool {
        self.any(|pattern| match pattern {
            Pattern::Exact(exact) => exact == name,
            Pattern::Prefix(prefix) => prefix.is_empty(),
        })
    }

    fn any(&self, is_covering: impl Fn(&Pattern) -> bool) -> bool {
        match &self.names {
            Names::Everything => true,
            Names::Listed(patterns) => patterns.iter().any(is_covering),
        }
    }

    /// The second since the Unix epoch from which on it allows nothing.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    /// Whose it is, where tokens are asked for.
    pub fn holder(&self) -> Option<Principal> {
        self.holder
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
    fn names_and_prefixes() {
        let grant = Grant::new(Some("Weather*"), &["Greeting1", "news*", "a*b"], 5);
        for (name, is_covered) in [
            ("greeting1", true),
            ("greeting12", false),
            ("news", true),
            ("newspaper1", true),
            ("new", false),
            ("weather1", false),
            ("axb", false),
            ("", false),
        ] {
            assert_eq!(grant.allows_topic(name), is_covered, "{name}");
        }
        assert_eq!(grant.expires(), Some(5));
    }

    #[test]
    fn an_asterisk_alone_is_everything() {
        assert!(!Grant::new(None, &[], 5).covers("events"));
        let grant = Grant::new(None, &["*"], 5);
        assert!(grant.covers("events") && grant.allows_topic("greeting1") && Grant::everything().covers("stats"));
    }

    #[test]
    fn prefixes_are_of_topics() {
        let grant = Grant::new(Some("stats"), &["e*"], 5);
        assert!(grant.covers("stats") && !grant.covers("events") && grant.allows_topic("eventful1"));
    }
}
