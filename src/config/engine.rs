//! The settings of the engine: the log that several brokers share.

use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::engine::settings::{EngineAddress, MAX_REPLICAS, Password, Retention, Tls};
use crate::engine::{AckMode, EngineSettings, EngineUrl, EngineUrlError};

/// The default prefix of the engine's keys.
const PREFIX: &str = "{esker}";
/// The longest prefix, in characters, without its braces.
const MAX_PREFIX: usize = 64;
/// The bytes of memory that records may take in the engine, unless others are set.
const RECORDS: usize = 1 << 30;
/// The largest request body with an engine. Its events become one value in the engine, whose values have at most 512 MiB.
const MAX_BODY: usize = 256 << 20;

/// The engine's settings as a program sets them.
#[derive(Clone, Debug, Default)]
pub(super) struct EngineConfig {
    url: Option<Result<EngineUrl, EngineUrlError>>,
    ack: Option<AckMode>,
    prefix: Option<String>,
    records: Option<usize>,
    ca_file: Option<PathBuf>,
    password: Option<Password>,
}

impl Config {
    /// Lets several brokers share their topics and records through a log in Redis or Valkey, 7.0 or later. `url` is
    /// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, `rediss://…` with TLS, or `redis+sentinel://HOST,HOST,…/NAME` and
    /// `rediss+sentinel://…` for a server that sentinels know by this name. Default: none; the broker is on its own.
    ///
    /// Records are stored in the engine, too, as durably as its append-only file: see [`engine_records`](Config::engine_records).
    ///
    /// ```
    /// let config = esker::Config::new()
    ///     .engine("redis://127.0.0.1:6379")
    ///     .engine_ack(esker::AckMode::Fsync)
    ///     .engine_prefix("chat");
    /// ```
    #[must_use]
    pub fn engine(mut self, url: impl AsRef<str>) -> Self {
        self.engine.url = Some(url.as_ref().parse());
        self
    }

    /// Sets when a publish is acknowledged. Requires [`engine`](Config::engine). Default: [`AckMode::Fsync`] if the engine can
    /// prove it, otherwise [`AckMode::Reply`] and a warning.
    #[must_use]
    pub fn engine_ack(mut self, mode: AckMode) -> Self {
        self.engine.ack = Some(mode);
        self
    }

    /// Sets the prefix of all keys in the engine, 1 to 64 visible ASCII characters; brokers with the same prefix share their
    /// topics. It is put in braces, so that a cluster keeps all keys together. Requires [`engine`](Config::engine). Default:
    /// `{esker}`.
    #[must_use]
    pub fn engine_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.engine.prefix = Some(prefix.into());
        self
    }

    /// Sets how many bytes of memory records may take in the engine, about. More are refused. Requires
    /// [`engine`](Config::engine). Default: 1 GiB.
    #[must_use]
    pub fn engine_records(mut self, bytes: usize) -> Self {
        self.engine.records = Some(bytes);
        self
    }

    /// Sets the file with the certificates, in PEM, of the authorities to trust instead of the system's. Requires an
    /// [`engine`](Config::engine) with TLS.
    #[must_use]
    pub fn engine_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.engine.ca_file = Some(file.into());
        self
    }

    /// Sets the engine's password, which then must not be in the URL. Requires [`engine`](Config::engine). Default: none.
    #[must_use]
    pub fn engine_password(mut self, password: impl Into<String>) -> Self {
        self.engine.password = Some(Password(password.into()));
        self
    }

    /// Returns whether the engine's URL contains a password.
    #[cfg(feature = "cli")]
    pub(crate) fn has_password_in_url(&self) -> bool {
        matches!(&self.engine.url, Some(Ok(url)) if url.password.is_some())
    }

    /// Checks the settings of the engine; `None` if there is none.
    pub(crate) fn settle_engine(&self) -> Result<Option<EngineSettings>, ConfigError> {
        let Some(url) = &self.engine.url else { return self.engine.require_nothing() };
        let url = url.clone().map_err(ConfigError::Engine)?;
        if self.max_body > MAX_BODY {
            return Err(ConfigError::EngineBody);
        }
        let retention = Retention {
            age: self.history_age,
            bytes: self.history_bytes as u64,
            record_bytes: self.engine.records.unwrap_or(RECORDS) as u64,
            versions: self.settle_retention()?,
        };
        self.engine.settle(url, retention).map(Some)
    }
}

impl EngineConfig {
    /// Rejects settings that have no effect without an engine.
    fn require_nothing(&self) -> Result<Option<EngineSettings>, ConfigError> {
        let given = [
            ("engine_ack", self.ack.is_some()),
            ("engine_prefix", self.prefix.is_some()),
            ("engine_records", self.records.is_some()),
            ("engine_ca", self.ca_file.is_some()),
            ("engine_password", self.password.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(None),
            Some((name, _)) => Err(ConfigError::NoEngine(name)),
        }
    }

    fn settle(&self, url: EngineUrl, retention: Retention) -> Result<EngineSettings, ConfigError> {
        self.check_tls(&url.address)?;
        let password = self.settle_password(url.password)?;
        if url.user.is_some() && password.is_none() {
            return Err(ConfigError::EngineUser);
        }
        if matches!(self.ack, Some(AckMode::Replicas(count)) if !(1..=MAX_REPLICAS).contains(&count)) {
            return Err(ConfigError::EngineReplicas);
        }
        Ok(EngineSettings {
            address: url.address,
            user: url.user,
            password,
            database: url.database,
            ca_file: self.ca_file.clone(),
            prefix: self.settle_prefix()?,
            ack: self.ack,
            retention,
        })
    }

    fn check_tls(&self, address: &EngineAddress) -> Result<(), ConfigError> {
        let (EngineAddress::Server(_, tls) | EngineAddress::Sentinels(.., tls)) = address;
        match tls {
            _ if !cfg!(feature = "engine") => Err(ConfigError::NoFeature("engine")),
            Tls::On if !cfg!(feature = "tls") => Err(ConfigError::NoFeature("tls")),
            Tls::Off if self.ca_file.is_some() => Err(ConfigError::EngineCa),
            Tls::On | Tls::Off => Ok(()),
        }
    }

    fn settle_password(&self, in_url: Option<Password>) -> Result<Option<Password>, ConfigError> {
        match (in_url, &self.password) {
            (Some(_), Some(_)) => Err(ConfigError::TwoEnginePasswords),
            (in_url, given) => Ok(in_url.or_else(|| given.clone()).filter(|password| !password.0.is_empty())),
        }
    }

    /// Returns the prefix in braces: the part of a key that a cluster hashes.
    fn settle_prefix(&self) -> Result<String, ConfigError> {
        let given = self.prefix.as_deref().unwrap_or(PREFIX);
        let name = given.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(given);
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'{' && byte != b'}';
        if (1..=MAX_PREFIX).contains(&name.len()) && name.bytes().all(is_allowed) {
            Ok(format!("{{{name}}}"))
        } else {
            Err(ConfigError::EnginePrefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settle(config: Config) -> Result<EngineSettings, ConfigError> {
        config.no_auth(true).port(0).settle(1000).map(|settings| settings.engine.expect("an engine was set"))
    }

    fn local() -> Config {
        Config::new().engine("redis://127.0.0.1")
    }

    #[test]
    fn without_an_engine_there_are_no_settings_of_one() {
        let settle = |config: Config| config.no_auth(true).port(0).settle(1000).map(|settings| settings.engine);
        assert_eq!(settle(Config::new()), Ok(None));
        for (config, name) in [
            (Config::new().engine_ack(AckMode::Reply), "engine_ack"),
            (Config::new().engine_prefix("x"), "engine_prefix"),
            (Config::new().engine_ca("f"), "engine_ca"),
            (Config::new().engine_password("x"), "engine_password"),
        ] {
            assert_eq!(settle(config), Err(ConfigError::NoEngine(name)));
        }
    }

    #[cfg(not(feature = "engine"))]
    #[test]
    fn a_build_without_the_feature_refuses_an_engine() {
        assert_eq!(settle(local()), Err(ConfigError::NoFeature("engine")));
    }

    #[cfg(feature = "engine")]
    #[test]
    fn the_retention_is_that_of_the_history() {
        let settings = settle(local().history_age(Duration::from_secs(7)).history_bytes(9)).unwrap();
        assert_eq!(
            settings.retention,
            Retention {
                age: Duration::from_secs(7),
                bytes: 9,
                record_bytes: RECORDS as u64,
                versions: crate::records::retention::Retention::ALL
            }
        );
        assert_eq!((settings.ack, settings.prefix.as_str(), settings.database), (None, "{esker}", 0));
        assert_eq!(settings.to_string(), "redis://127.0.0.1:6379");
    }

    #[cfg(feature = "engine")]
    #[test]
    fn the_prefix_gets_braces() {
        let prefix = |text: &str| settle(local().engine_prefix(text)).map(|settings| settings.prefix);
        let longest = "x".repeat(64);
        assert_eq!(prefix("chat:1"), Ok("{chat:1}".into()));
        assert_eq!(prefix("{chat}"), Ok("{chat}".into()));
        assert_eq!(prefix(&longest), Ok(format!("{{{longest}}}")));
        for bad in ["", "{}", "a{b}", "{a}b", "{a}{b}", "{a", "a}", "a b", "é", "\n", &format!("x{longest}")] {
            assert_eq!(prefix(bad), Err(ConfigError::EnginePrefix), "{bad}");
        }
    }

    #[cfg(feature = "engine")]
    #[test]
    fn there_is_one_password_and_it_is_never_shown() {
        let of_url = Config::new().engine("redis://:s3cret@h");
        let password = |config: Config| settle(config).map(|settings| settings.password.map(|password| password.0));
        assert_eq!(password(local()), Ok(None));
        assert_eq!(password(local().engine_password("s3cret")), Ok(Some("s3cret".into())));
        assert_eq!(password(of_url.clone()), Ok(Some("s3cret".into())));
        assert_eq!(password(of_url.clone().engine_password("x")), Err(ConfigError::TwoEnginePasswords));
        assert_eq!(password(Config::new().engine("redis://s3cret@h")), Err(ConfigError::EngineUser));
        let with_user = Config::new().engine("redis://u@h").engine_password("s3cret");
        let settings = settle(with_user.clone()).unwrap();
        assert_eq!(settings.to_string(), "redis://u@h:6379");
        let wrong = Config::new().engine("redis://:s3cret/@h");
        let shown = format!("{with_user:?} {of_url:?} {settings:?} {wrong:?} {}", settle(wrong.clone()).unwrap_err());
        assert!(shown.contains("%2F") && !shown.contains("s3cret"), "{shown}");
    }

    #[cfg(feature = "engine")]
    #[test]
    fn invalid_settings_are_refused() {
        let tls = Config::new().engine("rediss://h");
        let no_tls = if cfg!(feature = "tls") { None } else { Some(ConfigError::NoFeature("tls")) };
        assert_eq!(settle(tls.engine_ca("f")).err(), no_tls);
        for (config, error) in [
            (Config::new().engine("http://h"), ConfigError::Engine(EngineUrlError::Scheme)),
            (local().engine_ca("f"), ConfigError::EngineCa),
            (local().engine_ack(AckMode::Replicas(0)), ConfigError::EngineReplicas),
            (local().engine_ack(AckMode::Replicas(101)), ConfigError::EngineReplicas),
            (local().max_body((256 << 20) + 1), ConfigError::EngineBody),
        ] {
            assert_eq!(settle(config), Err(error));
        }
        assert!(settle(local().max_body(256 << 20).engine_ack(AckMode::Replicas(100))).is_ok());
    }
}
