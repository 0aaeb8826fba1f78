//! What an operator can set. [`Config`] is what was asked for; [`Settings`] is what holds, with
//! every default filled in: every bound has a name and a unit.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::http::Origins;
use crate::sse::MAX_DATA;

/// Descriptors that are no connections: standard streams, polls, wakers, the listener, and some to spare.
const RESERVED_DESCRIPTORS: usize = 32;
/// Descriptors per worker: its poll and its waker.
const DESCRIPTORS_PER_WORKER: usize = 2;
/// Connections kept free of subscribers by default, so that publishers still get in.
const CONNECTIONS_FOR_REQUESTS: usize = 64;

/// How a broker is to run. Everything has the default that `esker --help` shows.
///
/// ```
/// use std::time::Duration;
/// let config = esker::Config::new().no_auth(true).port(0).heartbeat(Duration::from_secs(5)).origin("https://example.com");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    bind: IpAddr,
    port: Option<u16>,
    threads: Option<usize>,
    no_auth: bool,
    origins: Vec<String>,
    history: usize,
    history_age: Duration,
    history_bytes: usize,
    heartbeat: Duration,
    retry: Duration,
    stall: Duration,
    request_timeout: Duration,
    max_body: usize,
    max_topics: usize,
    max_subscribers: Option<usize>,
    max_connections: Option<usize>,
    max_connections_per_ip: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: IpAddr::from([127, 0, 0, 1]),
            port: None,
            threads: None,
            no_auth: false,
            origins: Vec::new(),
            history: 256,
            history_age: Duration::from_secs(600),
            history_bytes: 256 << 20,
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(3),
            stall: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            max_body: 1 << 20,
            max_topics: 1_000_000,
            max_subscribers: None,
            max_connections: None,
            max_connections_per_ip: None,
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The address to listen on; 127.0.0.1 by default.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = address;
        self
    }

    /// The port to listen on, 0 for any free one. By default the environment's `PORT`, else 3000.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The number of worker threads; by default that of the processor's cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Lets everybody publish and subscribe.
    #[must_use]
    pub fn no_auth(mut self, no_auth: bool) -> Self {
        self.no_auth = no_auth;
        self
    }

    /// Lets pages of this origin read answers; `*` is every origin, and the default. Repeatable.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Events that each topic retains.
    #[must_use]
    pub fn history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Age after which an event is no longer retained.
    #[must_use]
    pub fn history_age(mut self, age: Duration) -> Self {
        self.history_age = age;
        self
    }

    /// Bytes that all topics together retain.
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Silence after which a subscriber gets a comment line.
    #[must_use]
    pub fn heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = silence;
        self
    }

    /// The reconnection time that clients are told, give or take a third.
    #[must_use]
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = retry;
        self
    }

    /// Time after which a socket that takes no byte is closed.
    #[must_use]
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Time that a request's head may take; a body may stand still for three times as long.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The largest request body in bytes.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Topics that retain an event or have a listener.
    #[must_use]
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// Subscribers; by default a few less than connections.
    #[must_use]
    pub fn max_subscribers(mut self, subscribers: usize) -> Self {
        self.max_subscribers = Some(subscribers);
        self
    }

    /// Connections; by default what the descriptor limit allows.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Connections from one address; unlimited by default.
    #[must_use]
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.max_connections_per_ip = Some(connections);
        self
    }

    /// Fills the defaults in, and refuses what can't hold. `descriptors` is the process's limit.
    pub(crate) fn settle(&self, descriptors: usize) -> Result<Settings, ConfigError> {
        if !self.no_auth {
            return Err(ConfigError::NoKeys);
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or_else(cores);
        if !(1..=1024).contains(&threads) {
            return Err(ConfigError::Threads);
        }
        self.check_bounds()?;
        let by_descriptors = descriptors.saturating_sub(RESERVED_DESCRIPTORS + DESCRIPTORS_PER_WORKER * threads);
        let max_connections = self.max_connections.unwrap_or(by_descriptors).min(by_descriptors);
        if max_connections == 0 {
            return Err(ConfigError::Descriptors);
        }
        let for_requests = CONNECTIONS_FOR_REQUESTS.min(max_connections / 4);
        Ok(Settings {
            bind: self.bind,
            port: self.settle_port()?,
            threads,
            origins: self.settle_origins()?,
            history: self.history,
            history_age: self.history_age,
            history_bytes: self.history_bytes,
            heartbeat: self.heartbeat,
            retry: self.retry,
            stall: self.stall,
            request_timeout: self.request_timeout,
            max_body: self.max_body,
            max_topics: self.max_topics,
            max_subscribers: self.max_subscribers.unwrap_or(max_connections - for_requests),
            max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
        })
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        for (name, duration) in
            [("heartbeat", self.heartbeat), ("stall", self.stall), ("request-timeout", self.request_timeout)]
        {
            if duration < Duration::from_millis(10) || duration > Duration::from_secs(86_400) {
                return Err(ConfigError::Duration(name));
            }
        }
        if self.max_body > MAX_DATA {
            return Err(ConfigError::Body);
        }
        for (name, limit) in
            [("max-connections", self.max_connections), ("max-connections-per-ip", self.max_connections_per_ip)]
        {
            if limit == Some(0) {
                return Err(ConfigError::Zero(name));
            }
        }
        Ok(())
    }

    fn settle_port(&self) -> Result<u16, ConfigError> {
        let environment = std::env::var("PORT").ok().filter(|text| !text.is_empty());
        match (self.port, environment) {
            (Some(port), _) => Ok(port),
            (None, Some(text)) => text.parse().map_err(|_| ConfigError::Port(text)),
            (None, None) => Ok(3000),
        }
    }

    fn settle_origins(&self) -> Result<Origins, ConfigError> {
        if self.origins.is_empty() || self.origins.iter().any(|origin| origin == "*") {
            return Ok(Origins::Any);
        }
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            Some(bad) => Err(ConfigError::Origin(bad.clone())),
            None => Ok(Origins::Listed(self.origins.clone())),
        }
    }
}

/// A serialized origin (RFC 6454 section 6.2), or `null`, which sandboxed pages send.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map(|(_, host)| host);
    text == "null"
        || host
            .is_some_and(|host| !host.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) && !host.contains('/'))
}

/// Why a broker can't start as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Authentication is on and there are no keys.
    NoKeys,
    /// Not 1 to 1024 threads.
    Threads,
    /// This duration is not between 10 ms and a day.
    Duration(&'static str),
    /// The environment's `PORT` is no port.
    Port(String),
    /// No origin such as a browser sends.
    Origin(String),
    /// A body could be larger than an event may be.
    Body,
    /// With none of these the broker could not be reached.
    Zero(&'static str),
    /// The descriptor limit leaves no connection.
    Descriptors,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeys => f.write_str(
                "authentication is on, but there are no keys; \
                 set ESKER_PUBLISHER_SECRET and ESKER_SUBSCRIBER_SECRET (at least 32 bytes each) to use tokens, \
                 or start with --no-auth to let everybody publish and subscribe \
                 (this version can't check tokens yet, so --no-auth is the one that works)",
            ),
            Self::Threads => f.write_str("--threads must be 1 to 1024"),
            Self::Duration(name) => write!(f, "--{name} must be between 10ms and 24h"),
            Self::Port(text) => write!(f, "the environment's PORT is {text:?}, which is no port from 0 to 65535"),
            Self::Origin(text) => {
                write!(f, "--origin {text:?} is no origin; give a scheme and host such as https://example.com, or *")
            }
            Self::Body => f.write_str("--max-body must be at most 1G"),
            Self::Zero(name) => write!(f, "--{name} must be at least 1"),
            Self::Descriptors => f.write_str("the descriptor limit leaves no connection; raise it (ulimit -n)"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A configuration with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port; 0 is any free one.
    pub port: u16,
    /// Worker threads.
    pub threads: usize,
    /// Who may read answers from a page.
    pub origins: Origins,
    /// Events retained per topic.
    pub history: usize,
    /// Age of the oldest event retained.
    pub history_age: Duration,
    /// Bytes retained in all.
    pub history_bytes: usize,
    /// Silence after which a comment line is sent.
    pub heartbeat: Duration,
    /// Reconnection time.
    pub retry: Duration,
    /// Time after which a socket that takes no byte is closed.
    pub stall: Duration,
    /// Time that a request's head may take.
    pub request_timeout: Duration,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Topics that retain an event or have a listener.
    pub max_topics: usize,
    /// Subscribers.
    pub max_subscribers: usize,
    /// Connections.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: Option<usize>,
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

    #[test]
    fn origins_are_checked() {
        let settle =
            |origin: &str| Config::new().no_auth(true).port(0).origin(origin).settle(1000).map(|set| set.origins);
        assert_eq!(settle("*"), Ok(Origins::Any));
        assert_eq!(settle("https://a.example"), Ok(Origins::Listed(vec!["https://a.example".into()])));
        for bad in ["example.com", "https://a.example/", "https://", "https://a\r\nb"] {
            assert_eq!(settle(bad), Err(ConfigError::Origin(bad.into())));
        }
    }
}
