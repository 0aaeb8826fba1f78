//! Configuration. [`Config`] has the values that a program sets; [`Settings`] is the result, with every default filled in and
//! every value checked.

mod access_log;
mod address;
mod engine;
mod settings;
mod settle;
mod tokens;
mod trusted;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::Location;

pub use access_log::AccessLog;
pub use address::{ListenAddress, ParseAddressError};
use engine::EngineConfig;
pub use settings::{Access, ConfigError, KeySource, MAX_ADMIN_CONNECTIONS, MAX_LISTENERS, RoleKey, Settings};
#[cfg(feature = "cli")]
pub use settle::is_service_link;
use tokens::TokenConfig;
pub use trusted::TrustedProxies;

/// The configuration of a broker. Every setting has a default, and a method with the name of the binary's option. Values are
/// checked by [`Broker::start`](crate::Broker::start).
///
/// ```
/// use std::time::Duration;
///
/// let config = esker::Config::new()
///     .publisher_secret("a secret of at least thirty-two bytes")
///     .subscriber_secret("another secret of at least 32 bytes")
///     .in_memory()
///     .port(0)
///     .heartbeat(Duration::from_secs(5))
///     .origin("https://example.com");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    bind: Option<IpAddr>,
    port: Option<u16>,
    listen: Vec<ListenAddress>,
    /// Whether the process inherits sockets to listen on.
    inherits_sockets: bool,
    unix_mode: u32,
    admin: Option<ListenAddress>,
    threads: Option<usize>,
    no_auth: bool,
    console: bool,
    tokens: TokenConfig,
    /// `None` if it was not set.
    data: Option<Location>,
    latest_bytes: usize,
    versions: Option<u64>,
    versions_age: Option<Duration>,
    engine: EngineConfig,
    origins: Vec<String>,
    history: usize,
    history_age: Duration,
    history_bytes: usize,
    heartbeat: Duration,
    retry: Duration,
    stall: Duration,
    request_timeout: Duration,
    max_stream_age: Option<Duration>,
    drain: Duration,
    keep_alive: Duration,
    max_body: usize,
    max_topics: usize,
    max_subscribers: Option<usize>,
    max_subscribers_per_sub: Option<usize>,
    max_connections: Option<usize>,
    max_connections_per_ip: Option<usize>,
    trusted_proxies: Vec<String>,
    publish_rate: Option<usize>,
    publish_burst: Option<usize>,
    access_log: Option<AccessLog>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: None,
            port: None,
            listen: Vec::new(),
            inherits_sockets: false,
            unix_mode: 0o660,
            admin: None,
            threads: None,
            no_auth: false,
            console: true,
            tokens: TokenConfig::default(),
            data: None,
            latest_bytes: 1 << 30,
            versions: None,
            versions_age: None,
            engine: EngineConfig::default(),
            origins: Vec::new(),
            history: 256,
            history_age: Duration::from_secs(600),
            history_bytes: 256 << 20,
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(3),
            stall: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            max_stream_age: None,
            drain: Duration::ZERO,
            keep_alive: Duration::from_secs(650),
            max_body: 1 << 20,
            max_topics: 1_000_000,
            max_subscribers: None,
            max_subscribers_per_sub: None,
            max_connections: None,
            max_connections_per_ip: None,
            trusted_proxies: Vec::new(),
            publish_rate: None,
            publish_burst: None,
            access_log: None,
        }
    }
}

impl Config {
    /// Creates a configuration with the default of every setting. It does not read the environment, but
    /// [`Broker::start`](crate::Broker::start) reads `PORT` if no [port](Config::port) is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the IP address to listen on. Default: 127.0.0.1.
    #[must_use]
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// Sets the port to listen on; 0 for any free one. Default: the environment variable `PORT`, unless it is a container
    /// platform's `tcp://…`; otherwise 3000. A `PORT` that is not a port is a [`ConfigError::Port`].
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds an address to listen on, 32 at most. Repeatable. If neither [`bind`](Config::bind) nor [`port`](Config::port) is
    /// set, the broker listens only on these.
    #[must_use]
    pub fn listen(mut self, address: impl Into<ListenAddress>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Declares that the process inherits sockets to listen on, so that no default address is needed.
    pub(crate) fn inherit_sockets(mut self) -> Self {
        self.inherits_sockets = true;
        self
    }

    /// Sets the permissions of the files of Unix sockets; connecting requires write permission. Default: 0o660.
    #[must_use]
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.unix_mode = mode;
        self
    }

    /// Moves `/metrics`, `/stats`, `/topics`, `/healthz` and `/livez` to an address of their own, where nothing else is served.
    /// Default: none; they are served with everything else.
    #[must_use]
    pub fn admin(mut self, address: impl Into<ListenAddress>) -> Self {
        self.admin = Some(address.into());
        self
    }

    /// Sets the number of worker threads, 1 to 1024. Default: the number of processor cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Lets everybody publish and subscribe without a token, even if there are keys. Default: false.
    #[must_use]
    pub fn no_auth(mut self, no_auth: bool) -> Self {
        self.no_auth = no_auth;
        self
    }

    /// Leaves out the console at `GET /`. Default: false.
    #[must_use]
    pub fn no_console(mut self, no_console: bool) -> Self {
        self.console = !no_console;
        self
    }

    /// Sets the directory that stores the records and, while no broker runs, the history of topics; it is created if it is
    /// missing. `:memory:` has the effect of [`in_memory`](Config::in_memory). Default: `esker-data` in the current directory.
    /// Has no effect with an [`engine`](Config::engine), which then stores both.
    #[cfg(feature = "records")]
    #[must_use]
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let is_memory = directory.as_os_str() == ":memory:";
        self.data = Some(if is_memory { Location::Memory } else { Location::Directory(directory) });
        self
    }

    /// Stores records and history in memory only: they are lost when the broker stops.
    #[cfg(feature = "records")]
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.data = Some(Location::Memory);
        self
    }

    /// Sets the bytes of memory for the newest record of every name; inserts beyond it are refused. Default: 1 GiB.
    #[cfg(feature = "records")]
    #[must_use]
    pub fn latest_bytes(mut self, bytes: usize) -> Self {
        self.latest_bytes = bytes;
        self
    }

    /// Sets how many versions of each record name are kept, at least 1; older ones are removed for good, a moment after newer
    /// ones were stored. Default: all.
    #[cfg(any(feature = "records", feature = "engine"))]
    #[must_use]
    pub fn versions(mut self, versions: u64) -> Self {
        self.versions = Some(versions);
        self
    }

    /// Sets the age at which versions of records are removed for good; the newest version of each name always stays. Default:
    /// unlimited.
    #[cfg(any(feature = "records", feature = "engine"))]
    #[must_use]
    pub fn versions_age(mut self, age: Duration) -> Self {
        self.versions_age = Some(age);
        self
    }

    /// Adds an origin whose pages may read responses, and may write if authentication is off. Repeatable. Also accepts
    /// `https://*.example.com` for all subdomains, `null` for sandboxed pages, and `*` alone for every origin.
    ///
    /// Default: `*`; without authentication, the origins of this machine (such as `http://localhost`). A broker without
    /// authentication that listens only on loopback addresses then refuses requests for other hosts.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Sets the number of events that each topic retains. Default: 256.
    #[must_use]
    pub fn history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// Sets the age at which events are evicted from history. Default: 10 minutes.
    #[must_use]
    pub fn history_age(mut self, age: Duration) -> Self {
        self.history_age = age;
        self
    }

    /// Sets the bytes of memory for the history of all topics together. Default: 256 MiB.
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Sets how long a stream may be silent before it gets a comment line, 10 ms to 24 h. Default: 15 s.
    #[must_use]
    pub fn heartbeat(mut self, silence: Duration) -> Self {
        self.heartbeat = silence;
        self
    }

    /// Sets the reconnection time that clients receive, varied at random by up to a third. Default: 3 s.
    #[must_use]
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long a stream's socket may accept no byte before the connection is closed, 10 ms to 24 h. Also closes
    /// connections that accept a response more slowly than 8 KiB/s. Default: 60 s.
    #[must_use]
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// Sets the age at which a stream ends, at least 1 s. Each stream ends after 80 to 100 % of it, chosen at random; its client
    /// reconnects and resumes. So clients spread over brokers that were added. Default: unlimited.
    #[must_use]
    pub fn max_stream_age(mut self, age: Duration) -> Self {
        self.max_stream_age = Some(age);
        self
    }

    /// Sets the time over which streams end when the broker stops, at most 1 h, so that their clients don't all reconnect at
    /// once. [`Broker::shutdown`](crate::Broker::shutdown) takes as much longer. Default: 0 s.
    #[must_use]
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Sets the time limit for a request's head, 10 ms to 24 h. A body may stall for three times as long. Default: 10 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how long an idle connection is kept for its next request, 10 ms to 24 h. It should be longer than proxies keep
    /// theirs, so that no proxy sends a request to a connection that is being closed. Default: 650 s.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// Sets the largest size of a request body in bytes, at most 1 GiB. Default: 1 MiB.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets the largest number of topics that retain an event or have a subscriber. Default: 1 000 000.
    #[must_use]
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// Sets the largest number of subscribers over HTTP. Default: 64 fewer than connections, or three quarters of them.
    #[must_use]
    pub fn max_subscribers(mut self, subscribers: usize) -> Self {
        self.max_subscribers = Some(subscribers);
        self
    }

    /// Sets the largest number of subscribers whose tokens have the same `sub` claim; tokens without one don't count. Requires
    /// authentication. Default: unlimited.
    #[must_use]
    pub fn max_subscribers_per_sub(mut self, subscribers: usize) -> Self {
        self.max_subscribers_per_sub = Some(subscribers);
        self
    }

    /// Sets the largest number of connections. Default and upper bound: what the descriptor limit allows.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Sets the largest number of connections from one IP address, and of streams that [trusted
    /// proxies](Config::trusted_proxy) forward for one. Default: unlimited.
    #[must_use]
    pub fn max_connections_per_ip(mut self, connections: usize) -> Self {
        self.max_connections_per_ip = Some(connections);
        self
    }

    /// Sets how many events per second may be published and inserted over HTTP with the tokens of one `sub` claim, or with one
    /// token that has none; 1 to 1 000 000. Requires authentication. Default: unlimited.
    #[must_use]
    pub fn publish_rate(mut self, events: usize) -> Self {
        self.publish_rate = Some(events);
        self
    }

    /// Sets how many events may be published at once after a pause, 1 to 1 000 000. Requires
    /// [`publish_rate`](Config::publish_rate). Default: ten seconds' worth.
    #[must_use]
    pub fn publish_burst(mut self, events: usize) -> Self {
        self.publish_burst = Some(events);
        self
    }
}
