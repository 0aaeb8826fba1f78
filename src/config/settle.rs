//! Turns a [`Config`] into [`Settings`]: fills in the defaults and rejects invalid values.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use super::settings::{MAX_ADMIN_CONNECTIONS, MAX_LISTENERS, MAX_RATE};
use super::{Access, Config, ConfigError, ListenAddress, Settings, TrustedProxies};
use crate::http::Origins;
use crate::http::origin::OriginPattern;
use crate::quota::Rate;
use crate::records::retention::Retention;
use crate::sse::MAX_DATA;
use crate::store::{self, Location};

/// Descriptors that are not used for connections: standard streams, the store's files, and a few to spare.
const RESERVED_DESCRIPTORS: usize = 31;
/// Descriptors per worker: its poller and its waker.
const DESCRIPTORS_PER_WORKER: usize = 2;
/// The default address.
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const PORT: u16 = 3000;
/// The default burst: the events of this many seconds at the rate.
const BURST_SECONDS: usize = 10;
/// The longest drain: an operator who stops a broker waits for it.
const MAX_DRAIN: Duration = Duration::from_secs(3_600);
/// Connections that subscribers can't use by default, so that publishers can still connect.
const CONNECTIONS_FOR_REQUESTS: usize = 64;

impl Config {
    /// Fills in the defaults and checks all values. `descriptors` is the process's descriptor limit.
    pub(crate) fn settle(&self, descriptors: usize) -> Result<Settings, ConfigError> {
        let access = if self.no_auth { Access::Everybody } else { self.tokens.settle_access()? };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(cores);
        if !(1..=1024).contains(&threads) {
            return Err(ConfigError::Threads);
        }
        self.check_bounds()?;
        self.check_tokens()?;
        let port = std::env::var("PORT").ok();
        if let Some(link) = port.as_deref().filter(|text| self.port.is_none() && is_service_link(text)) {
            log::warn!("PORT={link} is ignored: the container platform set it to the address of a service");
        }
        let listen = self.settle_addresses(port)?;
        let for_admin = self.admin.as_ref().map_or(0, |_| 1 + MAX_ADMIN_CONNECTIONS);
        let reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_PER_WORKER * threads + listen.len() + for_admin;
        let by_descriptors = descriptors.saturating_sub(reserved);
        let max_connections = self.max_connections.unwrap_or(by_descriptors).min(by_descriptors);
        if max_connections == 0 {
            return Err(ConfigError::Descriptors);
        }
        let engine = self.settle_engine()?;
        let is_shared = engine.is_some();
        let for_requests = CONNECTIONS_FOR_REQUESTS.min(max_connections / 4);
        Ok(Settings {
            listen,
            unix_mode: self.unix_mode,
            admin: self.admin.clone(),
            threads,
            access,
            claims: self.tokens.settle_claims()?,
            console: self.console,
            data: self.settle_data(is_shared),
            unused_data: self.data.clone().filter(|_| is_shared),
            engine,
            latest_bytes: self.latest_bytes,
            retention: self.settle_retention()?,
            origins: self.settle_origins()?,
            history: self.history,
            history_age: self.history_age,
            history_bytes: self.history_bytes,
            heartbeat: self.heartbeat,
            retry: self.retry,
            stall: self.stall,
            max_stream_age: self.max_stream_age,
            drain: self.drain,
            request_timeout: self.request_timeout,
            keep_alive: self.keep_alive,
            max_body: self.max_body,
            max_topics: self.max_topics,
            max_subscribers: self.max_subscribers.unwrap_or(max_connections - for_requests),
            max_subscribers_per_sub: self.max_subscribers_per_sub,
            max_connections,
            descriptors: reserved + max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            trusted_proxies: TrustedProxies::parse(&self.trusted_proxies)
                .map_err(|text| ConfigError::TrustedProxy(text.to_owned()))?,
            publish_rate: self.settle_rate()?,
            access_log: self.access_log.clone(),
        })
    }

    /// Returns where this broker stores records; `None` if the engine does, or if it was built without records.
    fn settle_data(&self, is_shared: bool) -> Option<Location> {
        let is_stored = store::IS_AVAILABLE && !is_shared;
        is_stored.then(|| self.data.clone().unwrap_or_default())
    }

    pub(super) fn settle_retention(&self) -> Result<Retention, ConfigError> {
        if self.versions_age.is_some_and(|age| age.is_zero()) {
            return Err(ConfigError::Zero("versions_age"));
        }
        let versions = self.versions.map(|versions| NonZeroU64::new(versions).ok_or(ConfigError::Zero("versions")));
        Ok(Retention { versions: versions.transpose()?, age: self.versions_age })
    }

    /// Rejects limits per token if there are no tokens.
    fn check_tokens(&self) -> Result<(), ConfigError> {
        let by_token = [("max_subscribers_per_sub", self.max_subscribers_per_sub), ("publish_rate", self.publish_rate)];
        match by_token.into_iter().find(|(_, limit)| self.no_auth && limit.is_some()) {
            None => Ok(()),
            Some((name, _)) => Err(ConfigError::NoTokens(name)),
        }
    }

    fn settle_rate(&self) -> Result<Option<Rate>, ConfigError> {
        let Some(per_second) = self.publish_rate else {
            return if self.publish_burst.is_some() { Err(ConfigError::NoRate) } else { Ok(None) };
        };
        let by_default = (per_second * BURST_SECONDS).min(MAX_RATE);
        let burst = self.publish_burst.unwrap_or(by_default);
        Ok(Some(Rate { per_second: per_second as u64, burst: burst as u64 }))
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        for (name, duration) in [
            ("heartbeat", self.heartbeat),
            ("stall", self.stall),
            ("request_timeout", self.request_timeout),
            ("keep_alive", self.keep_alive),
        ] {
            if duration < Duration::from_millis(10) || duration > Duration::from_secs(86_400) {
                return Err(ConfigError::Duration(name));
            }
        }
        if self.max_stream_age.is_some_and(|age| age < Duration::from_secs(1)) {
            return Err(ConfigError::StreamAge);
        }
        if self.drain > MAX_DRAIN {
            return Err(ConfigError::Drain);
        }
        if self.max_body > MAX_DATA {
            return Err(ConfigError::Body);
        }
        for (name, limit) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_ip", self.max_connections_per_ip),
            ("max_subscribers_per_sub", self.max_subscribers_per_sub),
            ("publish_rate", self.publish_rate),
            ("publish_burst", self.publish_burst),
        ] {
            if limit == Some(0) {
                return Err(ConfigError::Zero(name));
            }
        }
        for (name, limit) in [("publish_rate", self.publish_rate), ("publish_burst", self.publish_burst)] {
            if limit.is_some_and(|limit| limit > MAX_RATE) {
                return Err(ConfigError::Rate(name));
            }
        }
        Ok(())
    }

    /// Returns the address for health checks: that for administration, otherwise the first one. `port` is the environment's
    /// `PORT`.
    #[cfg(feature = "cli")]
    pub(crate) fn health_address(&self, port: Option<String>) -> Result<Option<ListenAddress>, ConfigError> {
        match &self.admin {
            Some(admin) => Ok(Some(admin.clone())),
            None => Ok(self.settle_addresses(port)?.into_iter().next()),
        }
    }

    fn settle_addresses(&self, port: Option<String>) -> Result<Vec<ListenAddress>, ConfigError> {
        let port = self.settle_port(port)?;
        let is_elsewhere = self.inherits_sockets || !self.listen.is_empty();
        let default = match (self.bind, port) {
            (None, None) if is_elsewhere => None,
            (bind, port) => Some(SocketAddr::new(bind.unwrap_or(LOOPBACK), port.unwrap_or(PORT))),
        };
        let addresses: Vec<_> =
            default.map(ListenAddress::Tcp).into_iter().chain(self.listen.iter().cloned()).collect();
        if addresses.len() > MAX_LISTENERS {
            return Err(ConfigError::Addresses);
        }
        Ok(addresses)
    }

    fn settle_port(&self, environment: Option<String>) -> Result<Option<u16>, ConfigError> {
        let environment = environment.filter(|text| !text.is_empty() && !is_service_link(text));
        match (self.port, environment) {
            (None, Some(text)) => text.parse().map(Some).map_err(|_| ConfigError::Port(text)),
            (port, _) => Ok(port),
        }
    }

    fn settle_origins(&self) -> Result<Origins, ConfigError> {
        let is_any = |origin: &String| origin == "*";
        match self.origins.as_slice() {
            // A page on the web must not read from or write to the broker of a user who is trying it out.
            [] if self.no_auth => return Ok(Origins::Local),
            all if all.iter().all(is_any) => return Ok(Origins::Any),
            all if all.iter().any(is_any) => return Err(ConfigError::MixedOrigins),
            _ => {}
        }
        let pattern = |text: &String| OriginPattern::parse(text).ok_or_else(|| ConfigError::Origin(text.clone()));
        self.origins.iter().map(pattern).collect::<Result<_, _>>().map(Origins::Listed)
    }
}

/// Returns whether a variable's value is the address of a service, as Kubernetes and Docker set it in the other containers:
/// `ESKER_PORT=tcp://10.96.0.17:3000` for a service that is named esker.
pub fn is_service_link(text: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_descriptor_limit() {
        let settings = Config::new().no_auth(true).port(0).threads(2).settle(20_000).unwrap();
        assert_eq!((settings.max_connections, settings.max_subscribers), (19_964, 19_900));
        let few = Config::new().no_auth(true).port(0).threads(2).max_connections(8).settle(20_000).unwrap();
        assert_eq!((few.max_connections, few.max_subscribers), (8, 6));
        assert_eq!(Config::new().no_auth(true).settle(20).unwrap_err(), ConfigError::Descriptors);
    }

    #[cfg(all(feature = "engine", feature = "records"))]
    #[test]
    fn with_an_engine_no_records_are_stored_by_the_broker() {
        let settle = |config: Config| {
            let settings = config.no_auth(true).port(0).settle(1000).unwrap();
            (settings.data, settings.unused_data)
        };
        let shared = || Config::new().engine("redis://h");
        assert_eq!(settle(Config::new()), (Some(Location::Directory("esker-data".into())), None));
        assert_eq!(settle(Config::new().in_memory()), (Some(Location::Memory), None));
        assert_eq!(settle(shared()), (None, None));
        assert_eq!(settle(shared().in_memory()), (None, Some(Location::Memory)));
        assert_eq!(settle(shared().data("d")), (None, Some(Location::Directory("d".into()))));
    }

    #[test]
    fn streams_last_for_a_second_at_least() {
        let settle = |millis| {
            let config = Config::new().no_auth(true).port(0).max_stream_age(Duration::from_millis(millis));
            config.settle(1000).map(|settings| settings.max_stream_age)
        };
        assert_eq!(settle(1000), Ok(Some(Duration::from_secs(1))));
        assert_eq!(settle(999), Err(ConfigError::StreamAge));
    }

    #[test]
    fn a_drain_takes_an_hour_at_most() {
        let settle = |seconds| {
            let config = Config::new().no_auth(true).port(0).drain(Duration::from_secs(seconds));
            config.settle(1000).map(|settings| settings.drain)
        };
        assert_eq!(settle(3_600), Ok(Duration::from_secs(3_600)));
        assert_eq!(settle(3_601), Err(ConfigError::Drain));
    }

    #[test]
    fn other_addresses_replace_the_default_one_unless_it_was_requested() {
        let settle = |config: Config| {
            let addresses = config.no_auth(true).settle(1000).unwrap().listen;
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let unix = || Config::new().listen("unix:/run/x".parse::<ListenAddress>().unwrap());
        assert_eq!(settle(unix()), ["unix:/run/x"]);
        assert_eq!(settle(unix().port(0)), ["http://127.0.0.1:0", "unix:/run/x"]);
        assert_eq!(settle(unix().bind([0; 4].into())), ["http://0.0.0.0:3000", "unix:/run/x"]);
        assert_eq!(settle(Config::new().inherit_sockets()), [""; 0]);
        assert_eq!(settle(Config::new().inherit_sockets().port(1)), ["http://127.0.0.1:1"]);
        assert_eq!(settle(Config::new()), ["http://127.0.0.1:3000"]);
    }

    #[test]
    fn the_port_of_the_environment_may_be_a_service_link() {
        let settle = |text: &str| Config::new().settle_port(Some(text.into()));
        assert_eq!((settle("80"), settle("")), (Ok(Some(80)), Ok(None)));
        for link in ["tcp://10.96.0.17:3000", "udp://10.96.0.17:53", "sctp://[fd00::1]:9"] {
            assert_eq!(settle(link), Ok(None), "{link}");
        }
        for wrong in ["http://10.96.0.17:3000", "tcp:80", "x"] {
            assert_eq!(settle(wrong), Err(ConfigError::Port(wrong.into())));
        }
    }

    #[test]
    fn limits_per_token_require_tokens() {
        let settle = |config: Config| {
            let long = vec![b'x'; 32];
            let config = config.port(0).publisher_secret(long.clone()).subscriber_secret(long);
            config.settle(1000).map(|settings| (settings.max_subscribers_per_sub, settings.publish_rate))
        };
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        assert_eq!(settle(Config::new()), Ok((None, None)));
        assert_eq!(settle(Config::new().max_subscribers_per_sub(5)), Ok((Some(5), None)));
        assert_eq!(settle(Config::new().publish_rate(5)), Ok((None, rate(5, 50))));
        assert_eq!(settle(Config::new().publish_rate(MAX_RATE)), Ok((None, rate(1_000_000, 1_000_000))));
        assert_eq!(settle(Config::new().publish_rate(5).publish_burst(1)), Ok((None, rate(5, 1))));
        for (config, error) in [
            (Config::new().publish_burst(5), ConfigError::NoRate),
            (Config::new().publish_rate(0), ConfigError::Zero("publish_rate")),
            (Config::new().publish_rate(5).publish_burst(0), ConfigError::Zero("publish_burst")),
            (Config::new().publish_rate(MAX_RATE + 1), ConfigError::Rate("publish_rate")),
            (Config::new().publish_rate(1).publish_burst(usize::MAX), ConfigError::Rate("publish_burst")),
            (Config::new().versions(0), ConfigError::Zero("versions")),
            (Config::new().versions_age(Duration::ZERO), ConfigError::Zero("versions_age")),
            (Config::new().max_subscribers_per_sub(0), ConfigError::Zero("max_subscribers_per_sub")),
            (Config::new().publish_rate(5).no_auth(true), ConfigError::NoTokens("publish_rate")),
            (Config::new().max_subscribers_per_sub(5).no_auth(true), ConfigError::NoTokens("max_subscribers_per_sub")),
        ] {
            assert_eq!(settle(config), Err(error));
        }
    }

    #[test]
    fn origins_are_checked() {
        let settle = |origins: &[&str]| {
            let config = Config::new().no_auth(true).port(0);
            let config = origins.iter().fold(config, |config, &origin| config.origin(origin));
            config.settle(1000).map(|settings| settings.origins)
        };
        let exact = |text: &str| OriginPattern::Exact(text.into());
        assert_eq!(settle(&["*"]), Ok(Origins::Any));
        assert_eq!(settle(&["*", "https://a.example"]), Err(ConfigError::MixedOrigins));
        assert_eq!(
            settle(&["https://a.example", "null"]),
            Ok(Origins::Listed(vec![exact("https://a.example"), exact("null")]))
        );
        assert!(settle(&["https://*.a.example"]).is_ok());
        for bad in ["example.com", "https://a.example/", "https://*"] {
            assert_eq!(settle(&["https://b.example", bad]), Err(ConfigError::Origin(bad.into())));
        }
    }

    #[test]
    fn only_without_authentication_the_default_origins_are_local() {
        let long = vec![b'x'; 32];
        let with_tokens = Config::new().port(0).publisher_secret(long.clone()).subscriber_secret(long);
        assert_eq!(with_tokens.settle(1000).unwrap().origins, Origins::Any);
        assert_eq!(with_tokens.no_auth(true).settle(1000).unwrap().origins, Origins::Local);
    }
}
