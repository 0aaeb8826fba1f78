//! The checked configuration, with every default filled in, and why a configuration is invalid.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{AccessLog, ListenAddress, TrustedProxies};
use crate::auth::{ClaimRules, KeyError, Role, Secret};
use crate::engine::settings::MAX_REPLICAS;
use crate::engine::{EngineSettings, EngineUrlError};
use crate::http::Origins;
use crate::quota::Rate;
use crate::records::retention::Retention;
use crate::store::Location;

/// The largest number of addresses to listen on: each uses a token of the first worker's poller.
pub const MAX_LISTENERS: usize = 32;
/// The largest number of connections to the address for administration. They don't count as [`Settings::max_connections`], so
/// that a full broker can still be monitored.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The largest rate, in events per second, and the largest burst, in events.
pub const MAX_RATE: usize = 1_000_000;

/// A configuration with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses to listen on, besides inherited sockets.
    pub listen: Vec<ListenAddress>,
    /// The permissions of the files of Unix sockets.
    pub unix_mode: u32,
    /// The address of the routes for administration, if they have one of their own.
    pub admin: Option<ListenAddress>,
    /// The number of worker threads.
    pub threads: usize,
    /// Which requests are accepted.
    pub access: Access,
    /// What tokens must claim.
    pub claims: ClaimRules,
    /// Whether `GET /` has the console.
    pub console: bool,
    /// Where this broker stores records. `None` if the engine does, or if it was built without records.
    pub data: Option<Location>,
    /// A location that was set, and is not used because the engine stores the records.
    pub unused_data: Option<Location>,
    /// The log that several brokers share.
    pub engine: Option<EngineSettings>,
    /// The bytes of memory for the newest record of every name.
    pub latest_bytes: usize,
    /// Which versions of records are kept.
    pub retention: Retention,
    /// The origins whose pages may read responses.
    pub origins: Origins,
    /// Events retained per topic.
    pub history: usize,
    /// Age of the oldest event retained.
    pub history_age: Duration,
    /// Bytes retained of all topics together.
    pub history_bytes: usize,
    /// How long a stream may be silent before it gets a comment line.
    pub heartbeat: Duration,
    /// The reconnection time that clients receive.
    pub retry: Duration,
    /// How long a stream's socket may accept no byte, and how long a response may be accepted too slowly.
    pub stall: Duration,
    /// The age at which a stream ends at the latest.
    pub max_stream_age: Option<Duration>,
    /// The time over which streams end when the broker stops.
    pub drain: Duration,
    /// The time limit for a request's head, and for a body that is discarded.
    pub request_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// The largest request body in bytes.
    pub max_body: usize,
    /// The largest number of topics that retain an event or have a listener.
    pub max_topics: usize,
    /// The largest number of subscribers.
    pub max_subscribers: usize,
    /// The largest number of subscribers whose tokens have the same `sub`.
    pub max_subscribers_per_sub: Option<usize>,
    /// The largest number of connections.
    pub max_connections: usize,
    /// The largest number of descriptors: those of the connections, and what the broker needs otherwise.
    pub descriptors: usize,
    /// The largest number of connections from one address.
    pub max_connections_per_ip: Option<usize>,
    /// The peers whose `X-Forwarded-For` has the client's address.
    pub trusted_proxies: TrustedProxies,
    /// The rate limit of one publisher.
    pub publish_rate: Option<Rate>,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
}

/// Which requests are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// All requests (`no_auth`).
    Everybody,
    /// Requests with a token that one of these keys verifies.
    Tokens {
        /// Verifies publishers' tokens.
        publisher: RoleKey,
        /// Verifies subscribers' tokens.
        subscriber: RoleKey,
    },
}

/// The keys of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKey {
    /// Where the keys in use come from.
    pub source: KeySource,
    /// The previous secret, whose tokens are still accepted.
    pub previous: Option<Secret>,
}

impl RoleKey {
    /// Returns whether the previous secret is this one.
    pub fn accepts(&self, source: &KeySource) -> bool {
        matches!((&self.previous, source), (Some(previous), KeySource::Secret(secret)) if previous == secret)
    }
}

/// Where a role's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// An HMAC secret.
    Secret(Secret),
    /// A file with an HMAC secret.
    SecretFile(PathBuf),
    /// A file with a public key in PEM, or with a JWK Set.
    File(PathBuf),
}

impl KeySource {
    /// Returns whether the keys are in a file, which may change.
    pub fn is_file(&self) -> bool {
        !matches!(self, Self::Secret(_))
    }
}

/// Why a configuration is invalid.
///
/// A setting is named as the method of [`Config`](crate::Config) that sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Authentication is on, and there are no keys.
    NoKeys,
    /// Authentication is on, and this role has no key.
    NoKey(Role),
    /// This role has more than one of a secret, a secret file and a key file.
    TwoKeys(Role),
    /// This role's secret can't be used.
    Secret(Role, KeyError),
    /// This role's previous secret can't be used.
    PreviousSecret(Role, KeyError),
    /// This setting is an empty text.
    Empty(&'static str),
    /// `leeway` is longer than 10 minutes.
    Leeway,
    /// The claim of this name can't be `topics_claim`, because it has a meaning of its own.
    TopicsClaim(String),
    /// There are not 1 to 1024 threads.
    Threads,
    /// This duration is not between 10 ms and a day.
    Duration(&'static str),
    /// Streams would end after less than a second.
    StreamAge,
    /// Stopping would take more than an hour.
    Drain,
    /// There are more than 32 addresses to listen on.
    Addresses,
    /// There is more than one address for administration.
    Administrations,
    /// The environment's `PORT` is not a port.
    Port(String),
    /// An origin is not written as browsers send it.
    Origin(String),
    /// `*` was combined with other origins.
    MixedOrigins,
    /// This is not a proxy's address, a network or `unix`.
    TrustedProxy(String),
    /// `max_body` is larger than an event may be.
    Body,
    /// This limit is zero.
    Zero(&'static str),
    /// This rate or burst is larger than 1 000 000 events.
    Rate(&'static str),
    /// There is a burst, but no rate.
    NoRate,
    /// This limit counts per token, and authentication is off.
    NoTokens(&'static str),
    /// The descriptor limit leaves no connection.
    Descriptors,
    /// The engine's URL is invalid.
    Engine(EngineUrlError),
    /// This setting has no effect without an engine.
    NoEngine(&'static str),
    /// The engine requires this feature of the library, which this build does not have.
    NoFeature(&'static str),
    /// `engine_prefix` is not 1 to 64 visible ASCII characters, or contains braces.
    EnginePrefix,
    /// `engine_ack` requires no replica, or more than 100.
    EngineReplicas,
    /// There is a file with certificates, but the engine's URL does not ask for TLS.
    EngineCa,
    /// The engine's URL has a user name, and there is no password.
    EngineUser,
    /// The engine's password was set twice.
    TwoEnginePasswords,
    /// `max_body` is larger than what an engine stores.
    EngineBody,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeys => f.write_str(
                "authentication is on, but there are no keys; set `publisher_secret` and `subscriber_secret` (at \
                 least 32 bytes each, for example from `openssl rand -base64 48`) or use `publisher_key` and \
                 `subscriber_key` to verify tokens, or start with `no_auth` to let everybody publish and subscribe",
            ),
            Self::NoKey(role) => write!(
                f,
                "authentication is on, but the {role} key is missing; set `{role}_secret` or use `{role}_key`, or \
                 start with `no_auth` to let everybody publish and subscribe"
            ),
            Self::TwoKeys(role) => {
                write!(
                    f,
                    "there are several {role} keys; set only one of `{role}_secret`, `{role}_secret_file` and \
                     `{role}_key`"
                )
            }
            Self::Secret(role, error) => write!(f, "`{role}_secret` {error}"),
            Self::PreviousSecret(role, error) => write!(f, "`{role}_secret_previous` {error}"),
            Self::Empty(name) => write!(f, "`{name}` must not be empty"),
            Self::Leeway => f.write_str("`leeway` must be at most 10m"),
            Self::TopicsClaim(name) => write!(
                f,
                "`topics_claim` can't be {name:?}, which has a meaning of its own; use the name of a claim that is a \
                 list of topics"
            ),
            Self::Threads => f.write_str("`threads` must be between 1 and 1024"),
            Self::Duration(name) => write!(f, "`{name}` must be between 10ms and 24h"),
            Self::StreamAge => f.write_str("`max_stream_age` must be at least 1s"),
            Self::Drain => f.write_str("`drain` must be at most 1h"),
            Self::Addresses => write!(
                f,
                "a broker listens on at most {MAX_LISTENERS} addresses; use fewer `listen` options or pass fewer \
                 sockets"
            ),
            Self::Administrations => f.write_str(
                "there are several addresses for administration; use either `admin` or one socket named admin",
            ),
            Self::Port(text) => {
                write!(f, "the environment variable PORT is {text:?}; set it to a port from 0 to 65535")
            }
            Self::Origin(text) => write!(
                f,
                "`origin` {text:?} is not an origin as browsers send it; use scheme and host in lower case, and a \
                 port only if it is not the scheme's default, such as https://example.com, https://*.example.com, \
                 null, or *"
            ),
            Self::MixedOrigins => f.write_str("`origin` * can't be combined with other origins; use one or the other"),
            Self::TrustedProxy(text) => write!(
                f,
                "`trusted_proxy` {text:?} is neither an IP address such as 10.0.0.1, nor a network such as 10.0.0.0/8 \
                 with only zeros after the prefix, nor unix"
            ),
            Self::Body => f.write_str("`max_body` must be at most 1G"),
            Self::Zero(name) => write!(f, "`{name}` must be at least 1"),
            Self::Rate(name) => write!(f, "`{name}` must be at most {MAX_RATE}"),
            Self::NoRate => f.write_str("`publish_burst` requires `publish_rate`; set both"),
            Self::NoTokens(name) => {
                write!(f, "`{name}` counts per token, but with `no_auth` there are no tokens; leave one of the two out")
            }
            Self::Descriptors => {
                f.write_str("the descriptor limit is too low for any connection; raise it (ulimit -n)")
            }
            Self::Engine(error) => write!(f, "`engine` {error}"),
            Self::NoEngine(name) => write!(f, "`{name}` requires `engine`; set both, or neither"),
            Self::NoFeature(feature) => write!(f, "{}", missing_feature(feature)),
            Self::EnginePrefix => f.write_str(
                "`engine_prefix` must be 1 to 64 visible ASCII characters without braces, except for one pair around \
                 all of it",
            ),
            Self::EngineReplicas => write!(f, "`engine_ack` must wait for 1 to {MAX_REPLICAS} replicas"),
            Self::EngineCa => f.write_str(
                "`engine_ca` requires TLS; begin `engine` with rediss:// or rediss+sentinel://, or leave `engine_ca` out",
            ),
            Self::EngineUser => f.write_str(
                "`engine` has a user name, but there is no password; set `engine_password`. A password without a user \
                 name follows a colon: redis://:PASSWORD@HOST",
            ),
            Self::TwoEnginePasswords => f.write_str(
                "there are two passwords for the engine, in the URL of `engine` and in `engine_password`; set only one",
            ),
            Self::EngineBody => f.write_str("`max_body` must be at most 256M with `engine`"),
        }
    }
}

/// Returns what to do without a feature of the library.
fn missing_feature(feature: &str) -> &'static str {
    match feature {
        "tls" => {
            "`engine` asks for TLS, which this build does not support; use a build with the feature tls, or an address that \
             begins with redis:// in a network that you trust"
        }
        _ => "this build does not support `engine`; use a build with the feature engine",
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Secret(_, error) | Self::PreviousSecret(_, error) => Some(error),
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}
