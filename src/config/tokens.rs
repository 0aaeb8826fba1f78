//! The settings of tokens: the keys that verify them, and what they must claim.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, Config, ConfigError, KeySource, RoleKey};
use crate::auth::{ClaimRules, KeyError, Role, Secret};

/// The longest leeway: clocks that differ by more should be set.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// The settings of tokens as a program sets them.
#[derive(Clone, Debug)]
pub(super) struct TokenConfig {
    publisher: RoleConfig,
    subscriber: RoleConfig,
    leeway: Duration,
    audience: String,
    issuer: Option<String>,
    topics_claim: String,
}

/// The keys of one role.
#[derive(Clone, Debug, Default)]
struct RoleConfig {
    secret: Option<Result<Secret, KeyError>>,
    secret_file: Option<PathBuf>,
    previous: Option<Result<Secret, KeyError>>,
    file: Option<PathBuf>,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            publisher: RoleConfig::default(),
            subscriber: RoleConfig::default(),
            leeway: Duration::from_secs(5),
            audience: "esker".to_owned(),
            issuer: None,
            topics_claim: "topics".to_owned(),
        }
    }
}

impl Config {
    /// Sets the HMAC secret of publishers' tokens, at least 32 bytes. Excludes [`publisher_key`](Config::publisher_key) and
    /// [`publisher_secret_file`](Config::publisher_secret_file).
    #[must_use]
    pub fn publisher_secret(self, secret: impl Into<Vec<u8>>) -> Self {
        self.with_secret(Role::Publisher, Secret::new(secret))
    }

    /// Sets the HMAC secret of subscribers' tokens, at least 32 bytes. Excludes [`subscriber_key`](Config::subscriber_key) and
    /// [`subscriber_secret_file`](Config::subscriber_secret_file).
    #[must_use]
    pub fn subscriber_secret(self, secret: impl Into<Vec<u8>>) -> Self {
        self.with_secret(Role::Subscriber, Secret::new(secret))
    }

    pub(crate) fn with_secret(mut self, role: Role, secret: Result<Secret, KeyError>) -> Self {
        self.tokens.role(role).secret = Some(secret);
        self
    }

    /// Sets the file that contains the HMAC secret of publishers' tokens, such as a secret of Docker or Kubernetes. One line
    /// end at its end is not part of the secret. Tokens of the previous secret, in a file of the same name with `.previous`
    /// appended, are still accepted. [`Broker::reload_keys`](crate::Broker::reload_keys) reads the files again. Excludes
    /// [`publisher_secret`](Config::publisher_secret) and [`publisher_key`](Config::publisher_key).
    ///
    /// ```
    /// let config = esker::Config::new()
    ///     .publisher_secret_file("/run/secrets/publisher")
    ///     .subscriber_secret_file("/run/secrets/subscriber");
    /// ```
    #[must_use]
    pub fn publisher_secret_file(self, file: impl Into<PathBuf>) -> Self {
        self.with_secret_file(Role::Publisher, file.into())
    }

    /// Sets the file that contains the HMAC secret of subscribers' tokens, as
    /// [`publisher_secret_file`](Config::publisher_secret_file) does for publishers.
    #[must_use]
    pub fn subscriber_secret_file(self, file: impl Into<PathBuf>) -> Self {
        self.with_secret_file(Role::Subscriber, file.into())
    }

    pub(crate) fn with_secret_file(mut self, role: Role, file: PathBuf) -> Self {
        self.tokens.role(role).secret_file = Some(file);
        self
    }

    /// Sets the previous HMAC secret of publishers' tokens, which are still accepted, whatever the current key is.
    ///
    /// ```
    /// let config = esker::Config::new()
    ///     .publisher_secret("a new secret of at least thirty-two bytes")
    ///     .publisher_secret_previous("the old secret of at least thirty-two bytes");
    /// ```
    #[must_use]
    pub fn publisher_secret_previous(self, secret: impl Into<Vec<u8>>) -> Self {
        self.with_previous_secret(Role::Publisher, Secret::new(secret))
    }

    /// Sets the previous HMAC secret of subscribers' tokens, which are still accepted, whatever the current key is.
    #[must_use]
    pub fn subscriber_secret_previous(self, secret: impl Into<Vec<u8>>) -> Self {
        self.with_previous_secret(Role::Subscriber, Secret::new(secret))
    }

    pub(crate) fn with_previous_secret(mut self, role: Role, secret: Result<Secret, KeyError>) -> Self {
        self.tokens.role(role).previous = Some(secret);
        self
    }

    /// Sets the file that contains the public keys of publishers' tokens: one in PEM, or a JWK Set (RFC 7517), in which a
    /// token's `kid` chooses. Tokens of the previous keys, in a file of the same name with `.previous` appended, are still
    /// accepted. [`Broker::reload_keys`](crate::Broker::reload_keys) reads the files again. Excludes
    /// [`publisher_secret`](Config::publisher_secret) and [`publisher_secret_file`](Config::publisher_secret_file).
    #[must_use]
    pub fn publisher_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.tokens.publisher.file = Some(file.into());
        self
    }

    /// Sets the file that contains the public keys of subscribers' tokens, as [`publisher_key`](Config::publisher_key) does
    /// for publishers.
    #[must_use]
    pub fn subscriber_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.tokens.subscriber.file = Some(file.into());
        self
    }

    /// Sets how much earlier than its `nbf` claim a token is accepted, at most 10 minutes, because clocks differ. There is no
    /// leeway for `exp`. Default: 5 s.
    #[must_use]
    pub fn leeway(mut self, time: Duration) -> Self {
        self.tokens.leeway = time;
        self
    }

    /// Sets what the `aud` claim of a token must be or contain; tokens without `aud` are accepted as well. Default: `esker`.
    ///
    /// ```
    /// let config = esker::Config::new()
    ///     .subscriber_key("jwks.json")
    ///     .issuer("https://example.eu.auth0.com/")
    ///     .audience("https://events.example.com")
    ///     .topics_claim("https://example.com/topics");
    /// ```
    #[must_use]
    pub fn audience(mut self, name: impl Into<String>) -> Self {
        self.tokens.audience = name.into();
        self
    }

    /// Sets what the `iss` claim of a token must be, byte for byte. Default: any issuer, or none.
    #[must_use]
    pub fn issuer(mut self, url: impl Into<String>) -> Self {
        self.tokens.issuer = Some(url.into());
        self
    }

    /// Sets the name of the claim that lists the topics of a token, which may contain any characters: it is never a path into
    /// an object. Default: `topics`.
    #[must_use]
    pub fn topics_claim(mut self, name: impl Into<String>) -> Self {
        self.tokens.topics_claim = name.into();
        self
    }
}

impl TokenConfig {
    fn role(&mut self, role: Role) -> &mut RoleConfig {
        match role {
            Role::Publisher => &mut self.publisher,
            Role::Subscriber => &mut self.subscriber,
        }
    }

    /// Returns the keys of both roles.
    pub(super) fn settle_access(&self) -> Result<Access, ConfigError> {
        let publisher = self.publisher.settle(Role::Publisher)?;
        let subscriber = self.subscriber.settle(Role::Subscriber)?;
        match (publisher, subscriber) {
            (Some(publisher), Some(subscriber)) => Ok(Access::Tokens { publisher, subscriber }),
            (None, None) => Err(ConfigError::NoKeys),
            (None, Some(_)) => Err(ConfigError::NoKey(Role::Publisher)),
            (Some(_), None) => Err(ConfigError::NoKey(Role::Subscriber)),
        }
    }

    /// Returns what tokens must claim.
    pub(super) fn settle_claims(&self) -> Result<ClaimRules, ConfigError> {
        let given = [
            ("audience", Some(&self.audience)),
            ("issuer", self.issuer.as_ref()),
            ("topics_claim", Some(&self.topics_claim)),
        ];
        if let Some((name, _)) = given.into_iter().find(|(_, text)| text.is_some_and(String::is_empty)) {
            return Err(ConfigError::Empty(name));
        }
        if self.leeway > MAX_LEEWAY {
            return Err(ConfigError::Leeway);
        }
        if ClaimRules::RESERVED.contains(&self.topics_claim.as_str()) {
            return Err(ConfigError::TopicsClaim(self.topics_claim.clone()));
        }
        Ok(ClaimRules {
            leeway: self.leeway.as_secs(),
            audience: self.audience.as_str().into(),
            issuer: self.issuer.as_deref().map(Arc::from),
            topics_claim: self.topics_claim.as_str().into(),
        })
    }
}

impl RoleConfig {
    fn settle(&self, role: Role) -> Result<Option<RoleKey>, ConfigError> {
        let previous = self.previous.clone().transpose().map_err(|error| ConfigError::PreviousSecret(role, error))?;
        let source = match (&self.secret, &self.secret_file, &self.file) {
            (None, None, None) => return Ok(None),
            (Some(Ok(secret)), None, None) => KeySource::Secret(secret.clone()),
            (Some(Err(error)), None, None) => return Err(ConfigError::Secret(role, *error)),
            (None, Some(file), None) => KeySource::SecretFile(file.clone()),
            (None, None, Some(file)) => KeySource::File(file.clone()),
            _ => return Err(ConfigError::TwoKeys(role)),
        };
        Ok(Some(RoleKey { source, previous }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_needs_one_key() {
        let settle = |config: Config| config.port(0).settle(1000).map(|settings| settings.access);
        let (long, short) = (vec![b'x'; 32], vec![b'x'; 31]);
        let publisher = Config::new().publisher_secret(long.clone());
        assert_eq!(settle(Config::new()), Err(ConfigError::NoKeys));
        assert_eq!(settle(publisher.clone()), Err(ConfigError::NoKey(Role::Subscriber)));
        assert_eq!(settle(Config::new().subscriber_key("f")), Err(ConfigError::NoKey(Role::Publisher)));
        let weak = publisher.clone().subscriber_secret(short.clone());
        assert_eq!(settle(weak.clone()), Err(ConfigError::Secret(Role::Subscriber, KeyError::Short(31))));
        assert_eq!(settle(weak.no_auth(true)), Ok(Access::Everybody));
        for both in [
            publisher.clone().publisher_key("f"),
            publisher.clone().publisher_secret_file("f"),
            Config::new().publisher_secret_file("f").publisher_key("f"),
        ] {
            assert_eq!(settle(both.subscriber_key("f")), Err(ConfigError::TwoKeys(Role::Publisher)));
        }
        let secret = Secret::new(long.clone()).unwrap();
        let expected = Access::Tokens {
            publisher: RoleKey { source: KeySource::Secret(secret.clone()), previous: None },
            subscriber: RoleKey { source: KeySource::File("f".into()), previous: Some(secret) },
        };
        let subscriber = publisher.clone().subscriber_key("f");
        assert_eq!(settle(subscriber.clone().subscriber_secret_previous(long)), Ok(expected));
        let weak = subscriber.subscriber_secret_previous(short);
        assert_eq!(settle(weak), Err(ConfigError::PreviousSecret(Role::Subscriber, KeyError::Short(31))));
        assert!(!format!("{publisher:?}").contains("xx"), "the Debug output must not contain a secret");
    }

    #[test]
    fn what_tokens_must_claim_is_checked() {
        let settle = |config: Config| config.no_auth(true).port(0).settle(1000).map(|settings| settings.claims);
        assert_eq!(settle(Config::new()), Ok(ClaimRules::default()));
        let rules = settle(Config::new().leeway(MAX_LEEWAY).audience("a").issuer("i").topics_claim("cognito:groups"));
        let expected = ClaimRules {
            leeway: 600,
            audience: "a".into(),
            issuer: Some("i".into()),
            topics_claim: "cognito:groups".into(),
        };
        assert_eq!(rules, Ok(expected));
        for (config, error) in [
            (Config::new().leeway(MAX_LEEWAY + Duration::from_secs(1)), ConfigError::Leeway),
            (Config::new().audience(""), ConfigError::Empty("audience")),
            (Config::new().issuer(""), ConfigError::Empty("issuer")),
            (Config::new().topics_claim(""), ConfigError::Empty("topics_claim")),
            (Config::new().topics_claim("sub"), ConfigError::TopicsClaim("sub".into())),
        ] {
            assert_eq!(settle(config), Err(error));
        }
    }
}
