//! What holds, and why it can't.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::ListenAddress;
use crate::auth::{KeyError, Role, Secret};
use crate::http::Origins;
use crate::quota::Rate;
use crate::store::Location;

/// Addresses to listen on: each has a token of the first worker's poll.
pub const MAX_LISTENERS: usize = 32;
/// Open connections to the administration's address. They are beside [`Settings::max_connections`], so that a full broker
/// still says how it is.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The largest rate and burst of events.
pub const MAX_RATE: usize = 1_000_000;

/// A configuration with every default filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses to listen on, beside sockets that come from elsewhere.
    pub listen: Vec<ListenAddress>,
    /// The mode of Unix sockets.
    pub unix_mode: u32,
    /// The address of the administration's routes, if they have one of their own.
    pub admin: Option<ListenAddress>,
    /// Worker threads.
    pub threads: usize,
    /// Who is let in.
    pub access: Access,
    /// Whether `GET /` has the console.
    pub console: bool,
    /// Where records are kept.
    pub data: Location,
    /// Bytes of the newest record of every name.
    pub latest_bytes: usize,
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
    /// Time after which a stream whose socket takes no byte is closed, and a connection that takes an answer too slowly.
    pub stall: Duration,
    /// Time that a request's head may take, and a body that is dropped.
    pub request_timeout: Duration,
    /// Time that a connection is kept for its next request.
    pub keep_alive: Duration,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Topics that retain an event or have a listener.
    pub max_topics: usize,
    /// Subscribers.
    pub max_subscribers: usize,
    /// Subscribers whose tokens have the same `sub`.
    pub max_subscribers_per_sub: Option<usize>,
    /// Connections.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: Option<usize>,
    /// Events of one publisher.
    pub publish_rate: Option<Rate>,
}

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Everybody,
    /// Who shows a token that these verify.
    Tokens {
        /// For publishers.
        publisher: KeySource,
        /// For subscribers.
        subscriber: KeySource,
    },
}

/// Where a role's key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// An HMAC secret.
    Secret(Secret),
    /// A public key in PEM.
    File(PathBuf),
}

/// Why a broker can't start as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Authentication is on and there are no keys.
    NoKeys,
    /// Authentication is on and this role has no key.
    NoKey(Role),
    /// This role has a secret and a key file.
    TwoKeys(Role),
    /// This role's secret can't be used.
    Secret(Role, KeyError),
    /// Not 1 to 1024 threads.
    Threads,
    /// This duration is not between 10 ms and a day.
    Duration(&'static str),
    /// More addresses to listen on than there may be.
    Addresses,
    /// More than one address for the administration.
    Administrations,
    /// The environment's `PORT` is no port.
    Port(String),
    /// No origin such as a browser sends.
    Origin(String),
    /// Every origin and single ones.
    MixedOrigins,
    /// A body could be larger than an event may be.
    Body,
    /// With none of these the broker could not be used.
    Zero(&'static str),
    /// More events per second, or at once, than there is any use in.
    Rate(&'static str),
    /// There is no rate for this burst.
    NoRate,
    /// This counts by token, and nobody is asked for one.
    NoTokens(&'static str),
    /// The descriptor limit leaves no connection.
    Descriptors,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKeys => f.write_str(
                "authentication is on, but there are no keys; set ESKER_PUBLISHER_SECRET and \
                 ESKER_SUBSCRIBER_SECRET (at least 32 bytes each, for example from `openssl rand -base64 48`) or \
                 use --publisher-key and --subscriber-key to verify tokens, or start with --no-auth to let \
                 everybody publish and subscribe",
            ),
            Self::NoKey(role) => write!(
                f,
                "authentication is on, but the {role} key is missing; set {} or use {}, or start with --no-auth to \
                 let everybody publish and subscribe",
                role.secret_variable(),
                role.key_option()
            ),
            Self::TwoKeys(role) => {
                write!(
                    f,
                    "there are two {role} keys, {} and {}; set only one",
                    role.secret_variable(),
                    role.key_option()
                )
            }
            Self::Secret(role, error) => write!(f, "{} {error}", role.secret_variable()),
            Self::Threads => f.write_str("--threads must be between 1 and 1024"),
            Self::Duration(name) => write!(f, "--{name} must be between 10ms and 24h"),
            Self::Addresses => write!(
                f,
                "a broker listens on at most {MAX_LISTENERS} addresses; use fewer --listen options or pass fewer \
                 sockets"
            ),
            Self::Administrations => f.write_str(
                "there are several addresses for administration; use either --admin or one socket named admin",
            ),
            Self::Port(text) => {
                write!(f, "the environment variable PORT is {text:?}; set it to a port from 0 to 65535")
            }
            Self::Origin(text) => write!(
                f,
                "--origin {text:?} is not an origin as browsers send it; use scheme and host in lower case, and a \
                 port only if it is not the scheme's default, such as https://example.com, https://*.example.com, \
                 null, or *"
            ),
            Self::MixedOrigins => f.write_str("--origin * can't be combined with other origins; use one or the other"),
            Self::Body => f.write_str("--max-body must be at most 1G"),
            Self::Zero(name) => write!(f, "--{name} must be at least 1"),
            Self::Rate(name) => write!(f, "--{name} must be at most {MAX_RATE}"),
            Self::NoRate => f.write_str("--publish-burst requires --publish-rate; set both"),
            Self::NoTokens(name) => {
                write!(f, "--{name} counts per token, but with --no-auth there are no tokens; leave one of the two out")
            }
            Self::Descriptors => {
                f.write_str("the descriptor limit is too low for any connection; raise it (ulimit -n)")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
