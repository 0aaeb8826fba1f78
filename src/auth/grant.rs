//! What a token allows: names, until a moment.

/// See the module's page. Compares names as topics are folded, to lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    names: Names,
    expires: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    Everything,
    Listed(Vec<Pattern>),
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
        Self { names: Names::Everything, expires: None }
    }

    /// No name yet, until this second since the Unix epoch.
    pub(super) fn until(expires: u64) -> Self {
        Self { names: Names::Listed(Vec::new()), expires: Some(expires) }
    }

    /// Adds one name. What stands in it stands for itself.
    pub(super) fn add_name(&mut self, name: &str) {
        self.add(Pattern::Exact(name.to_ascii_lowercase()));
    }

    /// Adds one entry of a list: a name, or a prefix that ends in `*`.
    pub(super) fn add_entry(&mut self, entry: &str) {
        let folded = entry.to_ascii_lowercase();
        self.add(match folded.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Exact(folded),
        });
    }

    fn add(&mut self, pattern: Pattern) {
        if let Names::Listed(patterns) = &mut self.names {
            patterns.push(pattern);
        }
    }

    /// Whether it allows what is done under this name, which is in lower case.
    pub fn covers(&self, name: &str) -> bool {
        match &self.names {
            Names::Everything => true,
            Names::Listed(patterns) => patterns.iter().any(|pattern| match pattern {
                Pattern::Exact(exact) => exact == name,
                Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
            }),
        }
    }

    /// The second since the Unix epoch from which on it allows nothing.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes() {
        let mut grant = Grant::until(5);
        grant.add_name("Weather*");
        grant.add_entry("Greeting1");
        grant.add_entry("news*");
        grant.add_entry("a*b");
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
            assert_eq!(grant.covers(name), is_covered, "{name}");
        }
        assert_eq!(grant.expires(), Some(5));
    }

    #[test]
    fn an_asterisk_alone_is_everything() {
        let mut grant = Grant::until(5);
        assert!(!grant.covers("events"));
        grant.add_entry("*");
        assert!(grant.covers("events") && grant.covers("greeting1") && Grant::everything().covers("stats"));
    }
}
